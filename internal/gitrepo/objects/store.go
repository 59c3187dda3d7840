package objects

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	baseCacheCost = 12 << 20 // cached bytes of delta bases
	maxChain      = 4096     // deltas on deltas; git makes at most 4095
)

// Store is an object database: a repository's objects folder. Its exported methods may be used from several goroutines.
type Store struct {
	dir   string
	limit int64 // bytes of one object

	packs    atomic.Pointer[[]*pack]
	lastPack atomic.Int32 // index of the pack that had the last object: searched first
	bases    *Cache[packPosition, object]

	refreshMu sync.Mutex // held while the packs are listed
}

type packPosition struct {
	pack   *pack
	offset int64
}

type object struct {
	kind Kind
	data []byte
}

// Open opens the objects folder dir. limit bounds an object's size in bytes.
func Open(dir string, limit int64) (*Store, error) {
	s := &Store{dir: dir, limit: limit, bases: NewCache[packPosition, object](baseCacheCost)}
	s.packs.Store(&[]*pack{})
	return s, s.refresh()
}

// refresh lists the packs again; known packs stay open.
func (s *Store) refresh() error {
	s.refreshMu.Lock()
	defer s.refreshMu.Unlock()
	files, err := os.ReadDir(filepath.Join(s.dir, "pack"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list packs: %w", err)
	}
	old := map[string]*pack{}
	for _, p := range *s.packs.Load() {
		old[p.name] = p
	}
	current := map[string]*pack{}
	for _, f := range files {
		name, ok := strings.CutSuffix(filepath.Join(s.dir, "pack", f.Name()), ".idx")
		if !ok {
			continue
		}
		p := old[name]
		if p == nil {
			p, err = openPack(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a repack removed it; a newer pack has its objects
			} else if err != nil {
				return err
			}
		}
		current[name] = p
	}
	list := slices.SortedFunc(maps.Values(current), func(a, b *pack) int { return len(b.ids) - len(a.ids) })
	s.packs.Store(&list)
	return nil
}

// Get returns an object's kind and bytes. The bytes are shared, and must not be changed. Errors are ErrNotFound,
// ErrCorrupt or ErrTooLarge.
func (s *Store) Get(id ID) (Kind, []byte, error) {
	o, err := s.lookUp(id)
	if errors.Is(err, ErrNotFound) {
		if err = s.refresh(); err == nil {
			o, err = s.lookUp(id)
		}
	}
	if err == nil && Sum(o.kind, o.data) != id {
		err = fmt.Errorf("%w: its bytes have another id", ErrCorrupt)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("object %v: %w", id, err)
	}
	return o.kind, o.data, nil
}

func (s *Store) lookUp(id ID) (object, error) {
	if p, offset := s.findPacked(id); p != nil {
		return s.resolve(p, offset)
	}
	return s.readLoose(id)
}

func (s *Store) findPacked(id ID) (*pack, int64) {
	packs := *s.packs.Load()
	last := int(s.lastPack.Load())
	if last < len(packs) {
		if offset, ok := packs[last].findOffset(id); ok {
			return packs[last], offset
		}
	}
	for i, p := range packs {
		if i == last {
			continue
		}
		if offset, ok := p.findOffset(id); ok {
			s.lastPack.Store(int32(i))
			return p, offset
		}
	}
	return nil, 0
}

// resolve reads the object at offset and applies the deltas on the way.
func (s *Store) resolve(p *pack, offset int64) (object, error) {
	type link struct {
		at    packPosition
		delta []byte
	}
	var room [64]link
	chain := room[:0]
	at := packPosition{p, offset}
	var o object
	for {
		if found, ok := s.bases.Get(at); ok {
			o = found
			break
		}
		e, _, err := at.pack.readEntry(at.offset, s.limit, -1)
		if err != nil {
			return o, err
		}
		if e.kind != offsetDelta && e.kind != refDelta {
			o = object{e.kind, e.data}
			if len(chain) > 0 {
				s.bases.Put(at, o, len(o.data)+128)
			}
			break
		}
		if len(chain) == maxChain {
			return o, fmt.Errorf("%w: a chain of more than %d deltas", ErrCorrupt, maxChain)
		}
		chain = append(chain, link{at, e.data})
		if e.kind == offsetDelta {
			at.offset = e.baseOffset
		} else if at.pack, at.offset = s.findPacked(e.baseID); at.pack == nil {
			return o, fmt.Errorf("%w: its delta's base %v is missing", ErrCorrupt, e.baseID)
		}
	}
	for _, l := range slices.Backward(chain) {
		data, err := applyDelta(o.data, l.delta, s.limit)
		if err != nil {
			return o, err
		}
		o.data = data
		s.bases.Put(l.at, o, len(data)+128)
	}
	return o, nil
}

// Size returns an object's size in bytes without reading all of the object.
func (s *Store) Size(id ID) (int64, error) {
	p, offset := s.findPacked(id)
	if p == nil {
		_, data, err := s.Get(id)
		return int64(len(data)), err
	}
	e, size, err := p.readEntry(offset, 1<<62, 32)
	if err == nil && (e.kind == offsetDelta || e.kind == refDelta) {
		var result uint64
		_, result, _, err = deltaSizes(e.data)
		size = int64(result)
	}
	if err != nil {
		return 0, fmt.Errorf("object %v: %w", id, err)
	}
	return size, nil
}

// Has reports whether the database has an object, without reading it.
func (s *Store) Has(id ID) bool {
	if s.hasObject(id) {
		return true
	}
	return s.refresh() == nil && s.hasObject(id)
}

func (s *Store) hasObject(id ID) bool {
	if p, _ := s.findPacked(id); p != nil {
		return true
	}
	_, err := os.Stat(s.loosePath(id))
	return err == nil
}
