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
		if err := add(ctx, facts, kept, random); err != nil && !errors.Is(err, plan.ErrStale) {
			return nil, err
		} // kept by this process or by another: read what is there
	}
}

// Rotate makes a new key, which Key returns from then on, and returns it with the one before.
func Rotate(ctx context.Context, facts Facts, random io.Reader) (next, before ssh.Signer, err error) {
	keys, kept, err := read(ctx, facts)
	if err != nil {
		return nil, nil, err
	}
	if len(keys) == 0 {
		return nil, nil, errors.New("the store has no key to sign with yet: sluice serve makes one at its first start")
	}
	if err := add(ctx, facts, kept, random); err != nil {
		return nil, nil, fmt.Errorf("rotate the engine's key: %w", err)
	}
	if keys, _, err = read(ctx, facts); err != nil {
		return nil, nil, err
	}
	return keys[0], keys[1], nil
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

// add puts a new key before the newest of those kept; the others go.
func add(ctx context.Context, facts Facts, kept string, random io.Reader) error {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return fmt.Errorf("make the engine's key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sluice engine")
	if err != nil {
		return fmt.Errorf("make the engine's key: %w", err)
	}
	texts := []string{string(pem.EncodeToMemory(block))}
	if kept != "" {
		var old []string
		if err := json.Unmarshal([]byte(kept), &old); err != nil {
			return err
		}
		texts = append(texts, old[0])
	}
	data, err := json.Marshal(texts)
	if err != nil {
		return err
	}
	return facts.KeepFact(ctx, fact, kept, string(data))
}
