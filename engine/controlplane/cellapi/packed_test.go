package cellapi

import (
	"fmt"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// What is kept is bounded, and what was used last stays.
func TestContentsAreBounded(t *testing.T) {
	t.Parallel()
	c := newPackedCache(keptReleases)
	digest := func(n int) releases.Digest { return releases.DigestBytes(fmt.Append(nil, n)) }
	const size = keptReleases / 4
	for n := range 10 {
		c.keep(&packed{digest: digest(n), plain: make([]byte, size)})
		c.keep(&packed{digest: digest(n), plain: make([]byte, size)}) // packed twice at once: kept once
		if c.use(digest(0)) == nil {
			t.Fatalf("the one used last is gone after %d", n)
		}
		if c.bytes > keptReleases || c.bytes != size*len(c.kept) || len(c.kept) != c.order.Len() {
			t.Fatalf("%d bytes in %d, bound %d", c.bytes, len(c.kept), keptReleases)
		}
	}
	for n, want := range map[int]bool{0: true, 5: false, 8: true, 9: true} {
		if got := c.use(digest(n)) != nil; got != want {
			t.Errorf("release %d kept: %v", n, got)
		}
	}
	c.keep(&packed{digest: digest(99), plain: make([]byte, keptReleases+1)})
	if c.use(digest(99)) != nil || c.use(digest(9)) == nil {
		t.Error("one that is larger than all the room pushed the others out")
	}
}
