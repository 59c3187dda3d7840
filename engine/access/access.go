// Package access is who may do what at the control plane: roles, operators, and the one-time tokens of cells.
//
// It holds values and pure functions. The control plane asks Role.May at one place, for every request; the store keeps
// operators and tokens by the hash of their secrets, never the secrets.
package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is what an operator's token allows.
type Role string

// Every role may read. Operator acts on cells and rollouts, Approver on approvals, Admin on everything, tokens included.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Approver Role = "approver"
	Admin    Role = "admin"
)

// Roles are all there are, the least first.
func Roles() []Role { return []Role{Viewer, Operator, Approver, Admin} }

// ParseRole reads a role's name.
func ParseRole(text string) (Role, error) {
	if r := Role(text); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("there is no role %.80q: give viewer, operator, approver or admin", text)
}

// May tells whether r may do what needs need.
func (r Role) May(need Role) bool {
	return slices.Contains(Roles(), r) && (r == need || r == Admin || need == Viewer)
}

// Token is an operator's bearer token as it is kept.
type Token struct {
	Name    string    `json:"name"` // of the person or program; unique
	Role    Role      `json:"role"`
	Hash    string    `json:"-"` // identity.HashSecret of what is shown once
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// Good tells whether the token counts at now.
func (t Token) Good(now time.Time) bool { return t.Expires.IsZero() || now.Before(t.Expires) }

// Join is a one-time token of a cell as it is kept.
type Join struct {
	Cell    string    `json:"cell"`
	Hash    string    `json:"-"`
	Serial  int64     `json:"serial"` // the cell's identity when it was made: void once that has changed, also in a restored store (R26)
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// JoinFor is how long a cell's token is good.
const JoinFor = time.Hour

// ErrUnknown: no token has this hash or name.
var ErrUnknown = errors.New("there is no such token")

// ErrTaken: there is a token of this name, or of this secret.
var ErrTaken = errors.New("there is a token of that name already: remove it first, or give another name")

// Entry is one line of the access audit: who did what, from where.
type Entry struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`  // a token's name, a cell, or how somebody without one was let in
	What string    `json:"what"` // in words, with what it was done to
	From string    `json:"from"` // the peer's address
}

// MaxEntries is how many lines of the audit are kept, the newest.
const MaxEntries = 10_000

// Bearer takes the secret out of an Authorization header (RFC 6750); empty: there is none.
func Bearer(header string) string {
	scheme, secret, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
