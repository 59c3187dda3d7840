package objects

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/flate"
)

// maxIndex bounds a pack's index, in bytes: about 17 million objects.
const maxIndex = 512 << 20

// pack is one pack, with its index in memory. The file stays readable when git removes it; the runtime closes it when
// the pack is unreachable.
type pack struct {
	name       string
	file       *os.File
	fanout     []byte // 256 big-endian counts
	ids        []byte // sorted ids
	offsets    []byte // four bytes for each object
	farOffsets []byte // eight bytes for each offset beyond 2 GiB
}

// openPack reads name.idx (gitformat-pack, version 2) and opens name.pack.
func openPack(name string) (*pack, error) {
	info, err := os.Stat(name + ".idx")
	if err != nil {
		return nil, err
	}
	if info.Size() > maxIndex {
		return nil, fmt.Errorf("%w: pack index %s", ErrTooLarge, name)
	}
	idx, err := os.ReadFile(name + ".idx")
	if err != nil {
		return nil, err
	}
	const head = 8 + 256*4
	if len(idx) < head+40 || !bytes.Equal(idx[:8], []byte{0xff, 't', 'O', 'c', 0, 0, 0, 2}) {
		return nil, fmt.Errorf("%w: %s.idx is no version 2 pack index", ErrCorrupt, name)
	}
	p := &pack{name: name, fanout: idx[8:head]}
	last := 0
	for i := range 256 {
		if n := p.fanoutCount(i); n < last {
			return nil, fmt.Errorf("%w: %s.idx has a falling fan-out", ErrCorrupt, name)
		} else {
			last = n
		}
	}
	body := idx[head : len(idx)-40]
	if len(body) < last*28 || (len(body)-last*28)%8 != 0 {
		return nil, fmt.Errorf("%w: %s.idx has the wrong size", ErrCorrupt, name)
	}
	p.ids, p.offsets, p.farOffsets = body[:last*20], body[last*24:last*28], body[last*28:]
	p.file, err = os.Open(name + ".pack")
	return p, err
}

func (p *pack) fanoutCount(i int) int { return int(binary.BigEndian.Uint32(p.fanout[i*4:])) }

// findOffset returns the offset of an object in the pack.
func (p *pack) findOffset(id ID) (int64, bool) {
	lo, hi := 0, p.fanoutCount(int(id[0]))
	if id[0] > 0 {
		lo = p.fanoutCount(int(id[0]) - 1)
	}
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch c := bytes.Compare(p.ids[mid*20:mid*20+20], id[:]); {
		case c < 0:
			lo = mid + 1
		case c > 0:
			hi = mid
		default:
			return p.offsetAt(mid), true
		}
	}
	return 0, false
}

func (p *pack) offsetAt(i int) int64 {
	o := binary.BigEndian.Uint32(p.offsets[i*4:])
	if o < 1<<31 {
		return int64(o)
	}
	if far := int(o&(1<<31-1)) * 8; far+8 <= len(p.farOffsets) {
		return int64(binary.BigEndian.Uint64(p.farOffsets[far:]) & (1<<63 - 1))
	}
	return -1 // reading there returns an error
}

// packEntry is one object in a pack: whole, or a delta against another object.
type packEntry struct {
	kind       Kind
	data       []byte // inflated
	baseOffset int64  // of an offset delta: the offset of its base
	baseID     ID     // of a ref delta: the id of its base
}

// scratch is the memory for reading one entry, kept for the next entry, which is often a neighbour.
type scratch struct {
	window       [8 << 10]byte
	windowPack   *pack // the pack whose bytes are in window; nil: none
	windowOffset int64 // offset in the pack of window's first byte
	windowSize   int   // number of valid bytes in window

	short  bytes.Reader
	long   *bufio.Reader
	flater io.ReadCloser
}

var scratches = sync.Pool{New: func() any {
	return &scratch{long: bufio.NewReaderSize(nil, 32<<10), flater: flate.NewReader(bytes.NewReader(nil))}
}}

// readEntry reads the entry at offset. most bounds the inflated bytes; if negative, all up to limit are inflated.
func (p *pack) readEntry(offset, limit int64, most int) (e packEntry, size int64, err error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	first, err := s.readWindow(p, offset)
	if err != nil {
		return e, 0, fmt.Errorf("%w: %s.pack: %w", ErrCorrupt, p.name, err)
	}
	head, err := e.parseHead(first, offset, &size)
	if err != nil {
		return e, 0, fmt.Errorf("%w in %s.pack at %d", err, p.name, offset)
	}
	if size > limit {
		return e, size, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, limit)
	}
	want := int(size)
	if most >= 0 {
		want = min(want, most)
	}
	e.data = make([]byte, want)
	if want <= len(s.window) {
		s.short.Reset(first[head:])
		if s.inflate(&s.short, e.data) == nil {
			return e, size, nil
		}
	}
	s.long.Reset(io.NewSectionReader(p.file, offset+int64(head), 1<<62))
	if err := s.inflate(s.long, e.data); err != nil {
		return e, size, fmt.Errorf("%w in %s.pack at %d: %w", ErrCorrupt, p.name, offset, err)
	}
	return e, size, nil
}

// readWindow returns the pack's bytes at offset: enough for most entries, and always enough for an entry's head.
func (s *scratch) readWindow(p *pack, offset int64) ([]byte, error) {
	const enough = 1 << 10
	if skip := offset - s.windowOffset; s.windowPack == p && skip >= 0 && skip+enough <= int64(s.windowSize) {
		return s.window[skip:s.windowSize], nil
	}
	n, err := p.file.ReadAt(s.window[:], offset)
	if s.windowPack, s.windowOffset, s.windowSize = p, offset, n; err != nil && !errors.Is(err, io.EOF) {
		s.windowPack = nil
		return nil, err
	}
	return s.window[:n], nil
}

// parseHead reads an entry's head and returns its length, zlib's own two bytes included. zlib's checksum is not
// checked, since the object's id is.
func (e *packEntry) parseHead(b []byte, offset int64, size *int64) (int, error) {
	at, short := 0, false
	next := func() byte {
		if at >= len(b) {
			short = true
			return 0
		}
		at++
		return b[at-1]
	}
	c := next()
	e.kind = Kind(c >> 4 & 7)
	*size = int64(c & 15)
	for shift := 4; c&0x80 != 0 && shift < 60; shift += 7 {
		c = next()
		*size |= int64(c&0x7f) << shift
	}
	switch e.kind {
	case CommitKind, TreeKind, BlobKind, TagKind:
	case offsetDelta:
		c = next()
		back := int64(c & 0x7f)
		for c&0x80 != 0 && back < 1<<55 {
			c = next()
			back = (back+1)<<7 | int64(c&0x7f)
		}
		if e.baseOffset = offset - back; back <= 0 || e.baseOffset < 12 {
			return 0, fmt.Errorf("%w: delta without a base", ErrCorrupt)
		}
	case refDelta:
		for i := range e.baseID {
			e.baseID[i] = next()
		}
	default:
		return 0, fmt.Errorf("%w: unknown %v", ErrCorrupt, e.kind)
	}
	cmf, flg := next(), next()
	if short || cmf&15 != 8 || flg&0x20 != 0 {
		return 0, fmt.Errorf("%w: broken entry", ErrCorrupt)
	}
	return at, nil
}

func (s *scratch) inflate(from io.Reader, into []byte) error {
	if err := s.flater.(flate.Resetter).Reset(from, nil); err != nil {
		return err
	}
	_, err := io.ReadFull(s.flater, into)
	return err
}
