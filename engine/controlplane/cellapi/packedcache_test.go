package cellapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/releases"
)

// contentOf returns bytes that don't compress, and how to write them.
func contentOf(seed byte, size int) ([]byte, func(io.Writer) error) {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// The cache's size is bounded in memory and on disk, and the most recently used contents stay. What was evicted can be
// read to its end, and is closed then.
func TestPackedCacheIsBounded(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"memory": 1 << 20, "disk": spoolMemory + 1} {
		dir := t.TempDir()
		c := newPackedCache(4<<20, 4*(spoolMemory+1), dir)
		get := func(n byte) (*packedContent, bool) {
			b, write := contentOf(n, size)
			p, packed, err := c.get(releases.DigestBytes(b), write)
			if err != nil {
				t.Fatal(err)
			}
			return p, packed
		}
		first, _ := get(0)
		for n := range byte(10) {
			p, _ := get(n)
			if used, packed := get(0); packed {
				t.Fatalf("%s: the one used last is gone after %d", name, n)
			} else {
				c.release(used)
			}
			c.release(p)
			if c.memory > c.maxMemory || c.disk > c.maxDisk || len(c.entries) != c.order.Len() || c.order.Len() > 4 {
				t.Fatalf("%s: %d and %d bytes in %d", name, c.memory, c.disk, len(c.entries))
			}
		}
		for _, n := range []byte{20, 21, 22, 23} {
			p, _ := get(n)
			c.release(p)
		}
		want, _ := contentOf(0, size)
		if got, err := io.ReadAll(first.plain.reader()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: what was evicted is %d bytes (%v)", name, len(got), err)
		}
		c.release(first)
		if first.users != 0 || first.plain.file != nil && !errors.Is(first.plain.file.Close(), os.ErrClosed) {
			t.Errorf("%s: still open, with %d users", name, first.users)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left (%v)", name, left, err)
		}
	}
}

// R57: content that is larger than the memory and the disk for it is packed once, while nothing else is asked for.
func TestR57LargestContentIsPackedOnce(t *testing.T) {
	t.Parallel()
	c := newPackedCache(1<<20, 1<<20, t.TempDir())
	b, write := contentOf(1, spoolMemory*2)
	times, gate, all := 0, make(chan struct{}), sync.WaitGroup{}
	counted := func(w io.Writer) error {
		times++
		<-gate
		return write(w)
	}
	for range 8 {
		all.Go(func() {
			p, _, err := c.get(releases.DigestBytes(b), counted)
			if err != nil {
				t.Error(err)
				return
			}
			c.release(p)
		})
	}
	close(gate)
	all.Wait()
	p, packed, err := c.get(releases.DigestBytes(b), counted)
	if err != nil || packed || times != 1 || p.plain.file == nil || p.plain.memory.Cap() > 0 {
		t.Errorf("packed %d times (%v)", times, err)
	}
	c.release(p)
	_, _, err = c.get(releases.DigestBytes([]byte("other")), counted)
	if err == nil || len(c.entries) != 1 {
		t.Errorf("wrong bytes were taken: %v", err)
	}
}

// newDownload returns handlers with a rate, and a download of n bytes for a cell.
func newDownload(t *testing.T, rate limit.Rate, n int) (*contentHandlers, *download, []byte) {
	t.Helper()
	text := bytes.Repeat([]byte("sluice "), n/7+1)[:n]
	h := &contentHandlers{throttle: newThrottle(Limits{Bytes: rate}.withDefaults(), nil),
		auth: auth.New(auth.Options{}), releases: newPackedCache(releaseCacheSize, diskCacheSize, t.TempDir())}
	return h, &download{h.releases, &api.Caller{}, &cellEntry{}, releases.DigestBytes(text), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}, "application/x-tar"}, text
}

func (h *contentHandlers) requestForTest(d *download, method string, headers ...string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, "/v1/releases/x", nil), httptest.NewRecorder()
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	h.serveContent(w, r, d)
	return w
}

// R57: nothing is packed for a request that needs no bytes, and nothing compressed for one that needs plain ones.
func TestR57RangesCostNoCompression(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, spoolMemory + 1000} {
		h, d, text := newDownload(t, limit.Rate{}, size)
		for _, tag := range []string{`"` + string(d.digest) + `"`, `"` + string(d.digest) + `-zstd"`} {
			w := h.requestForTest(d, "GET", "If-None-Match", tag, "Accept-Encoding", "zstd")
			if w.Code != http.StatusNotModified || w.Header().Get("ETag") != tag || len(d.cache.entries) != 0 {
				t.Errorf("If-None-Match %s: %d %v", tag, w.Code, w.Header())
			}
		}
		for _, c := range []struct {
			span   string
			status int
			want   []byte
		}{
			{"bytes=0-0", 206, text[:1]}, {fmt.Sprintf("bytes=%d-", size-9), 206, text[size-9:]},
			{"bytes=-5", 206, text[size-5:]}, {fmt.Sprintf("bytes=%d-", size), 416, nil}, {"", 200, text},
		} {
			encoding := "zstd"
			if c.span == "" {
				encoding = "identity"
			}
			w := h.requestForTest(d, "GET", "Range", c.span, "Accept-Encoding", encoding)
			if w.Code != c.status || c.want != nil && !bytes.Equal(w.Body.Bytes(), c.want) {
				t.Errorf("range %q: %d, %d bytes", c.span, w.Code, w.Body.Len())
			}
		}
		p, packed, err := d.cache.get(d.digest, d.write)
		if err != nil || packed || p.compressed {
			t.Fatalf("packed %t, compressed %t (%v)", packed, p.compressed, err)
		}
		d.cache.release(p)
		w := h.requestForTest(d, "GET", "Accept-Encoding", "zstd")
		decoder, err := zstd.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(decoder); err != nil || !bytes.Equal(got, text) || w.Body.Len() >= size {
			t.Errorf("compressed: %d bytes (%v)", len(got), err)
		}
		decoder.Close()
	}
}

// R57: one cell's downloads share a rate in bytes, and no other cell waits for it.
func TestR57DownloadsHaveARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		h, d, text := newDownload(t, limit.Rate{PerSecond: mib, Burst: mib}, 3*mib)
		begun := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if w := h.requestForTest(d, "GET"); !bytes.Equal(w.Body.Bytes(), text) {
					t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
				}
			})
		}
		all.Wait()
		// Nine, of which one is the burst; and half the burst for packing.
		if took := time.Since(begun); took < 8*time.Second || took > 10*time.Second {
			t.Errorf("9 MiB at 1 MiB a second took %s", took)
		}
		begun = time.Now()
		other := *d
		other.entry = &cellEntry{}
		h.requestForTest(&other, "GET", "Range", "bytes=0-99999")
		if took := time.Since(begun); took != 0 {
			t.Errorf("another cell waited %s", took)
		}
		local := *d
		local.entry = nil
		h.requestForTest(&local, "GET")
		if took := time.Since(begun); took != 0 {
			t.Errorf("a caller on this machine waited %s", took)
		}
	})
}
