package enginetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/sluice-cd/sluice/channels/passkey"
)

// Authenticator makes assertions, as a security key and a browser do together.
type Authenticator struct {
	Origin  string // of the page that asks
	Counter uint32 // of the last assertion
	Flags   byte   // of the next assertions: the user was there, and was verified
	id      string
	key     *ecdsa.PrivateKey
}

// NewAuthenticator returns an authenticator with one passkey, for the pages of an origin.
func NewAuthenticator(t testing.TB, id, origin string) *Authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{Origin: origin, Flags: 0x05, id: base64.RawURLEncoding.EncodeToString([]byte(id)), key: key}
}

// Key returns the passkey as sluice.yaml lists it.
func (a *Authenticator) Key(t testing.TB) passkey.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return passkey.Key{ID: a.id, PublicKey: base64.StdEncoding.EncodeToString(der), Origin: a.Origin}
}

// Sign returns an assertion over a challenge.
func (a *Authenticator) Sign(t testing.TB, challenge []byte, nonce string) passkey.Assertion {
	t.Helper()
	a.Counter++
	encode := base64.RawURLEncoding.EncodeToString
	client, err := json.Marshal(map[string]any{"type": "webauthn.get", "origin": a.Origin,
		"challenge": encode(challenge)})
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(a.Origin)
	if err != nil {
		t.Fatal(err)
	}
	rp, hash := sha256.Sum256([]byte(at.Hostname())), sha256.Sum256(client)
	data := binary.BigEndian.AppendUint32(append(rp[:], a.Flags), a.Counter)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return passkey.Assertion{ID: a.id, Nonce: nonce, ClientData: encode(client), AuthenticatorData: encode(data),
		Signature: encode(signature)}
}
