// Package identity is who a cell and its control plane are to each other: keys, pins and one-time tokens.
//
// A cell is its Ed25519 key; a control plane is a set of pins, SHA-256 of public keys (R29). There is no authority
// to run: both sides show a certificate that they signed themselves, and only its key is looked at. The package
// holds values and pure functions; it keeps nothing, dials nobody and logs nothing. Randomness and time are passed in.
package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"
)

const keyPrefix = "ed25519:"

// FormatKey writes a cell's public key as identity.yaml has it: ed25519:BASE64.
func FormatKey(key ed25519.PublicKey) string {
	return keyPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseKey reads what FormatKey writes.
func ParseKey(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.80q is no public key: it is written ed25519: and 44 characters of base64", text)
	}
	return raw, nil
}

// Pin is the pin of a certificate's public key: sha256:HEX over its SubjectPublicKeyInfo.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PinOf is the pin of a public key.
func PinOf(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("pin a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// ErrPin: the peer's key is not one of the pins.
var ErrPin = errors.New("the peer's key is none of those that are pinned: this is another control plane, or somebody in between")

// Match holds a peer's chain against pins: its own key, or a key of the chain that its certificate verifies under (R29).
// Names and dates count for nothing where the peer's own key is pinned.
func Match(pins []string, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return ErrPin
	}
	if slices.Contains(pins, Pin(chain[0])) {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, c := range chain[1:] {
		if !slices.Contains(pins, Pin(c)) {
			continue
		}
		root := x509.NewCertPool()
		root.AddCert(c)
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: root, Intermediates: between, CurrentTime: now}); err == nil {
			return nil
		}
	}
	return ErrPin
}

// Certificate is a certificate that key signs for itself. Cells and control planes look at its key only, so that it
// may say that it is good for long.
func Certificate(random io.Reader, key crypto.Signer, name string, now time.Time) (tls.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %s: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
