// Package debugtest makes people's SSH keys, and requests for debug access that such keys signed, for tests. It does no
// I/O. All functions may be called at once.
package debugtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/debug"
)

// NewSigner returns a person's SSH key.
func NewSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// NewRequest returns a request that a key signed: ada's, for an hour of the declared commands of the cell acme, made
// now and valid for an hour. No other request has its ID. change changes the request before it is signed; nil: no
// change.
func NewRequest(t testing.TB, by ssh.Signer, change func(*debug.Request)) debug.SignedRequest {
	t.Helper()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	now := time.Now()
	r := debug.Request{Cell: "acme", Case: "4711", Reason: "it hangs", Person: "ada", Scope: debug.Read,
		For: time.Hour, Nonce: hex.EncodeToString(nonce), Made: now, Expires: now.Add(time.Hour)}
	if change != nil {
		change(&r)
	}
	s, err := debug.Sign(r, by)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
