package cellapi

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-cd/sluice/releases"
)

// packedContent is a release's tar or a flag bundle, plain and, once someone asked for it, compressed.
type packedContent struct {
	digest releases.Digest
	plain  *spool

	compressing sync.Mutex // held to compress
	compressed  bool       // guarded by compressing: zstd is final
	zstd        *spool     // guarded by the cache's mutex; nil: not compressed, or it would not be smaller

	users int // guarded by the cache's mutex; the cache is one
}

// packedCache is an LRU cache that packs each content once, however many requests wait for it. What is large is on
// disk, so that neither a large release nor a slow reader takes memory.
type packedCache struct {
	maxMemory, maxDisk int64  // bytes
	dir                string // of files; empty: the system's for temporary files
	packing            singleflight.Group
	processors         chan struct{} // holds one value for each that packs or compresses: a part of them is left

	mu           sync.Mutex // guards what follows
	entries      map[releases.Digest]*list.Element
	order        *list.List // of *packedContent, most recently used first
	memory, disk int64      // bytes
}

func newPackedCache(maxMemory, maxDisk int64, dir string) *packedCache {
	return &packedCache{maxMemory: maxMemory, maxDisk: maxDisk, dir: dir,
		processors: make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),
		entries:    map[releases.Digest]*list.Element{}, order: list.New()}
}

// get returns the content with a digest, from the cache or from write, and reports whether it was packed just now. The
// caller calls release. Only one goroutine packs a digest at a time. Bytes that do not match the digest are never
// returned (invariant 5).
func (c *packedCache) get(
	digest releases.Digest, write func(io.Writer) error,
) (p *packedContent, packed bool, err error) {
	for {
		if p := c.lookUp(digest); p != nil {
			return p, packed, nil
		}
		one, err, _ := c.packing.Do(string(digest), func() (any, error) {
			if p := c.lookUp(digest); p != nil { // since a moment ago
				c.release(p)
				return p, nil
			}
			packed = true
			return c.pack(digest, write)
		})
		if err != nil {
			return nil, packed, fmt.Errorf("pack %s: %w", digest.Short(), err)
		}
		if p := one.(*packedContent); c.use(p) {
			return p, packed, nil
		} // else it was evicted, and all others that waited for it have finished
	}
}

// pack packs content and inserts it. The cache is its first user.
func (c *packedCache) pack(digest releases.Digest, write func(io.Writer) error) (*packedContent, error) {
	c.processors <- struct{}{}
	defer func() { <-c.processors }()
	plain, sum := &spool{dir: c.dir}, sha256.New()
	if err := write(io.MultiWriter(plain, sum)); err != nil {
		plain.close()
		return nil, err
	}
	if got := releases.DigestFromSum(sum.Sum(nil)); got != digest {
		plain.close()
		return nil, fmt.Errorf("its bytes have the digest %s: the mirror of the repository is damaged: remove it, and "+
			"it is cloned again", got.Short())
	}
	p := &packedContent{digest: digest, plain: plain, users: 1}
	c.insert(p)
	return p, nil
}

// compress returns p compressed, or nil if that would not be smaller. The first to ask compresses.
func (c *packedCache) compress(p *packedContent) (*spool, error) {
	p.compressing.Lock()
	defer p.compressing.Unlock()
	if p.compressed {
		return p.zstd, nil
	}
	c.processors <- struct{}{}
	defer func() { <-c.processors }()
	smaller := &spool{dir: c.dir}
	encoder, err := zstd.NewWriter(smaller, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	encoder.ResetContentSize(smaller, p.plain.size)
	_, err = io.Copy(encoder, p.plain.reader())
	if closed := encoder.Close(); err == nil {
		err = closed
	}
	if err != nil {
		smaller.close()
		return nil, fmt.Errorf("compress %s: %w", p.digest.Short(), err)
	}
	if p.compressed = true; smaller.size >= p.plain.size {
		smaller.close()
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.zstd = smaller
	if e := c.entries[p.digest]; e != nil && e.Value == any(p) {
		c.memory, c.disk = c.memory+smaller.memorySize(), c.disk+smaller.diskSize()
		c.evict()
	}
	return smaller, nil
}

func (c *packedCache) lookUp(digest releases.Digest) *packedContent {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[digest]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	p := e.Value.(*packedContent)
	p.users++
	return p
}

// use counts a user of p in, unless p is closed.
func (c *packedCache) use(p *packedContent) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.users == 0 {
		return false
	}
	p.users++
	return true
}

// release counts a user of p out. The last one closes it.
func (c *packedCache) release(p *packedContent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(p)
}

func (c *packedCache) releaseLocked(p *packedContent) {
	if p.users--; p.users == 0 {
		p.plain.close()
		p.zstd.close()
	}
}

// insert adds p and evicts the least recently used contents. The newest stays, however large.
func (c *packedCache) insert(p *packedContent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[p.digest] = c.order.PushFront(p)
	c.memory, c.disk = c.memory+p.plain.memorySize(), c.disk+p.plain.diskSize()
	c.evict()
}

// evict takes the least recently used contents out until the others fit. The caller holds c.mu.
func (c *packedCache) evict() {
	for (c.memory > c.maxMemory || c.disk > c.maxDisk) && c.order.Len() > 1 {
		oldest := c.order.Remove(c.order.Back()).(*packedContent)
		delete(c.entries, oldest.digest)
		c.memory -= oldest.plain.memorySize() + oldest.zstd.memorySize()
		c.disk -= oldest.plain.diskSize() + oldest.zstd.diskSize()
		c.releaseLocked(oldest)
	}
}
