// Package passkey verifies approvals that people made with a passkey: WebAuthn assertions (W3C Web Authentication,
// Level 3) over the channel, the release and its digest.
//
// An assertion is verified like a signature, offline, by whoever reads the repository: the passkeys are in sluice.yaml,
// the assertion is in the approval's file, and what was signed follows from the file's place and content. No server
// takes part. What one assertion can't show, whether it was used before and whether the authenticator was copied, the
// history shows (Log). The package has no registration: a browser exports a passkey's public key in the form that is
// read here (getPublicKey), so that neither CBOR nor attestation is needed.
//
// The package is pure, and everything in it may be called at once.
package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
)

// Key is a passkey of a person, in sluice.yaml.
type Key struct {
	ID        string `yaml:"id" json:"id" required:"true" doc:"the credential's id, base64url"`
	PublicKey string `yaml:"publicKey" json:"publicKey" required:"true" doc:"what getPublicKey() returned when the passkey was made, base64: ES256 or Ed25519"`
	Origin    string `yaml:"origin" json:"origin" required:"true" doc:"of the page that may ask for it, such as https://sluice.example.com:7600; its host is the RP ID"`
}

// Assertion is an approval's WebAuthn assertion, each part in base64url.
type Assertion struct {
	ID                string `yaml:"id" json:"id" required:"true" doc:"the credential's id"`
	Nonce             string `yaml:"nonce" json:"nonce,omitempty" doc:"tells an approval from an earlier one of the same bytes that was withdrawn"`
	ClientData        string `yaml:"clientDataJSON" json:"clientDataJSON" required:"true"`
	AuthenticatorData string `yaml:"authenticatorData" json:"authenticatorData" required:"true"`
	Signature         string `yaml:"signature" json:"signature" required:"true"`
}

// Statement is what a person approves.
type Statement struct{ Channel, Version, Digest, Nonce string }

// Challenge returns the challenge that an assertion must have: the SHA-256 of the statement's lines.
func (s Statement) Challenge() []byte {
	lines := []string{"sluice approve/1", s.Channel, s.Version, s.Digest}
	if s.Nonce != "" {
		lines = append(lines, s.Nonce)
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n") + "\n"))
	return sum[:]
}

// Limits, in bytes of a part's text.
const (
	maxID    = 1400 // 1023 bytes
	maxPart  = 8192
	maxNonce = 64
)

// Flags of authenticator data (section 6.1).
const (
	userPresent  = 1 << 0
	userVerified = 1 << 2
	attested     = 1 << 6
)

// authenticatorData is at least: the RP ID's hash, flags, the counter.
const minAuthenticatorData = 32 + 1 + 4

// Validate returns what is wrong with the key.
func (k Key) Validate() error {
	if _, err := decode("id", k.ID, maxID); err != nil {
		return err
	}
	if _, err := k.publicKey(); err != nil {
		return err
	}
	_, err := k.rpID()
	return err
}

// Same reports whether two keys have the same id or the same public key, in whatever writing.
func (k Key) Same(other Key) bool {
	same := func(a, b string) bool {
		x, err := decode("", a, maxPart)
		y, otherErr := decode("", b, maxPart)
		return err == nil && otherErr == nil && bytes.Equal(x, y)
	}
	return same(k.ID, other.ID) || same(k.PublicKey, other.PublicKey)
}

// publicKey returns an *ecdsa.PublicKey on P-256 or an ed25519.PublicKey.
func (k Key) publicKey() (any, error) {
	der, err := decode("publicKey", k.PublicKey, maxPart)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	case ed25519.PublicKey:
		return key, nil
	}
	if err != nil {
		return nil, errors.New("publicKey is no SubjectPublicKeyInfo: take what getPublicKey() returns")
	}
	return nil, errors.New("publicKey is for another algorithm: make the passkey with ES256 (-7) or EdDSA (-8)")
}

// rpID returns the host of the origin.
func (k Key) rpID() (string, error) {
	u, err := url.Parse(k.Origin)
	if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && u.Hostname() == "localhost") || u.Host == "" ||
		u.Scheme+"://"+u.Host != k.Origin || k.Origin != strings.ToLower(k.Origin) {
		return "", fmt.Errorf("origin %.100q is not https://HOST or https://HOST:PORT, in lower case and without a path",
			k.Origin)
	}
	return u.Hostname(), nil
}

// decode decodes base64url or base64, with or without padding.
func decode(name, text string, most int) ([]byte, error) {
	plain := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawURLEncoding.Strict().DecodeString(plain)
	if err != nil || len(text) > most || len(data) == 0 {
		return nil, fmt.Errorf("%s is no base64url of at most %d bytes", name, most)
	}
	return data, nil
}

// Verified is what a good assertion shows.
type Verified struct {
	Credential string // the credential's id, in one writing
	Counter    uint32 // of the authenticator's signatures; 0: it has none
	Signed     string // hash of what was signed, by which the same assertion is known in any writing
}

// ErrOther means that an assertion was made with another passkey.
var ErrOther = errors.New("it was made with another passkey")

