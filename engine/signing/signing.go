// Package signing keeps the SSH keys that the engine signs its commits with (R46). They are in the store, so that all replicas
// sign alike and a restored store signs as before.
//
// The package holds no key in memory, and never logs one. A key that the repository does not list makes commits that count
// for nothing: listing it is the engine's (plan.Adopt) or, when keys change, a person's. All functions may be called from
// several processes at once.
package signing

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Facts keeps single values by name. The stores are some.
type Facts interface {
	// Fact returns a value; empty: there is none.
	Fact(ctx context.Context, name string) (string, error)
	// KeepFact replaces the value if it is before, else it returns plan.ErrStale.
	KeepFact(ctx context.Context, name, before, value string) error
}

const fact = "engine-keys"

// Key returns the key to sign with, the newest. The first call for a store makes one.
func Key(ctx context.Context, facts Facts, random io.Reader) (ssh.Signer, error) {
	for {
		keys, kept, err := read(ctx, facts)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 {
			return keys[0], nil
		}
		_, text, err := generate(random)
		if err != nil {
			return nil, err
		}
		if err := facts.KeepFact(ctx, fact, kept, text); err != nil && !errors.Is(err, plan.ErrStale) {
			return nil, fmt.Errorf("keep the engine's key: %w", err)
		} // kept by this process or by another: read what is there
	}
}

// Rotate makes a new key, has list publish it, and then keeps it: Key returns it from then on. list is passed the newest key
// so far too, which stays good for signing until the repository lists it no more.
func Rotate(ctx context.Context, facts Facts, random io.Reader, list func(next, before ssh.Signer) error) error {
	keys, kept, err := read(ctx, facts)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errors.New("the store has no key to sign with yet: sluice serve makes one at its first start")
	}
	next, text, err := generate(random)
	if err != nil {
		return err
	}
	if err := list(next, keys[0]); err != nil {
		return err
	}
	if err := facts.KeepFact(ctx, fact, kept, text); err != nil {
		return fmt.Errorf("keep the engine's new key: %w", err)
	}
	return nil
}

// Public returns a key in authorized_keys form, as sluice.yaml lists it.
func Public(key ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// read returns the keys, newest first, and the text that holds them.
func read(ctx context.Context, facts Facts) (keys []ssh.Signer, kept string, err error) {
	if kept, err = facts.Fact(ctx, fact); err != nil || kept == "" {
		return nil, "", err
	}
	var texts []string
	if err := json.Unmarshal([]byte(kept), &texts); err != nil {
		return nil, "", fmt.Errorf("read the engine's keys in the store: %w", err)
	}
	for _, text := range texts {
		key, err := ssh.ParsePrivateKey([]byte(text))
		if err != nil {
			return nil, "", fmt.Errorf("read the engine's keys in the store: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, kept, nil
}

// generate makes a key, and the text that the store keeps.
func generate(random io.Reader) (key ssh.Signer, text string, err error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, "", fmt.Errorf("make the engine's key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sluice engine")
	if err != nil {
		return nil, "", fmt.Errorf("make the engine's key: %w", err)
	}
	data, err := json.Marshal([]string{string(pem.EncodeToMemory(block))})
	if err != nil {
		return nil, "", err
	}
	key, err = ssh.NewSignerFromKey(private)
	return key, string(data), err
}
