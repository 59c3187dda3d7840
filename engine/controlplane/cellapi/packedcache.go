package cellapi

import (
	"container/list"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-cd/sluice/releases"
)

// packedContent is a release's tar or a flag bundle, plain and compressed. zstd is nil if it would not be smaller.
type packedContent struct {
	digest      releases.Digest
	plain, zstd []byte
}

func (p *packedContent) size() int { return len(p.plain) + len(p.zstd) }

// packedCache is an LRU cache that packs each content once, however many requests wait for it.
type packedCache struct {
	capacity int // bytes
	packing  singleflight.Group

	mu      sync.Mutex // guards what follows
	entries map[releases.Digest]*list.Element
	order   *list.List // of *packedContent, most recently used first
	bytes   int
}

func newPackedCache(room int) *packedCache {
	return &packedCache{capacity: room, entries: map[releases.Digest]*list.Element{}, order: list.New()}
}

// get returns the content with a digest, from the cache or from read. Only one goroutine reads a digest at a time.
// Bytes that do not match the digest are never returned (invariant 5).
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
			return nil, fmt.Errorf(
				"its bytes have the digest %s: the mirror of the repository is damaged: remove it, and it is "+
					"cloned again", got.Short())
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

// insert adds p and evicts the least recently used contents. Content larger than the capacity is not cached.
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
