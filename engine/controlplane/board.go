package controlplane

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// board has at hand what each cell's answer is known by. A request finds it by one lookup in a map that never changes and
// two atomic loads; only the first to ask after a new view looks whether the answer is still the same, and only where it
// is not is anything encoded.
type board struct {
	views   Views
	current atomic.Pointer[posted]

	mu sync.Mutex // held to replace current
}

// posted is the board under one view. Immutable, but for what its places find out about themselves.
type posted struct {
	view    *view.View        // nil: nothing has been read yet
	number  uint64            // grows by one with every view
	over    <-chan struct{}   // closed when there is another view
	places  map[string]*place // by cell; the same as before while the cells are
	parcels *sync.Map         // JSON of what many cells are told, by parcel
}

// place is one cell's on the board, from view to view.
type place struct {
	name string
	hash uint32 // of the name: what is spread over time or goroutines is spread by it

	number atomic.Uint64            // of the newest view that said was held against
	said   atomic.Pointer[prepared] // nil: the cell can't be answered

	assigned atomic.Pointer[assigned] // the assignment that it was told last; nil: none

	polls, reports bucket // what the cell may still ask; bundles of flags are asked for as often as polls
	bundles        bucket
	downloads      atomic.Int32

	mu      sync.Mutex         // guards what follows, and is held to change number and said
	key     view.Key           // of said
	bundled [2]releases.Digest // the bundles of flags that it was told, newest first
	streams []cutter           // the cell's, oldest first; at most maxStreams
}

// prepared is what the answer to one cell is known by. Immutable. The answer itself is encoded for whoever wants to
// read it: a cell reads each once, so that keeping it would only take room.
type prepared struct {
	etag string
	tag  []string // etag as a header's value
}

func newBoard(v Views) *board {
	b := &board{views: v}
	closed := make(chan struct{})
	close(closed)
	b.current.Store(&posted{over: closed, parcels: &sync.Map{}})
	return b
}

// now is the board under the newest view.
func (b *board) now() *posted {
	at := b.current.Load()
	select {
	case <-at.over:
		return b.turn(at)
	default:
		return at
	}
}

// turn replaces seen, unless somebody did so already. Places stay while their cells do.
func (b *board) turn(seen *posted) *posted {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.current.Load()
	if at != seen {
		return at
	}
	next := &posted{number: at.number + 1, over: b.views.Changed(), parcels: &sync.Map{}} // before View: what comes in between is seen
	next.view = b.views.View()
	switch {
	case next.view == at.view:
		next.number, next.places = at.number, at.places
	case next.view == nil:
	case at.view != nil && next.view.Desired == at.view.Desired:
		next.places = at.places
	default:
		next.places = make(map[string]*place, len(next.view.Desired.Cells))
		for name := range next.view.Desired.Cells {
			if next.places[name] = at.places[name]; next.places[name] == nil {
				next.places[name] = &place{name: name, hash: hashName(name)}
			}
		}
	}
	b.current.Store(next)
	return next
}

// answer is what the cell's answer is known by under at, or under a newer view; nil: the repository has no such cell any more.
func (at *posted) answer(p *place) *prepared {
	if p.number.Load() >= at.number { // before said, which is written first
		return p.said.Load()
	}
	said, _ := at.hold(p)
	return said
}

// hold holds a cell's answer against at's view. fresh is the answer, if it is another than before.
func (at *posted) hold(p *place) (said *prepared, fresh *cells.Desired) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.number.Load() >= at.number {
		return p.said.Load(), nil
	}
	key, ok := view.Key{}, false
	if at.view != nil {
		key, ok = at.view.Key(p.name)
	}
	switch {
	case !ok:
		p.said.Store(nil)
	case p.said.Load() == nil || p.key != key:
		d, etag, _ := at.view.Cell(p.name)
		p.key, fresh = key, &d
		p.said.Store(&prepared{etag: etag, tag: []string{etag}})
		if d.Flags != nil && d.Flags.Bundle.Digest != p.bundled[0] {
			p.bundled = [2]releases.Digest{d.Flags.Bundle.Digest, p.bundled[0]}
		}
	}
	p.number.Store(at.number)
	return p.said.Load(), fresh
}

// hashName is FNV-1a, mixed once more: names that differ in their last letters only must lie far apart.
func hashName(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	h = (h ^ h>>16) * 0x85ebca6b // the end of MurmurHash3
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
