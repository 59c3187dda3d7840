// Package debugrecords keeps the records of debug sessions, in parts, among the small documents that all replicas of
// the control plane share. A record is kept for 90 days, as its request is.
//
// It keeps what it is given: the caller compares a record with its seal. Many goroutines may call a Keeper's methods.
package debugrecords

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/records"
)

const (
	indexKind = "debug-record"
	partKind  = "debug-record-part"
	partSize  = 45 << 10 // bytes, which are 60 KiB in base64

	// Retention is how long a record is kept.
	Retention = 90 * 24 * time.Hour
)

// Keeper keeps records.
type Keeper struct{ store records.Store }

// New returns a keeper.
func New(store records.Store) *Keeper { return &Keeper{store} }

// index is what is known of a record.
type index struct {
	Hash  string    `json:"hash"` // of the record, as its seal has it
	Parts int       `json:"parts"`
	At    time.Time `json:"at"`
}

type part struct {
	Data []byte `json:"data"`
}

func key(cell, request string) string { return cell + "/" + request }

func partKey(cell, request string, n int) string { return fmt.Sprintf("%s/%s/%05d", cell, request, n) }

// Put keeps a record, durably. It replaces what an earlier try left.
func (k *Keeper) Put(ctx context.Context, cell, request, hash string, packed io.Reader, now time.Time) error {
	n := 0
	for buffer := make([]byte, partSize); ; n++ {
		read, err := io.ReadFull(packed, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if read == 0 {
			break
		}
		if err := k.put(ctx, partKind, partKey(cell, request, n), part{buffer[:read]}); err != nil {
			return err
		}
	}
	if err := k.put(ctx, indexKind, key(cell, request), index{hash, n, now}); err != nil {
		return err
	}
	return k.prune(ctx, now)
}

func (k *Keeper) put(ctx context.Context, kind, key string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	before, err := k.store.Get(ctx, kind, key)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return fmt.Errorf("keep the record %s: %w", key, err)
	}
	next := records.Record{Kind: kind, Key: key, Version: before.Version, Body: body}
	if _, err := k.store.Put(ctx, next); err != nil {
		return fmt.Errorf("keep the record %s: %w", key, err)
	}
	return nil
}

// Open returns a record, compressed as it was put, or records.ErrNotFound.
func (k *Keeper) Open(ctx context.Context, cell, request string) (io.Reader, error) {
	r, err := k.store.Get(ctx, indexKind, key(cell, request))
	if err != nil {
		return nil, err
	}
	var i index
	if err := json.Unmarshal(r.Body, &i); err != nil {
		return nil, fmt.Errorf("read the record %s: %w", r.Key, err)
	}
	return &reader{ctx: ctx, store: k.store, cell: cell, request: request, parts: i.Parts}, nil
}

// reader reads the parts of a record, one after the other.
type reader struct {
	ctx           context.Context
	store         records.Store
	cell, request string
	next, parts   int
	rest          []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.parts {
			return 0, io.EOF
		}
		found, err := r.store.Get(r.ctx, partKind, partKey(r.cell, r.request, r.next))
		var v part
		if err == nil {
			err = json.Unmarshal(found.Body, &v)
		}
		if err != nil {
			return 0, fmt.Errorf("read part %d of a record: %w", r.next, err)
		}
		r.rest = v.Data
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// prune removes records that are older than the retention.
func (k *Keeper) prune(ctx context.Context, now time.Time) error {
	for page := (records.Page{}); ; {
		found, err := k.store.List(ctx, indexKind, page)
		if err != nil {
			return fmt.Errorf("remove old records: %w", err)
		}
		for _, r := range found {
			var i index
			if json.Unmarshal(r.Body, &i) == nil && now.Sub(i.At) < Retention {
				continue
			}
			if err := k.remove(ctx, r, i.Parts); err != nil {
				return err
			}
		}
		if len(found) < records.MaxPage {
			return nil
		}
		page.After = found[len(found)-1].Key
	}
}

func (k *Keeper) remove(ctx context.Context, r records.Record, parts int) error {
	cell, request, _ := strings.Cut(r.Key, "/")
	for n := range parts {
		p, err := k.store.Get(ctx, partKind, partKey(cell, request, n))
		if err == nil {
			err = k.store.Delete(ctx, partKind, p.Key, p.Version)
		}
		if err != nil && !errors.Is(err, records.ErrNotFound) && !errors.Is(err, records.ErrConflict) {
			return fmt.Errorf("remove the record %s: %w", r.Key, err)
		}
	}
	if err := k.store.Delete(ctx, indexKind, r.Key, r.Version); err != nil && !errors.Is(err, records.ErrConflict) {
		return fmt.Errorf("remove the record %s: %w", r.Key, err)
	}
	return nil
}
