package cellapi

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// answerCache caches the ETag of each cell's answer to GET /v1/desired. A request costs one lookup in an immutable map
// and two atomic loads. The first request after a new view compares the answer's key, and encodes the answer only if
// the key changed.
type answerCache struct {
	views   api.Views
	trust   *trustHandlers // nil: heads name no signatures
	current atomic.Pointer[snapshot]

	mu sync.Mutex // held to replace current
}

// snapshot is the cache under one view. A snapshot is immutable, except for the state of its entries.
type snapshot struct {
	view       *view.View            // nil until the release repository has been read
	generation uint64                // increases with every view
	replaced   <-chan struct{}       // closed when there is a newer view
	entries    map[string]*cellEntry // by cell; shared with the previous snapshot while the set of cells stays
	shared     *sharedParts          // encoded parts that many answers share
	trust      *trustHandlers        // as in answerCache
}

// cellEntry is the state of one cell, kept from view to view.
type cellEntry struct {
	name string
	hash uint32 // of the name; spreads cells over shards and over time

	generation atomic.Uint64             // of the newest view that tag was compared with
	tag        atomic.Pointer[answerTag] // nil: the cell has no answer

	assignment atomic.Pointer[assignmentJSON] // the last assignment, encoded; nil: none

	pollBucket, reportBucket    limit.Bucket // remaining requests; bundles and releases have the limit of polls
	bundleBucket, releaseBucket limit.Bucket
	exportBucket                limit.Bucket
	trustBucket                 limit.Bucket
	sessionBucket, recordBucket limit.Bucket
	contentBucket               limit.Bucket // remaining bytes
	downloads                   atomic.Int32
	exporting                   atomic.Bool // a batch is being received

	mu            sync.Mutex         // guards what follows, and is held to change generation and tag
	key           view.Key           // of tag
	recentBundles [2]releases.Digest // the last two bundles of flags in the cell's answer, newest first
	streams       []cellStream       // the cell's streams, oldest first; at most maxStreams
}

// answerTag holds the ETag of one cell's answer. It is immutable. The answer itself is not cached, since a cell reads
// each answer once.
type answerTag struct {
	etag   string
	header [1]string // etag as a header value
}

func newAnswerCache(v api.Views) *answerCache {
	c := &answerCache{views: v}
	closed := make(chan struct{})
	close(closed)
	c.current.Store(&snapshot{replaced: closed, shared: newSharedParts()})
	return c
}

// latest returns the snapshot of the newest view.
func (c *answerCache) latest() *snapshot {
	snap := c.current.Load()
	select {
	case <-snap.replaced:
		return c.replaceSnapshot(snap)
	default:
		return snap
	}
}

// replaceSnapshot replaces seen, unless another goroutine has done so. Entries stay while their cells do.
func (c *answerCache) replaceSnapshot(seen *snapshot) *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	snap := c.current.Load()
	if snap != seen {
		return snap
	}
	// Changed is called before View, so that a change between the two is not missed.
	next := &snapshot{generation: snap.generation + 1, replaced: c.views.Changed(), shared: newSharedParts(),
		trust: c.trust}
	next.view = c.views.View()
	switch {
	case next.view == snap.view:
		next.generation, next.entries = snap.generation, snap.entries
	case next.view == nil:
	case snap.view != nil && next.view.Desired == snap.view.Desired:
		next.entries = snap.entries
	default:
		next.entries = make(map[string]*cellEntry, len(next.view.Desired.Cells))
		for name := range next.view.Desired.Cells {
			if next.entries[name] = snap.entries[name]; next.entries[name] == nil {
				next.entries[name] = &cellEntry{name: name, hash: hashName(name)}
			}
		}
	}
	c.current.Store(next)
	return next
}

// tagFor returns the tag of the cell's answer under snap or a newer view, or nil if the repository no longer has the
// cell.
func (snap *snapshot) tagFor(e *cellEntry) *answerTag {
	if e.generation.Load() >= snap.generation { // before tag, which is written first
		return e.tag.Load()
	}
	tag, _ := snap.refreshEntry(e, new(cells.Desired))
	return tag
}

// refreshEntry compares a cell's answer with snap's view. If the answer changed, fresh is true, and answer the new one.
func (snap *snapshot) refreshEntry(e *cellEntry, answer *cells.Desired) (tag *answerTag, fresh bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.generation.Load() >= snap.generation {
		return e.tag.Load(), false
	}
	var etag string
	ok := false
	if snap.view != nil {
		if e.tag.Load() == nil { // whatever the key is, there is no answer by it
			e.key = noKey()
		}
		etag, ok = snap.view.CellUnlike(&e.key, e.name, answer)
	}
	switch {
	case !ok:
		e.tag.Store(nil)
	case etag != "":
		fresh = true
		e.tag.Store(&answerTag{etag: etag, header: [1]string{etag}})
		if f := answer.Flags; f != nil && f.Bundle.Digest != e.recentBundles[0] {
			e.recentBundles = [2]releases.Digest{f.Bundle.Digest, e.recentBundles[0]}
		}
	}
	e.generation.Store(snap.generation)
	return e.tag.Load(), fresh
}

// noKey returns a key that no cell's answer has.
func noKey() view.Key { return view.Key{Overdue: -1} }

// hashName is FNV-1a with MurmurHash3's finaliser, so that names that differ in their last letters only lie far apart.
func hashName(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
