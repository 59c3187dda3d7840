// Package records is what the store keeps for whatever needs no table of its own: small JSON documents by kind and key,
// replaced by compare-and-swap. Sessions, permissions that run out, cursors: a feature takes a kind, and adds nothing to a
// database.
//
// It holds values and limits, and does no I/O: engine/store has the two that implement Store. No plan reads a record, and
// records hold no intent: deleting the database must lose nothing that git has not. Any process that shares the store may write
// them, whether it leads or not; none is told of what another wrote: who must know reads again. All of a Store's methods
// may be called from many goroutines and processes: of many writes on the same version one succeeds.
package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits, in bytes and in records.
const (
	MaxKind = 64
	MaxKey  = 512
	MaxBody = 64 << 10
	MaxPage = 256
)

var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("there is no such record")
	// ErrConflict: the record is not as the writer knew it: somebody else wrote, made or deleted it. Nothing was written;
	// read it and decide again.
	ErrConflict = errors.New("the record was written by somebody else meanwhile")
	// ErrInvalid: the record is outside of the limits, or its body is no JSON. Nothing was written.
	ErrInvalid = errors.New("not a good record")
)

// Record is one document. Kind and Key name it; keys are compared by their bytes.
type Record struct {
	Kind    string // of the feature that it belongs to: lower-case letters, digits and hyphens
	Key     string
	Version int64           // another with every write, and never the same twice, also when a record is deleted and made again; 0: there is none yet
	Updated time.Time       // when it was written, by the store's clock, to the millisecond
	Body    json.RawMessage // comes back as it was given, byte for byte
}

// Page says which records of a kind to list: in the order of their keys.
type Page struct {
	Prefix string // of keys; empty: all
	After  string // the last key of the page before; empty: from the first
	Limit  int    // at most MaxPage, which is the default too
}

// Store keeps records. Every write is durable when the call returns.
type Store interface {
	// Get gives a record, or ErrNotFound.
	Get(ctx context.Context, kind, key string) (Record, error)
	// List gives a page of a kind's records. One that is shorter than its limit is the last.
	List(ctx context.Context, kind string, p Page) ([]Record, error)
	// Put keeps r in place of the record with r.Version; 0: as a new one. It gives r as it is kept, with a new Version,
	// or ErrConflict, or ErrInvalid.
	Put(ctx context.Context, r Record) (Record, error)
	// Delete removes the record with that version, or gives ErrConflict; also if there is none.
	Delete(ctx context.Context, kind, key string, version int64) error
}

// Check holds r against the limits: its fault is an ErrInvalid.
func (r Record) Check() error {
	if err := CheckName(r.Kind, r.Key); err != nil {
		return err
	}
	switch {
	case r.Version < 0:
		return fmt.Errorf("version %d: %w", r.Version, ErrInvalid)
	case len(r.Body) > MaxBody:
		return fmt.Errorf("a body of %d bytes, and %d are allowed: %w", len(r.Body), MaxBody, ErrInvalid)
	case !utf8.Valid(r.Body) || !json.Valid(r.Body):
		return fmt.Errorf("the body is no JSON: %w", ErrInvalid)
	}
	return nil
}

// CheckName holds what names a record against the limits: its fault is an ErrInvalid.
func CheckName(kind, key string) error {
	if key == "" {
		return fmt.Errorf("a record without a key: %w", ErrInvalid)
	}
	return errors.Join(validateKind(kind), validateKey(key))
}

// Normal gives p with its default limit, and says whether it asks for what there may be: its fault is an ErrInvalid.
func (p Page) Normal(kind string) (Page, error) {
	if p.Limit <= 0 || p.Limit > MaxPage {
		p.Limit = MaxPage
	}
	return p, errors.Join(validateKind(kind), validateKey(p.Prefix), validateKey(p.After))
}

// Cut gives those of found, records in the order of their keys from the prefix on, whose keys have it.
func (p Page) Cut(found []Record) []Record {
	for i, r := range found {
		if !strings.HasPrefix(r.Key, p.Prefix) {
			return found[:i]
		}
	}
	return found
}

func validateKind(kind string) error {
	good := kind != "" && len(kind) <= MaxKind && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	if !good {
		return fmt.Errorf("the kind %.80q: %w", kind, ErrInvalid)
	}
	return nil
}

func validateKey(key string) error {
	if len(key) > MaxKey || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return fmt.Errorf("the key %.80q: %w", key, ErrInvalid)
	}
	return nil
}
