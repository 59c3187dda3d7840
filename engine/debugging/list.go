package debugging

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/engine/records"
)

// Entry is a request that is kept, opened.
type Entry struct {
	Kept
	ID      string
	Request debug.Request
	version int64
}

// List returns the requests of a cell, the oldest first; empty: of all cells.
func (k *Keeper) List(ctx context.Context, cell string) ([]Entry, error) {
	var all []Entry
	for r, err := range records.All(ctx, k.records, Kind, records.Page{Prefix: prefixOf(cell)}) {
		if err != nil {
			return nil, fmt.Errorf("read requests for debug access: %w", err)
		}
		if e, err := k.parse(r); err == nil { // written by a later version, else
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Sent.Compare(b.Sent) })
	return all, nil
}

// ListPage returns a page of List, by cell and ID, and what comes after it; empty: nothing.
func (k *Keeper) ListPage(ctx context.Context, cell, after string) (page []Entry, next string, err error) {
	found, err := k.records.List(ctx, Kind, records.Page{Prefix: prefixOf(cell), After: after})
	if err != nil {
		return nil, "", fmt.Errorf("read requests for debug access: %w", err)
	}
	for _, r := range found {
		if e, err := k.parse(r); err == nil { // as in List
			page = append(page, e)
		}
	}
	if len(found) == records.MaxPage {
		next = found[len(found)-1].Key
	}
	return page, next, nil
}

// prefixOf begins the keys of a cell's requests; of all requests, without a cell.
func prefixOf(cell string) string {
	if cell == "" {
		return ""
	}
	return key(cell, "")
}

// parse opens a request that is kept. Its signature is verified once: what is kept never changes, and is read often.
func (k *Keeper) parse(r records.Record) (Entry, error) {
	e := Entry{version: r.Version}
	if err := json.Unmarshal(r.Body, &e.Kept); err != nil {
		return e, fmt.Errorf("read request %s for debug access: %w", r.Key, err)
	}
	e.ID = e.Signed.ID()
	sum := sumOf(&e)
	k.mu.Lock()
	known := false
	e.Request, known = k.opened[sum]
	k.mu.Unlock()
	if known {
		return e, nil
	}
	var err error
	if e.Request, err = e.Signed.Open(); err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.opened[sum] = e.Request
	}
	return e, err
}

func sumOf(e *Entry) [sha256.Size]byte {
	document := sha256.Sum256(e.Signed.Document)
	return sha256.Sum256(append(document[:], e.Signed.Signature...))
}

// forgetOthers forgets the opened requests that are not among those that are kept.
func (k *Keeper) forgetOthers(kept []Entry) {
	sums := make(map[[sha256.Size]byte]bool, len(kept))
	for i := range kept {
		sums[sumOf(&kept[i])] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.opened, func(sum [sha256.Size]byte, _ debug.Request) bool { return !sums[sum] })
}
