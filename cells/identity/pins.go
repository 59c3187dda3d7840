package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/cells"
)

// A set of pins is the active key's pin and then the standby key's. A cell takes another set only with the signature of
// the key that is standby in the set it has (R29). That key is kept off the server, so that whoever takes the server
// over can't make cells trust other keys; and each set names the standby key that signs the next one, so that a cell
// which missed some can follow.

// SignPins signs a set of pins with a standby key. serial grows with every set.
func SignPins(standby crypto.Signer, pins []string, serial int64) (cells.SignedPins, error) {
	der, err := x509.MarshalPKIXPublicKey(standby.Public())
	if err != nil {
		return cells.SignedPins{}, fmt.Errorf("sign pins: %w", err)
	}
	sum := sha256.Sum256(pinsMessage(pins, serial))
	signature, err := standby.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return cells.SignedPins{}, fmt.Errorf("sign pins: %w", err)
	}
	return cells.SignedPins{Pins: pins, Serial: serial, Key: der, Signature: signature}, nil
}

// FollowPins returns the set of pins that the signed sets lead to from the set that a cell has, and its serial. Sets
// that the cell's standby key did not sign, or that are not newer, change nothing.
func FollowPins(pins []string, serial int64, signed []cells.SignedPins) ([]string, int64) {
	for _, s := range signed {
		if s.Serial > serial && len(pins) > 1 && verifyPins(s, pins[1:]) == nil {
			pins, serial = s.Pins, s.Serial
		}
	}
	return pins, serial
}

var errPinsSignature = errors.New("the pins are not signed by a standby key")

// verifyPins returns nil if a set is signed by a key with one of the standby pins.
func verifyPins(s cells.SignedPins, standby []string) error {
	public, err := x509.ParsePKIXPublicKey(s.Key)
	if err != nil {
		return errPinsSignature
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return errPinsSignature
	}
	// The pin of the parsed key, not of the bytes received: they have one encoding only.
	pin, err := KeyPin(key)
	if err != nil || !slices.Contains(standby, pin) {
		return errPinsSignature
	}
	sum := sha256.Sum256(pinsMessage(s.Pins, s.Serial))
	if !ecdsa.VerifyASN1(key, sum[:], s.Signature) {
		return errPinsSignature
	}
	return nil
}

// pinsMessage returns the signed text. A pin of the message's own form contains no newline; others are refused later.
func pinsMessage(pins []string, serial int64) []byte {
	return []byte("sluice pins 1\n" + strconv.FormatInt(serial, 10) + "\n" + strings.Join(pins, "\n") + "\n")
}
