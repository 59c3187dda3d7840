package transport_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// Keys are created once, in whole files readable by their owner only. Moving the standby key's file makes it active
// (R29).
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	made := make(chan *transport.Keys, 8)
	for range cap(made) { // replicas with a common folder
		go func() {
			k, err := transport.OpenKeys(dir)
			if err != nil {
				t.Error(err)
			}
			made <- k
		}()
	}
	k := <-made
	for range cap(made) - 1 {
		if other := <-made; strings.Join(other.Pins, " ") != strings.Join(k.Pins, " ") {
			t.Errorf("%q and %q", k.Pins, other.Pins)
		}
	}
	entries, err := os.ReadDir(dir)
	// One that opens between the other's two keys takes the first for a standby key that was moved: nobody is misled.
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "pins.json" })
	if err != nil || len(entries) != 2 {
		t.Errorf("%v (%v)", entries, err)
	}
	active, standby := filepath.Join(dir, "active.key"), filepath.Join(dir, "standby.key")
	for _, file := range []string{active, standby} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v)", file, info.Mode(), err)
		}
	}
	if identity.CertificatePin(k.Certificate().Leaf) != k.Pins[0] || k.Pins[0] == k.Pins[1] {
		t.Errorf("%q", k.Pins)
	}
	if err := os.Rename(standby, active); err != nil {
		t.Fatal(err)
	}
	next, err := transport.OpenKeys(dir)
	if err != nil || next.Pins[0] != k.Pins[1] || next.Pins[1] == k.Pins[0] {
		t.Errorf("%v (%v)", next, err)
	}
	for says, change := range map[string]func() error{
		"chmod 600": func() error { return os.Chmod(active, 0o640) },
		"not a key in PEM": func() error {
			return os.WriteFile(active, []byte("-----BEGIN SECRET"), 0o600)
		},
		"is missing": func() error { return os.Remove(active) },
	} {
		text, err := os.ReadFile(active)
		if err == nil {
			err = change()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.OpenKeys(dir); err == nil || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v, wanted %q in it", err, says)
		}
		if err := os.WriteFile(active, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(active, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Keys that others may read or replace are refused.
func TestReadableKeysAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o777: false, 0o777 | os.ModeSticky: true, 0o750: true} {
		if err := os.Chmod(open, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := transport.OpenKeys(open); (err == nil) != good {
			t.Errorf("a folder of mode %v: %v", mode, err)
		}
	}
	key := filepath.Join(dir, "people.key")
	for mode, good := range map[os.FileMode]bool{0o644: false, 0o640: true, 0o600: true} {
		if err := os.WriteFile(key, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		_, err := transport.LoadKeyPair(key, key)
		if open := err != nil && strings.Contains(err.Error(), "read by everyone"); open == good {
			t.Errorf("a key of mode %v: %v", mode, err)
		}
	}
}
