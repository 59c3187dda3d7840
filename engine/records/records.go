// Package records defines small JSON documents, by kind and key, that the store keeps for features without tables of
// their own, such as sessions, permissions that expire, and cursors. Compare-and-swap replaces a document. A feature
// uses a kind of its own, and adds nothing to the database.
//
// The package holds values and limits, and does no I/O of its own; engine/store has two implementations of Store. No
// plan reads a record, and no record holds intent: a deleted database must lose nothing that git lacks. Every process
// that shares the store may write records, whether it leads or not. The store notifies the other processes of each
// write (engine.RecordWatch).
//
// Many goroutines and processes may call a Store's methods at once. Of several writes on the same version one succeeds.
package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	// ErrNotFound means that there is no such record.
	ErrNotFound = errors.New("there is no such record")
	// ErrConflict means that another process wrote, made or deleted the record since the writer read it. Nothing was
	// written; read the record and decide again.
	ErrConflict = errors.New("the record was written by somebody else meanwhile")
	// ErrInvalid means that the record exceeds the limits, or that its body is no JSON. Nothing was written.
	ErrInvalid = errors.New("not a good record")
)

// Record is one document. Kind and Key identify it; keys are compared by their bytes.
type Record struct {
	Kind string // the feature that the record belongs to, in lower-case letters, digits and hyphens
	Key  string
	// Changes with every write and is never reused, even if the record is deleted and made again; 0: there is no record
	// yet.
	Version int64
	Updated time.Time       // when it was written, by the store's clock, in milliseconds
	Body    json.RawMessage // stored byte for byte
}

// Page says which records of a kind to list, in the order of their keys.
type Page struct {
	Prefix string // only keys with this prefix; empty: all
	After  string // the last key of the page before; empty: from the start
	Limit  int    // at most MaxPage, which is also the default
}

// Store keeps records. Every write is durable when the call returns.
type Store interface {
	// Get returns a record, or ErrNotFound.
	Get(ctx context.Context, kind, key string) (Record, error)
	// List returns a page of a kind's records. A page with fewer records than its limit is the last.
	List(ctx context.Context, kind string, p Page) ([]Record, error)
	// Put replaces the record that has r.Version with r, or adds r if r.Version is 0. It returns r as stored, with a
	// new Version, or ErrConflict, or ErrInvalid.
	Put(ctx context.Context, r Record) (Record, error)
	// Delete removes the record with that version. It returns ErrConflict if there is none.
	Delete(ctx context.Context, kind, key string, version int64) error
}

// All yields the records of a kind that p and the pages after it have, page by page: the loop may change them. An error
// comes last, with no record.
func All(ctx context.Context, s Store, kind string, p Page) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		page, _ := p.Normalise(kind) // List says what is wrong with it
		for {
			found, err := s.List(ctx, kind, page)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range found {
				if !yield(r, nil) {
					return
				}
			}
			if len(found) < page.Limit {
				return
			}
			page.After = found[len(found)-1].Key
		}
	}
}

// Validate checks r against the limits. Its errors wrap ErrInvalid.
func (r Record) Validate() error {
	if err := ValidateName(r.Kind, r.Key); err != nil {
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

// ValidateName checks the kind and the key of a record against the limits. Its errors wrap ErrInvalid.
func ValidateName(kind, key string) error {
	if key == "" {
		return fmt.Errorf("a record without a key: %w", ErrInvalid)
	}
	return errors.Join(validateKind(kind), validateKey(key))
}

// Normalise returns p with its default limit, and checks p and kind against the limits. Its errors wrap ErrInvalid.
func (p Page) Normalise(kind string) (Page, error) {
	if p.Limit <= 0 || p.Limit > MaxPage {
		p.Limit = MaxPage
	}
	return p, errors.Join(validateKind(kind), validateKey(p.Prefix), validateKey(p.After))
}

// FilterPrefix returns the first records of found whose keys have the prefix. found must be sorted by key and begin at
// the prefix.
func (p Page) FilterPrefix(found []Record) []Record {
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
