// Package identity defines how a cell and its control plane recognise each other: keys, pins and one-time tokens.
//
// A cell is its Ed25519 key; a control plane is a set of pins, SHA-256 of public keys (R29). There is no certificate
// authority: both sides present a certificate that they signed themselves, and only its key counts. The package holds
// values and pure functions, which several goroutines may call at once. It stores nothing, opens no connections and
// logs nothing; randomness and time are passed in.
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

// FormatKey formats a cell's public key as in identity.yaml: ed25519:BASE64.
func FormatKey(key ed25519.PublicKey) string {
	return keyPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseKey parses the output of FormatKey.
func ParseKey(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.80q is not a public key: a public key is ed25519: and 44 characters of base64", text)
	}
	return raw, nil
}

// CertificatePin returns the pin of a certificate's public key: sha256:HEX over its SubjectPublicKeyInfo.
func CertificatePin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// KeyPin returns the pin of a public key.
func KeyPin(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("pin a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// ErrPinMismatch says that the peer's key is not one of the pins.
var ErrPinMismatch = errors.New("the peer's key is not among the pinned keys: " +
	"this is another control plane, or somebody intercepts the connection")

// MatchPins checks a peer's chain against pins: either the peer's own key is pinned, or the key of a certificate of the
// chain that vouches for the peer's (R29). Names and dates are ignored where the peer's own key is pinned.
func MatchPins(pins []string, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return ErrPinMismatch
	}
	if slices.Contains(pins, CertificatePin(chain[0])) {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	for _, c := range chain[1:] {
		if !slices.Contains(pins, CertificatePin(c)) {
			continue
		}
		root := x509.NewCertPool()
		root.AddCert(c)
		options := x509.VerifyOptions{Roots: root, Intermediates: intermediates, CurrentTime: now}
		if _, err := chain[0].Verify(options); err == nil {
			return nil
		}
	}
	return ErrPinMismatch
}

// SelfSignedCertificate returns a certificate that key signs for itself. It may be valid for long: cells and control
// planes check only its key.
func SelfSignedCertificate(random io.Reader, key crypto.Signer, name string, now time.Time) (tls.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
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
