// Package access defines who may do what at the control plane: roles, who has them, operators' tokens, and the one-time
// tokens of cells.
//
// Roles are a set: whoever has several may do what any of them permits. A set holds everywhere, or for a channel (see
// Grants). An operator's token has its roles with it; people who sign in and workloads have those that access in
// sluice.yaml gives them at the time of the request (GrantsOf), so that git has their history.
//
// The package holds values and pure functions, does no I/O, and never holds a secret: the store keeps operators and
// tokens by the hash of their secrets. The control plane checks every request with Grants.Permits in one place. All
// functions may be called at once.
package access

import (
	"errors"
	"strings"
	"time"
)

// Token is an operator's bearer token, as it is stored.
type Token struct {
	Name    string    `json:"name"` // name of the person or program; unique
	Roles   Roles     `json:"roles"`
	Hash    string    `json:"-"` // identity.HashSecret of the secret, which is shown only once
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// IsValid reports whether the token is valid at now.
func (t Token) IsValid(now time.Time) bool { return t.Expires.IsZero() || now.Before(t.Expires) }

// DescribeRoles returns the token's roles in words.
func (t Token) DescribeRoles() string {
	if len(t.Roles) == 1 {
		return "the role " + t.Roles.String()
	}
	return "the roles " + t.Roles.String()
}

// Join is a one-time token of a cell, as it is stored.
type Join struct {
	Cell string `json:"cell"`
	Hash string `json:"-"`
	// Serial of the cell's identity when the token was made. The token is void once that serial has changed, even in a
	// restored store (R26).
	Serial  int64     `json:"serial"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// SessionPrefix begins the secret of every session, so that a bearer of one is told from an operator's token, and
// secret scanners find it.
const SessionPrefix = "sluice_session_"

// JoinLifetime is for how long a cell's token is valid.
const JoinLifetime = time.Hour

// ErrUnknown means that no token has this hash or name.
var ErrUnknown = errors.New("there is no such token")

// ErrTaken means that there is a token of this name or of this secret already.
var ErrTaken = errors.New("there is a token of that name already: remove it first, or give another name")

// Entry is one line of the access audit: who did what, from where.
type Entry struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`  // a token's name, a cell, or how a caller without a token was let in
	What string    `json:"what"` // in words: what was done, and to what
	From string    `json:"from"` // the peer's address
}

// BearerSecret returns the secret of an Authorization header (RFC 6750); empty: there is none.
func BearerSecret(header string) string {
	scheme, secret, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
