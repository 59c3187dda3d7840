package cellapi

import (
	"fmt"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// The cache's size is bounded, and the most recently used contents stay.
func TestPackedCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newPackedCache(releaseCacheSize)
	digest := func(n int) releases.Digest { return releases.DigestBytes(fmt.Append(nil, n)) }
	const size = releaseCacheSize / 4
	for n := range 10 {
		c.insert(&packedContent{digest: digest(n), plain: make([]byte, size)})
		c.insert(&packedContent{digest: digest(n), plain: make([]byte, size)}) // packed twice at once
		if c.lookUp(digest(0)) == nil {
			t.Fatalf("the one used last is gone after %d", n)
		}
		if c.bytes > releaseCacheSize || c.bytes != size*len(c.entries) || len(c.entries) != c.order.Len() {
			t.Fatalf("%d bytes in %d, bound %d", c.bytes, len(c.entries), releaseCacheSize)
		}
	}
	for n, want := range map[int]bool{0: true, 5: false, 8: true, 9: true} {
		if got := c.lookUp(digest(n)) != nil; got != want {
			t.Errorf("release %d kept: %v", n, got)
		}
	}
	c.insert(&packedContent{digest: digest(99), plain: make([]byte, releaseCacheSize+1)})
	if c.lookUp(digest(99)) != nil || c.lookUp(digest(9)) == nil {
		t.Error("one that is larger than all the room pushed the others out")
	}
}
