package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
)

const (
	signedPinsFile = "pins.json" // the signed sets of pins, oldest first
	maxSignedPins  = 8           // sets that a cell may have missed and still follow
	maxPinsFile    = 64 << 10    // bytes
)

// MoveStandbyKey moves the standby key out of a folder of keys to a file elsewhere, and leaves its public half. It may
// be repeated after a crash.
func MoveStandbyKey(dir, to string) error {
	standby := filepath.Join(dir, standbyKey)
	key, err := loadKey(standby)
	if errors.Is(err, fs.ErrNotExist) && fileExists(filepath.Join(dir, standbyPublic)) {
		return fmt.Errorf("the standby key is not in %s any more: it was moved before", dir)
	} else if err != nil {
		return err
	}
	if err := writeKey(to, key); err != nil {
		return fmt.Errorf("write the standby key to %s: %w", to, err)
	}
	if err := writePublicKey(dir, key.Public()); err != nil {
		return err
	}
	return removeFile(standby)
}

// Succession is a change of the control plane's TLS keys that the standby key signs.
type Succession struct {
	Dir     string // the folder of keys
	Standby string // file with the standby key that cells know
	Next    string // file of the next standby key; it is made if it is missing
	// KeepActive says that the active key stays, and only the standby key is replaced.
	KeepActive bool
}

// Succeed signs the new pins with the standby key, which becomes the active key unless KeepActive is set. It may be
// repeated after a crash. The folder contains no standby key afterwards, only its public half.
func Succeed(s Succession) (pins []string, err error) {
	standby, err := loadKey(s.Standby)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the control plane's keys: %w", err)
	}
	next, err := loadOrCreateKey(s.Next)
	if err != nil {
		return nil, err
	}
	active := standby
	if s.KeepActive {
		if active, err = loadKey(filepath.Join(s.Dir, activeKey)); err != nil {
			return nil, err
		}
	}
	if next.Equal(standby) || next.Equal(active) {
		return nil, fmt.Errorf("%s is a key that is in use: name a file that does not exist, and a key is made there", s.Next)
	}
	if pins, err = pinsOf(active.Public(), next.Public()); err != nil {
		return nil, err
	}
	if err := appendSignedPins(s.Dir, standby, pins); err != nil {
		return nil, err
	}
	if err := writePublicKey(s.Dir, next.Public()); err != nil {
		return nil, err
	}
	if !s.KeepActive {
		if err := replaceKey(filepath.Join(s.Dir, activeKey), standby); err != nil {
			return nil, fmt.Errorf("write the active key: %w", err)
		}
	}
	return pins, removeFile(filepath.Join(s.Dir, standbyKey))
}

func pinsOf(active, standby crypto.PublicKey) ([]string, error) {
	var pins []string
	for _, key := range []crypto.PublicKey{active, standby} {
		pin, err := identity.KeyPin(key)
		if err != nil {
			return nil, fmt.Errorf("pin the control plane's keys: %w", err)
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// loadSignedPins reads the signed sets of pins of a folder; without a file, there are none.
func loadSignedPins(dir string) ([]cells.SignedPins, error) {
	name := filepath.Join(dir, signedPinsFile)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the signed pins: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxPinsFile))
	if err != nil {
		return nil, fmt.Errorf("read the signed pins: %w", err)
	}
	var sets []cells.SignedPins
	if err := json.Unmarshal(text, &sets); err != nil {
		return nil, fmt.Errorf("%s is damaged: restore it from a replica or the backup, or remove it; cells that missed a "+
			"set of pins can't follow without it: %w", name, err)
	}
	return sets[max(0, len(sets)-maxSignedPins):], nil
}

// appendSignedPins signs a set of pins and adds it to those of a folder, unless it is the newest there.
func appendSignedPins(dir string, standby *ecdsa.PrivateKey, pins []string) error {
	sets, err := loadSignedPins(dir)
	if err != nil {
		return err
	}
	serial := time.Now().Unix() // grows even if the file was lost
	if n := len(sets); n > 0 {
		if slices.Equal(sets[n-1].Pins, pins) { // repeated after a crash
			return nil
		}
		serial = max(serial, sets[n-1].Serial+1)
	}
	set, err := identity.SignPins(standby, pins, serial)
	if err != nil {
		return err
	}
	sets = append(sets, set)
	text, err := json.MarshalIndent(sets[max(0, len(sets)-maxSignedPins):], "", "  ")
	if err != nil {
		return fmt.Errorf("write the signed pins: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, signedPinsFile), text); err != nil {
		return fmt.Errorf("write the signed pins: %w", err)
	}
	return nil
}

func loadPublicKey(file string) (*ecdsa.PublicKey, error) {
	text, err := os.ReadFile(file) //nolint:gosec // in the folder of keys
	if err != nil {
		return nil, fmt.Errorf("read the standby key's public half: %w", err)
	}
	block, _ := pem.Decode(text[:min(len(text), maxKeySize)])
	if block == nil {
		return nil, fmt.Errorf("%s is not a key in PEM: restore the right file", file)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is not a public key: restore the right file: %w", file, err)
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key: restore the right file", file)
	}
	return public, nil
}

func writePublicKey(dir string, key crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err == nil {
		err = replaceFile(filepath.Join(dir, standbyPublic),
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	if err != nil {
		return fmt.Errorf("write the standby key's public half: %w", err)
	}
	return nil
}

// writeKey writes a key to a file. A file with another key is an error.
func writeKey(file string, key *ecdsa.PrivateKey) error {
	there, err := loadKey(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceKey(file, key)
	case err != nil:
		return err
	case !there.Equal(key):
		return errors.New("another key is there already: name another file")
	}
	return nil
}

func replaceKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return replaceFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// replaceFile replaces a file durably, readable by its owner only.
func replaceFile(file string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(file))
}

func removeFile(file string) error {
	if err := os.Remove(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

func syncDir(name string) error {
	dir, err := os.Open(name) //nolint:gosec // the folder of a file that was written
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
