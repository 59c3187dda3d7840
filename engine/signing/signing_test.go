package signing_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/engine/signing"
)

// R46: a key is made once, whoever starts first, and only its owner may read it.
func TestLoadOrCreate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tls", "engine.key")
	var group sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		group.Go(func() {
			key, err := signing.LoadOrCreate(file, rand.Reader)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = signing.Public(key)
		})
	}
	group.Wait()
	for _, key := range keys {
		if key != keys[0] {
			t.Errorf("keys %s and %s", key, keys[0])
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("%v is left", entries)
	}
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.LoadOrCreate(file, rand.Reader); err == nil {
		t.Error("a damaged key was replaced silently")
	}
}

// R46: the new key is kept only once it is listed; until then nothing changed.
func TestRotate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "engine.key")
	if err := signing.Rotate(file, rand.Reader, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	first, err := signing.LoadOrCreate(file, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := signing.Rotate(file, rand.Reader, func(_, _ ssh.Signer) error { return refused }); !errors.Is(err,
		refused) {
		t.Error(err)
	}
	if key, err := signing.Load(file); err != nil || signing.Public(key) != signing.Public(first) {
		t.Errorf("after a refusal: %v", err)
	}
	var next ssh.Signer
	err = signing.Rotate(file, rand.Reader, func(n, before ssh.Signer) error {
		if next = n; !bytes.Equal(before.PublicKey().Marshal(), first.PublicKey().Marshal()) {
			t.Error("the key before is another")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]ssh.Signer{file: next, file + ".old": first} {
		if key, err := signing.Load(name); err != nil || signing.Public(key) != signing.Public(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
