package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// Token lets one agent register as one cell, once. It holds all that the agent needs to find and recognise its control
// plane.
type Token struct {
	Cell    string   `json:"cell"`
	Address string   `json:"address"` // HOST:PORT of the cells' listener
	Pins    []string `json:"pins"`    // of the control plane's keys: active and standby
	Secret  string   `json:"secret"`  // 256 bits, base64url
	// Root is the SHA-256 of the release signers' root, sha256:…; empty: the cell's releases are unsigned.
	Root string `json:"root,omitempty"`
}

const (
	tokenPrefix = "sluice1."
	maxToken    = 4 << 10 // bytes
	secretBytes = 32
)

// NewSecret returns a random secret of 256 bits for a token.
func NewSecret(random io.Reader) (string, error) {
	raw := make([]byte, secretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// HashSecret returns the SHA-256 of a secret in hex, by which it is stored and looked up. A secret has 256 bits of
// randomness, so no slow hash is needed.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// String returns the token as one word, to be handed over.
func (t Token) String() string {
	data, err := json.Marshal(t)
	if err != nil {
		return "" // strings always encode
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(data)
}

// ErrToken says that a text is no token. It does not repeat the text, which may be a secret.
var ErrToken = errors.New("this is not a token: a token begins with " + tokenPrefix +
	"; copy all of what sluice cell add printed")

// ParseToken parses the output of String.
func ParseToken(text string) (Token, error) {
	var t Token
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(rest) > maxToken {
		return t, ErrToken
	}
	data, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || json.Unmarshal(data, &t) != nil {
		return Token{}, ErrToken
	}
	if !cells.ValidName(t.Cell) || t.Address == "" || len(t.Pins) == 0 || t.Secret == "" {
		return Token{}, ErrToken
	}
	if _, err := releases.ParseDigest(t.Root); t.Root != "" && err != nil {
		return Token{}, fmt.Errorf("%w; the root of trust in it: %w", ErrToken, err)
	}
	return t, nil
}
