package cellapi

import (
	"container/list"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-cd/sluice/releases"
)

// packedContent is something as it travels: a release's tar, or a bundle of flags. zstd is nil where it would not be smaller.
type packedContent struct {
	digest      releases.Digest
	plain, zstd []byte
}

func (p *packedContent) size() int { return len(p.plain) + len(p.zstd) }

// packedCache packs each thing once while it is asked for, and keeps those used last.
type packedCache struct {
	capacity int // bytes that are kept
	packing  singleflight.Group

	mu      sync.Mutex // guards what follows
	entries map[releases.Digest]*list.Element
	order   *list.List // of *packed, used last in front
	bytes   int
}

func newPackedCache(room int) *packedCache {
	return &packedCache{capacity: room, entries: map[releases.Digest]*list.Element{}, order: list.New()}
}

// get gives what read gives, packed. Only one reads at a time, and bytes that are not what the digest says never leave (invariant 5).
func (c *packedCache) get(digest releases.Digest, read func() ([]byte, error)) (*packedContent, error) {
	if p := c.lookUp(digest); p != nil {
		return p, nil
	}
	p, err, _ := c.packing.Do(string(digest), func() (any, error) {
		plain, err := read()
		if err != nil {
			return nil, err
		}
		if got := releases.DigestBytes(plain); got != digest {
			return nil, fmt.Errorf("its bytes are %s: the mirror of the repository is damaged: remove it, and it is cloned again", got.Short())
		}
		p, err := pack(digest, plain)
		if err == nil {
			c.insert(p)
		}
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", digest.Short(), err)
	}
	return p.(*packedContent), nil
}

func pack(digest releases.Digest, plain []byte) (*packedContent, error) {
	p := &packedContent{digest: digest, plain: plain}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	smaller := encoder.EncodeAll(plain, nil)
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if len(smaller) < len(plain) {
		p.zstd = smaller
	}
	return p, nil
}

func (c *packedCache) lookUp(digest releases.Digest) *packedContent {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[digest]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*packedContent)
}

// insert holds on to p and lets go of those not used for longest. One that is larger than all the room is not kept.
func (c *packedCache) insert(p *packedContent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[p.digest] != nil || p.size() > c.capacity {
		return
	}
	c.entries[p.digest] = c.order.PushFront(p)
	c.bytes += p.size()
	for c.bytes > c.capacity {
		oldest := c.order.Remove(c.order.Back()).(*packedContent)
		delete(c.entries, oldest.digest)
		c.bytes -= oldest.size()
	}
}
