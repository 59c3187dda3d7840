package debug

import (
	"crypto/ed25519"
	"errors"

	"golang.org/x/crypto/ssh"
)

// HostKey is the SSH host key of a session, vouched for by the cell's identity key. The person's client compares it
// with what git says about the cell, so that a relay between both can't put its own key in that place.
type HostKey struct {
	Key       string `json:"key" doc:"in authorized_keys form without a comment"`
	Signature []byte `json:"signature" doc:"by the cell's identity key"`
}

// NewHostKey vouches for a host key, for one request of one cell.
func NewHostKey(cell string, identity ed25519.PrivateKey, request string, key ssh.PublicKey) HostKey {
	text := formatKey(key)
	return HostKey{Key: text, Signature: ed25519.Sign(identity, hostKeyMessage(cell, request, text))}
}

// Open returns the host key, once the cell's identity key vouches for it.
func (h HostKey) Open(cell string, identity ed25519.PublicKey, request string) (ssh.PublicKey, error) {
	key, err := parseKey(h.Key)
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(identity, hostKeyMessage(cell, request, h.Key), h.Signature) {
		return nil, errors.New("the host key is not vouched for by the key of the cell " + cell +
			" in git: whoever answered may not be the cell")
	}
	return key, nil
}

// Fingerprint returns the fingerprint of a cell's identity key, as ssh-keygen -l prints those of SSH keys. The owner
// tells it to the person, who need not take the release repository's word for the cell's key then.
func Fingerprint(identity ed25519.PublicKey) string {
	key, err := ssh.NewPublicKey(identity)
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(key)
}

// hostKeyMessage returns the signed text. No name, ID or key has a newline.
func hostKeyMessage(cell, request, key string) []byte {
	return []byte("sluice debug host key 1\n" + cell + "\n" + request + "\n" + key + "\n")
}
