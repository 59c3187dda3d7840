// Package signing keeps the SSH key that the engine signs its commits with in a file (R46), beside the control plane's
// other keys: the store, its backups and whoever reads them can't sign.
//
// The package never logs a key. A key that the repository does not list makes commits that count for nothing: the
// engine lists its first one (plan.Adopt), and a listed key signs every later change of the list. Replicas need the
// same file. All functions may be called from several processes at once; of several that create a key, one wins.
package signing

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxFile bounds what is read of a key's file, in bytes.
const maxFile = 16 << 10

// LoadOrCreate reads the key in a file, or makes one there.
func LoadOrCreate(file string, random io.Reader) (ssh.Signer, error) {
	for {
		key, err := Load(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
		text, err := generate(random)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, fmt.Errorf("create the engine's key: %w", err)
		}
		if err := create(file, text); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create the engine's key: %w", err)
		} // this process or another created it: read what is there
	}
}

// Load reads the key in a file. fs.ErrNotExist: there is no such file.
func Load(file string) (ssh.Signer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the engine's key: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the engine's key in %s: %w", file, err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("read the engine's key in %s: %w", file, err)
	}
	return key, nil
}

// Rotate makes a new key, has list publish it, and then puts it into the file; the key so far goes to the same name
// with ".old". list is passed the key so far too: its signatures count until the repository lists it no more.
func Rotate(file string, random io.Reader, list func(next, before ssh.Signer) error) error {
	before, err := Load(file)
	if err != nil {
		return err
	}
	next := file + ".new"
	text, err := generate(random)
	if err != nil {
		return err
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a rotation that did not end
		return fmt.Errorf("rotate the engine's key: %w", err)
	}
	if err := create(next, text); err != nil {
		return fmt.Errorf("rotate the engine's key: %w", err)
	}
	key, err := Load(next)
	if err != nil {
		return err
	}
	if err := list(key, before); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(file, file+".old"), os.Rename(next, file)); err != nil {
		return fmt.Errorf("rotate the engine's key: the new key is listed; move it to %s by hand: %w", file, err)
	}
	return nil
}

// Public returns a key in authorized_keys form, as sluice.yaml lists it.
func Public(key ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// generate returns the text of a new key's file.
func generate(random io.Reader) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("make the engine's key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sluice engine")
	if err != nil {
		return nil, fmt.Errorf("make the engine's key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// create writes a new file for its owner only, whole or not at all. fs.ErrExist: there is one.
func create(file string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file) // fails where rename would replace
}
