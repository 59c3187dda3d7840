package identity_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/sluice-cd/sluice/cells/identity"
)

func key(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// A next key counts only from somebody who has it, for this cell, after this key.
func TestNextKey(t *testing.T) {
	t.Parallel()
	old, next, other := key(t), key(t), key(t)
	text := func(k ed25519.PrivateKey) string { return identity.FormatKey(public(k)) }
	good := identity.NewNextKey(next, "acme", public(old))
	if err := good.Verify("acme", text(old)); err != nil || good.Key != text(next) {
		t.Fatalf("%s, %v", good.Key, err)
	}
	for name, c := range map[string]struct {
		next      identity.Next
		cell, old string
	}{
		"another cell":      {good, "globex", text(old)},
		"after another key": {good, "acme", text(other)},
		"somebody's key":    {identity.Next{Key: text(other), Signature: good.Signature}, "acme", text(old)},
		"signed by the old": {identity.Next{Key: text(next),
			Signature: identity.NewNextKey(old, "acme", public(old)).Signature}, "acme", text(old)},
		"no signature":     {identity.Next{Key: text(next)}, "acme", text(old)},
		"half a signature": {identity.Next{Key: text(next), Signature: good.Signature[:40]}, "acme", text(old)},
	} {
		if err := c.next.Verify(c.cell, c.old); !errors.Is(err, identity.ErrNextKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (identity.Next{Key: "ed25519:AAAA", Signature: good.Signature}).Verify("acme", text(old)); err == nil {
		t.Error("half a key was taken")
	}
}
