package identity

import (
	"crypto/ed25519"
	"errors"
)

// Join is the body of POST /v1/register. The connection proves the key to be registered.
type Join struct {
	Cell   string `json:"cell" doc:"as in the token"`
	Secret string `json:"secret" doc:"as in the token"`
}

// Joined is the response to Join. The same key gets it again with the same token (R28).
type Joined struct {
	Cell  string   `json:"cell"`
	Epoch int64    `json:"epoch" doc:"of the cell's assignments"`
	Pins  []string `json:"pins" doc:"of the control plane's keys; a cell keeps those of its token, and takes others only signed"`

	// Where the order of assignments and flags begins: the cell refuses numbers that are far beyond these.
	Sequence int64 `json:"sequence,omitempty" doc:"of the head of the cell's channel"`
	Height   int64 `json:"height,omitempty" doc:"of the flags"`
}

// Next is the body of POST /v1/key: a cell's next key, presented over a connection of the current key.
type Next struct {
	Key       string `json:"key" doc:"ed25519:BASE64"`
	Signature []byte `json:"signature" doc:"by the next key, as proof of possession"`
}

// NewNextKey returns a Next that next signs for itself, for this cell and as the successor of old only.
func NewNextKey(next ed25519.PrivateKey, cell string, old ed25519.PublicKey) Next {
	key := FormatKey(next.Public().(ed25519.PublicKey))
	return Next{Key: key, Signature: ed25519.Sign(next, nextKeyMessage(cell, FormatKey(old), key))}
}

// ErrNextKey says that whoever presents a key has not proved to hold it.
var ErrNextKey = errors.New("the next key's signature is not valid: " +
	"sign the cell's name, the current key and the next key with the next key")

// Verify verifies the signature for the cell and its current key, formatted by FormatKey.
func (n Next) Verify(cell, old string) error {
	key, err := ParseKey(n.Key)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, nextKeyMessage(cell, old, n.Key), n.Signature) {
		return ErrNextKey
	}
	return nil
}

// nextKeyMessage returns the signed text. Neither a name nor a key contains a newline.
func nextKeyMessage(cell, old, next string) []byte {
	return []byte("sluice next key 1\n" + cell + "\n" + old + "\n" + next + "\n")
}