// Verify verifies an assertion of this passkey over a statement (section 7.2, without the steps that concern sessions
// and attestation). The user must have been verified, by a PIN or by biometrics.
func (k Key) Verify(a Assertion, s Statement) (v Verified, err error) {
	id, err := decode("id", a.ID, maxID)
	if err != nil {
		return v, err
	}
	if own, err := decode("id", k.ID, maxID); err != nil || !bytes.Equal(id, own) {
		return v, ErrOther
	}
	if len(a.Nonce) > maxNonce || strings.ContainsAny(a.Nonce, "\r\n") || s.Nonce != a.Nonce {
		return v, fmt.Errorf("the nonce is longer than %d bytes, or has several lines", maxNonce)
	}
	clientData, err := decode("clientDataJSON", a.ClientData, maxPart)
	if err != nil {
		return v, err
	}
	if err := k.checkClientData(clientData, s); err != nil {
		return v, err
	}
	data, err := decode("authenticatorData", a.AuthenticatorData, maxPart)
	if err != nil {
		return v, err
	}
	if err := k.checkAuthenticatorData(data); err != nil {
		return v, err
	}
	signature, err := decode("signature", a.Signature, maxPart)
	if err != nil {
		return v, err
	}
	hash := sha256.Sum256(clientData)
	if err := k.checkSignature(append(bytes.Clone(data), hash[:]...), signature); err != nil {
		return v, err
	}
	signed := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	return Verified{Credential: base64.RawURLEncoding.EncodeToString(id), Counter: binary.BigEndian.Uint32(data[33:37]),
		Signed: base64.RawURLEncoding.EncodeToString(signed[:])}, nil
}

// checkClientData checks what the browser says that it asked for.
func (k Key) checkClientData(data []byte, s Statement) error {
	var c struct {
		Type        string  `json:"type"`
		Challenge   string  `json:"challenge"`
		Origin      string  `json:"origin"`
		CrossOrigin bool    `json:"crossOrigin"`
		TopOrigin   *string `json:"topOrigin"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return errors.New("clientDataJSON is no JSON")
	}
	challenge, err := decode("challenge", c.Challenge, maxPart)
	switch {
	case c.Type != "webauthn.get":
		return fmt.Errorf("it is no assertion: its type is %.40q", c.Type)
	case err != nil || subtle.ConstantTimeCompare(challenge, s.Challenge()) != 1:
		return errors.New("it approves something else: another channel, release or digest")
	case c.Origin != k.Origin:
		return fmt.Errorf("the page of another origin asked for it: %.100q", c.Origin)
	case c.CrossOrigin || c.TopOrigin != nil:
		return errors.New("a page within another page asked for it")
	}
	return nil
}

// checkAuthenticatorData checks for whom the authenticator signed, and that it verified the user.
func (k Key) checkAuthenticatorData(data []byte) error {
	if len(data) < minAuthenticatorData {
		return errors.New("authenticatorData is too short")
	}
	rp, err := k.rpID()
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(rp))
	switch flags := data[32]; {
	case !bytes.Equal(data[:32], hash[:]):
		return errors.New("the authenticator signed for another host")
	case flags&userPresent == 0:
		return errors.New("nobody touched the authenticator")
	case flags&userVerified == 0:
		return errors.New("the authenticator did not verify the user: ask with userVerification: required")
	case flags&attested != 0:
		return errors.New("authenticatorData is of a registration")
	}
	return nil
}

func (k Key) checkSignature(message, signature []byte) error {
	key, err := k.publicKey()
	if err != nil {
		return err
	}
	good := false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		good = ecdsa.VerifyASN1(key, digest[:], signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(key, message, signature)
	}
	if !good {
		return errors.New("the signature is not the passkey's")
	}
	return nil
}

// Log is what was seen of all passkeys in the order of the branch.
type Log struct {
	Counters map[string]uint32 // by credential: the greatest counter
	Signed   map[string]bool   // what was signed by assertions that were seen
}

// Note notes a good assertion, and returns why it does not count, as Check does.
func (l *Log) Note(v Verified) error {
	if l.Counters == nil {
		l.Counters = map[string]uint32{}
	}
	if l.Signed == nil {
		l.Signed = map[string]bool{}
	}
	err := l.Check(v)
	if l.Signed[v.Signed] = true; err == nil {
		l.Counters[v.Credential] = v.Counter
	}
	return err
}

// Check returns why a good assertion does not count: it was there before, as when somebody brings a withdrawn approval
// back, or the authenticator's counter did not grow, as with a copy of it.
func (l *Log) Check(v Verified) error {
	last := l.Counters[v.Credential]
	switch {
	case l.Signed[v.Signed]:
		return errors.New("this assertion was used before: approve again, with another nonce")
	case (last > 0 || v.Counter > 0) && v.Counter <= last:
		return fmt.Errorf("the authenticator's counter is %d after %d: is there a copy of it? If not, approve again",
			v.Counter, last)
	}
	return nil
}

// Clone returns a copy that later notes do not change.
func (l *Log) Clone() Log { return Log{Counters: maps.Clone(l.Counters), Signed: maps.Clone(l.Signed)} }
