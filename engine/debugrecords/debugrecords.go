// Package debugrecords keeps the records of debug sessions, in parts, among the small documents that all replicas of
// the control plane share. A record is kept for 90 days, as its request is.
//
// A record that is kept never changes: another one for the same request is refused. Each upload has parts of its own,
// and the record is there once its last part is, so that uploads at the same time do not mix and a broken one leaves
// nothing that could be read. Clean removes what it left. The caller compares a record with its seal. Many goroutines
// and processes may call a Keeper's methods.
package debugrecords

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/records"
)

const (
	indexKind   = "debug-record"
	uploadKind  = "debug-record-upload" // uploads whose end is not known
	partKind    = "debug-record-part"
	partSize    = 45 << 10 // bytes, which are 60 KiB in base64
	partsAtOnce = 16       // that are listed to be removed

	uploadTime = time.Hour // after which an upload is over, in any case

	// Retention is how long a record is kept.
	Retention = 90 * 24 * time.Hour
)

// ErrOther means that another record of the session is kept.
var ErrOther = errors.New("another record of the session is kept")

// Keeper keeps records.
type Keeper struct{ store records.Store }

// New returns a keeper.
func New(store records.Store) *Keeper { return &Keeper{store} }

// index is what is known of a record.
type index struct {
	Hash   string    `json:"hash"`   // of the record, as its seal has it
	Upload string    `json:"upload"` // whose parts the record has
	Parts  int       `json:"parts"`
	At     time.Time `json:"at"`
}

// upload is an upload that began.
type upload struct {
	At time.Time `json:"at"`
}

type part struct {
	Data []byte `json:"data"`
}

func key(cell, request string) string { return cell + "/" + request }

func partKey(uploadKey string, n int) string { return fmt.Sprintf("%s/%05d", uploadKey, n) }

// Put keeps a record, durably. If a record with the same hash is kept already, Put changes nothing; if it is another,
// Put returns ErrOther.
func (k *Keeper) Put(ctx context.Context, cell, request, hash string, packed io.Reader, now time.Time) error {
	if done, err := k.has(ctx, cell, request, hash); done || err != nil {
		return err
	}
	i := index{Hash: hash, Upload: rand.Text(), At: now}
	parts := key(cell, request) + "/" + i.Upload
	began, err := k.add(ctx, uploadKind, parts, upload{now})
	if err != nil {
		return err
	}
	for buffer := make([]byte, partSize); ; i.Parts++ {
		read, err := io.ReadFull(packed, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if read == 0 {
			break
		}
		if _, err := k.add(ctx, partKind, partKey(parts, i.Parts), part{buffer[:read]}); err != nil {
			return err
		}
	}
	_, err = k.add(ctx, indexKind, key(cell, request), i)
	if errors.Is(err, records.ErrConflict) { // another upload was faster: Clean removes this one's parts
		if done, err := k.has(ctx, cell, request, hash); done || err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return k.delete(ctx, began)
}

// has reports whether a record with a hash is kept. If it is another, has returns ErrOther.
func (k *Keeper) has(ctx context.Context, cell, request, hash string) (bool, error) {
	i, err := k.find(ctx, cell, request)
	switch {
	case errors.Is(err, records.ErrNotFound):
		return false, nil
	case err == nil && i.Hash != hash:
		err = ErrOther
	}
	return err == nil, err
}

func (k *Keeper) find(ctx context.Context, cell, request string) (i index, err error) {
	r, err := k.store.Get(ctx, indexKind, key(cell, request))
	if err == nil {
		err = json.Unmarshal(r.Body, &i)
	}
	if err != nil {
		return i, fmt.Errorf("read the record %s: %w", key(cell, request), err)
	}
	return i, nil
}

// add keeps a document that is new, else it returns records.ErrConflict.
func (k *Keeper) add(ctx context.Context, kind, key string, v any) (r records.Record, err error) {
	r = records.Record{Kind: kind, Key: key}
	if r.Body, err = json.Marshal(v); err == nil {
		r, err = k.store.Put(ctx, r)
	}
	if err != nil {
		return r, fmt.Errorf("keep the record %s: %w", key, err)
	}
	return r, nil
}

// Open returns a record, compressed as it was put, or records.ErrNotFound.
func (k *Keeper) Open(ctx context.Context, cell, request string) (io.Reader, error) {
	i, err := k.find(ctx, cell, request)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, store: k.store, from: key(cell, request) + "/" + i.Upload, parts: i.Parts}, nil
}

// reader reads the parts of a record, one after the other.
type reader struct {
	ctx         context.Context
	store       records.Store
	from        string // the upload's key
	next, parts int
	rest        []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.parts {
			return 0, io.EOF
		}
		found, err := r.store.Get(r.ctx, partKind, partKey(r.from, r.next))
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

// Remove removes a request's record, if there is one, and what broken uploads of it left.
func (k *Keeper) Remove(ctx context.Context, cell, request string) error {
	r, err := k.store.Get(ctx, indexKind, key(cell, request))
	if err == nil {
		err = k.delete(ctx, r) // the index first: without it, no one begins to read the parts
	}
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return fmt.Errorf("remove the record %s: %w", key(cell, request), err)
	}
	return k.removeParts(ctx, key(cell, request))
}

// Clean removes what broken uploads left, and records that are older than the retention. A document that a later
// version wrote stays.
func (k *Keeper) Clean(ctx context.Context, now time.Time) error {
	for r, err := range records.All(ctx, k.store, uploadKind, records.Page{}) {
		if err == nil {
			err = k.cleanUpload(ctx, r, now)
		}
		if err != nil {
			return fmt.Errorf("remove broken uploads of records: %w", err)
		}
	}
	for r, err := range records.All(ctx, k.store, indexKind, records.Page{}) {
		if err != nil {
			return err
		}
		var i index
		if json.Unmarshal(r.Body, &i) != nil || now.Sub(i.At) < Retention {
			continue
		}
		cell, request, _ := strings.Cut(r.Key, "/")
		if err := k.Remove(ctx, cell, request); err != nil {
			return err
		}
	}
	return nil
}

// cleanUpload removes an upload that is over, and its parts unless the record has them.
func (k *Keeper) cleanUpload(ctx context.Context, r records.Record, now time.Time) error {
	var u upload
	if json.Unmarshal(r.Body, &u) != nil || now.Sub(u.At) < uploadTime {
		return nil
	}
	request := r.Key[:strings.LastIndexByte(r.Key, '/')]
	cell, id, _ := strings.Cut(request, "/")
	kept, err := k.find(ctx, cell, id)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return nil // a later version's, or the store does not answer: looked at again
	}
	if request+"/"+kept.Upload != r.Key {
		if err := k.removeParts(ctx, r.Key); err != nil {
			return err
		}
	}
	return k.delete(ctx, r)
}

// removeParts removes all parts whose keys are below a key.
func (k *Keeper) removeParts(ctx context.Context, below string) error {
	parts := records.Page{Prefix: below + "/", Limit: partsAtOnce}
	for r, err := range records.All(ctx, k.store, partKind, parts) {
		if err != nil {
			return fmt.Errorf("remove parts of the record %s: %w", below, err)
		}
		if err := k.delete(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes a document, unless another process did.
func (k *Keeper) delete(ctx context.Context, r records.Record) error {
	err := k.store.Delete(ctx, r.Kind, r.Key, r.Version)
	if err != nil && !errors.Is(err, records.ErrConflict) {
		return fmt.Errorf("remove the record %s: %w", r.Key, err)
	}
	return nil
}
