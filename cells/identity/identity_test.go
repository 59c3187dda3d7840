package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

func certificate(t testing.TB, name string, now time.Time) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.SelfSignedCertificate(rand.Reader, k, name, now)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := identity.KeyPin(k.Public())
	if err != nil || pin != identity.CertificatePin(c.Leaf) {
		t.Fatalf("pin of the key %s, of its certificate %s (%v)", pin, identity.CertificatePin(c.Leaf), err)
	}
	return c.Leaf
}

// R29: what is pinned is the key. Names and dates count for nothing, one of several pins is enough, and a key that
// is only in the company of a pinned one is not trusted.
func TestMatch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	active, standby, stranger := certificate(t, "a", now), certificate(t, "b", now), certificate(t, "c", now)
	expired := certificate(t, "old", now.AddDate(-30, 0, 0))
	pins := []string{identity.CertificatePin(active), identity.CertificatePin(standby),
		identity.CertificatePin(expired)}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		good  bool
	}{
		"active":                     {[]*x509.Certificate{active}, true},
		"standby":                    {[]*x509.Certificate{standby}, true},
		"out of date, but its key":   {[]*x509.Certificate{expired}, true},
		"a stranger":                 {[]*x509.Certificate{stranger}, false},
		"a stranger with a pinned":   {[]*x509.Certificate{stranger, active}, false},
		"nobody":                     {nil, false},
		"a pinned with a stranger's": {[]*x509.Certificate{active, stranger}, true},
	} {
		if err := identity.MatchPins(pins, c.chain, now); (err == nil) != c.good || err != nil &&
			!errors.Is(err, identity.ErrPinMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if identity.MatchPins(nil, []*x509.Certificate{active}, now) == nil {
		t.Error("without pins nobody is trusted")
	}
}

// R29: any key of the chain that the certificate verifies under may be the pinned one.
func TestMatchAboveTheLeaf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	signer := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	make509 := func(template, parent *x509.Certificate, k *ecdsa.PrivateKey, by *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, k.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	template := func(ca bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: now.Add(-time.Hour),
			NotAfter: now.Add(time.Hour),
			IsCA:     ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
	}
	rootKey, leafKey := signer(), signer()
	root := make509(template(true), template(true), rootKey, rootKey)
	leaf := make509(template(false), root, leafKey, rootKey)
	pins := []string{identity.CertificatePin(root)}
	if err := identity.MatchPins(pins, []*x509.Certificate{leaf, root}, now); err != nil {
		t.Error(err)
	}
	if identity.MatchPins(pins, []*x509.Certificate{leaf, root}, now.Add(2*time.Hour)) == nil {
		t.Error("a certificate that another key vouches for is out of date, and was taken")
	}
	if identity.MatchPins(pins, []*x509.Certificate{leaf}, now) == nil {
		t.Error("the pinned key is not in the chain")
	}
}

func TestKeysAsText(t *testing.T) {
	t.Parallel()
	k := public(key(t))
	back, err := identity.ParseKey(identity.FormatKey(k))
	if err != nil || !back.Equal(k) {
		t.Fatalf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "ed25519:", "ed25519:AAAA", "rsa:" + identity.FormatKey(k)[8:],
		identity.FormatKey(k) + "=", " " + identity.FormatKey(k)} {
		if _, err := identity.ParseKey(bad); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
	c, err := identity.SelfSignedCertificate(rand.Reader, key(t), "acme", time.Now())
	if err != nil || c.Leaf.PublicKeyAlgorithm != x509.Ed25519 {
		t.Errorf("a cell's certificate: %v", err)
	}
}

// A token travels as one word, and an error about one never repeats it.
func TestToken(t *testing.T) {
	t.Parallel()
	secret, err := identity.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(raw) != 32 {
		t.Errorf("a secret has %d bytes (%v), want 256 bits", len(raw), err)
	}
	want := identity.Token{Cell: "acme", Address: "cells.example:7443", Pins: []string{"sha256:aa", "sha256:bb"},
		Secret: secret}
	word := want.String()
	if strings.ContainsAny(word, " \n\t+/=") {
		t.Errorf("%q is not one word that a shell and a URL take", word)
	}
	got, err := identity.ParseToken("\n" + word + " \n")
	if err != nil || got.Cell != want.Cell || got.Address != want.Address || got.Secret != want.Secret ||
		len(got.Pins) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if h := identity.HashSecret(secret); len(h) != 64 || strings.Contains(word, h) ||
		h == identity.HashSecret(secret+"x") {
		t.Errorf("hash %q", h)
	}
	for name, bad := range map[string]identity.Token{
		"no cell":     {Address: "a:1", Pins: want.Pins, Secret: secret},
		"cell's name": {Cell: "../x", Address: "a:1", Pins: want.Pins, Secret: secret},
		"no address":  {Cell: "acme", Pins: want.Pins, Secret: secret},
		"no pins":     {Cell: "acme", Address: "a:1", Secret: secret},
		"no secret":   {Cell: "acme", Address: "a:1", Pins: want.Pins},
		"its root":    {Cell: "acme", Address: "a:1", Pins: want.Pins, Secret: secret, Root: "sha256:short"},
	} {
		if _, err := identity.ParseToken(bad.String()); !errors.Is(err, identity.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "sluice1.", "sluice2." + word[8:], word[:len(word)-5],
		word + strings.Repeat("A", 5000), "sluice1.e30"} {
		_, err := identity.ParseToken(bad)
		if !errors.Is(err, identity.ErrToken) {
			t.Errorf("%.20q…: %v", bad, err)
		}
		if err != nil && bad != "" && len(bad) > 10 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(identity.Token{Cell: "acme", Address: "a:1", Pins: []string{"sha256:aa"}, Secret: "s"}.String())
	f.Add("sluice1.")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := identity.ParseToken(text)
		if err != nil {
			return
		}
		again, err := identity.ParseToken(got.String())
		if err != nil || again.String() != got.String() {
			t.Errorf("%+v comes back as %+v (%v)", got, again, err)
		}
	})
}
