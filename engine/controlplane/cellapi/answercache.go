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

// answerCache has at hand what each cell's answer is known by. A request finds it by one lookup in a map that never changes and
// two atomic loads; only the first to ask after a new view looks whether the answer is still the same, and only where it
// is not is anything encoded.
type answerCache struct {
	views   api.Views
	current atomic.Pointer[snapshot]

	mu sync.Mutex // held to replace current
}

// snapshot is the cache under one view. Immutable, but for what its entries find out about themselves.
type snapshot struct {
	view       *view.View            // nil: nothing has been read yet
	generation uint64                // grows by one with every view
	replaced   <-chan struct{}       // closed when there is another view
	entries    map[string]*cellEntry // by cell; the same as before while the cells are
	sharedJSON *sync.Map             // JSON of what many cells are told, by what they share
}

// cellEntry is one cell's, from view to view.
type cellEntry struct {
	name string
	hash uint32 // of the name: what is spread over time or goroutines is spread by it

	generation atomic.Uint64             // of the newest view that tag was held against
	tag        atomic.Pointer[answerTag] // nil: the cell can't be answered

	assignment atomic.Pointer[assignmentJSON] // the assignment that it was told last; nil: none

	pollBucket, reportBucket limit.Bucket // what the cell may still ask; bundles of flags are asked for as often as polls
	bundleBucket             limit.Bucket
	downloads                atomic.Int32

	mu            sync.Mutex         // guards what follows, and is held to change number and tag
	key           view.Key           // of tag
	recentBundles [2]releases.Digest // the bundles of flags that it was told, newest first
	streams       []closer           // the cell's, oldest first; at most maxStreams
}

// answerTag is what the answer to one cell is known by. Immutable. The answer itself is encoded for whoever wants to
// read it: a cell reads each once, so that keeping it would only take room.
type answerTag struct {
	etag   string
	header []string // etag as a header's value
}

func newAnswerCache(v api.Views) *answerCache {
	c := &answerCache{views: v}
	closed := make(chan struct{})
	close(closed)
	c.current.Store(&snapshot{replaced: closed, sharedJSON: &sync.Map{}})
	return c
}

// latest is the cache under the newest view.
func (c *answerCache) latest() *snapshot {
	at := c.current.Load()
	select {
	case <-at.replaced:
		return c.replaceSnapshot(at)
	default:
		return at
	}
}

// replaceSnapshot replaces seen, unless somebody did so already. Entries stay while their cells do.
func (c *answerCache) replaceSnapshot(seen *snapshot) *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.current.Load()
	if at != seen {
		return at
	}
	next := &snapshot{generation: at.generation + 1, replaced: c.views.Changed(), sharedJSON: &sync.Map{}} // before View: what comes in between is seen
	next.view = c.views.View()
	switch {
	case next.view == at.view:
		next.generation, next.entries = at.generation, at.entries
	case next.view == nil:
	case at.view != nil && next.view.Desired == at.view.Desired:
		next.entries = at.entries
	default:
		next.entries = make(map[string]*cellEntry, len(next.view.Desired.Cells))
		for name := range next.view.Desired.Cells {
			if next.entries[name] = at.entries[name]; next.entries[name] == nil {
				next.entries[name] = &cellEntry{name: name, hash: hashName(name)}
			}
		}
	}
	c.current.Store(next)
	return next
}

// tagFor is what the cell's answer is known by under at, or under a newer view; nil: the repository has no such cell any more.
func (at *snapshot) tagFor(e *cellEntry) *answerTag {
	if e.generation.Load() >= at.generation { // before tag, which is written first
		return e.tag.Load()
	}
	tag, _ := at.refreshEntry(e)
	return tag
}

// refreshEntry holds a cell's answer against at's view. fresh is the answer, if it is another than before.
func (at *snapshot) refreshEntry(e *cellEntry) (tag *answerTag, fresh *cells.Desired) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.generation.Load() >= at.generation {
		return e.tag.Load(), nil
	}
	key, ok := view.Key{}, false
	if at.view != nil {
		key, ok = at.view.Key(e.name)
	}
	switch {
	case !ok:
		e.tag.Store(nil)
	case e.tag.Load() == nil || e.key != key:
		d, etag, _ := at.view.Cell(e.name)
		e.key, fresh = key, &d
		e.tag.Store(&answerTag{etag: etag, header: []string{etag}})
		if d.Flags != nil && d.Flags.Bundle.Digest != e.recentBundles[0] {
			e.recentBundles = [2]releases.Digest{d.Flags.Bundle.Digest, e.recentBundles[0]}
		}
	}
	e.generation.Store(at.generation)
	return e.tag.Load(), fresh
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
