package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/releases"
)

// keptCache is a cache and the registry behind it.
type keptCache struct {
	*Cache
	fetched int
	away    bool
}

func newKeptCache(t *testing.T, quota int64) *keptCache {
	t.Helper()
	c, err := openCache(Options{Dir: t.TempDir(), Quota: quota, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	c.counters = newCounters(c.usage, func() (images, bytes int64) { return 0, 0 })
	t.Cleanup(func() { c.stop(); c.running.Wait() })
	return &keptCache{Cache: c}
}

// pull returns what the cache serves of some content.
func (c *keptCache) pull(content []byte) ([]byte, error) {
	d := Descriptor{Digest: releases.DigestBytes(content), Size: int64(len(content))}
	opened, err := c.open(context.Background(), d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		if c.away {
			return nil, &UpstreamError{Status: http.StatusNotFound, Problem: "it is away"}
		}
		c.fetched++
		return io.NopCloser(bytes.NewReader(content[offset:])), nil
	})
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(opened)
	return text, errors.Join(err, opened.Close())
}

func (c *keptCache) want(t *testing.T, content []byte, fetched int) {
	t.Helper()
	if text, err := c.pull(content); err != nil || !bytes.Equal(text, content) || c.fetched != fetched {
		t.Errorf("%d bytes after %d fetches, %v; want %d after %d", len(text), c.fetched, err, len(content), fetched)
	}
}

// What is kept is served for days without the registry. A file that is damaged meanwhile is found within a week, and is
// fetched again.
func TestKeptContentIsCheckedWeekly(t *testing.T) {
	t.Parallel()
	c := newKeptCache(t, 1<<20)
	content := bytes.Repeat([]byte("layer"), 20_000)
	c.want(t, content, 1)
	c.want(t, content, 1) // checked now
	c.away = true
	now := time.Now()
	if err := c.scrub(t.Context(), now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	c.want(t, content, 1)
	file := c.fileName(releases.DigestBytes(content))
	damaged := bytes.Clone(content)
	damaged[77_777] ^= 1
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.scrub(t.Context(), now.Add(8*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) || c.counters.damaged.Load() != 1 {
		t.Errorf("the damaged file is still there: %v, %d found", err, c.counters.damaged.Load())
	}
	if text, err := c.pull(content); err == nil {
		t.Errorf("%d bytes of a registry that is away", len(text))
	}
	c.away = false
	c.want(t, content, 2)
	if used, _ := c.usage(); used != int64(len(content)) {
		t.Errorf("%d bytes count as used", used)
	}
}

// What a channel's head names stays, though it was used longest ago. If all that is kept is of heads, the rest passes
// through.
func TestHeadsContentStays(t *testing.T) {
	t.Parallel()
	c := newKeptCache(t, 250_000)
	of := func(c string) []byte { return bytes.Repeat([]byte(c), 100_000) }
	head, next, last := of("h"), of("n"), of("l")
	c.want(t, head, 1)
	c.want(t, next, 2)
	inUse := map[releases.Digest]bool{releases.DigestBytes(head): true}
	c.inUse.Store(&inUse)
	c.want(t, last, 3)
	c.want(t, head, 3)
	c.want(t, last, 3)
	c.want(t, next, 4) // it made room for the last
	inUse = map[releases.Digest]bool{releases.DigestBytes(head): true, releases.DigestBytes(next): true}
	c.inUse.Store(&inUse)
	c.want(t, last, 5)
	c.want(t, last, 6)
	if n := c.counters.through.Load(); n != 2 {
		t.Errorf("%d reads passed through", n)
	}
	c.want(t, next, 6)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "x": 0,
		"999999999": 24 * time.Hour, "Mon, 30 Nov 2026 03:01:00 GMT": time.Minute, "Mon, 30 Nov 2026 02:59:00 GMT": 0,
		"Mon, 30 Nov 2099 03:00:00 GMT": 24 * time.Hour} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// heldReader gives some bytes, and the rest once it may.
type heldReader struct {
	first, rest io.Reader
	may         <-chan struct{}
}

func (r *heldReader) Read(b []byte) (int, error) {
	if n, err := r.first.Read(b); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	<-r.may
	return r.rest.Read(b)
}

// Another process's fill turned out to be damaged: who was given bytes of it gets an error, never the rest of other
// bytes, and whoever asks again gets what is right.
func TestFillBegunAnew(t *testing.T) {
	content := bytes.Repeat([]byte("layer "), 80_000)
	damaged := bytes.Clone(content)
	damaged[0] = 'x'
	dir, may := t.TempDir(), make(chan struct{})
	open := func(fetch fetchFunc) *Content {
		c, err := openCache(Options{Dir: dir, Quota: 1 << 30, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		c.counters = newCounters(c.usage, func() (images, bytes int64) { return 0, 0 })
		t.Cleanup(func() { c.stop(); c.running.Wait() })
		d := Descriptor{Digest: releases.DigestBytes(content), Size: int64(len(content))}
		opened, err := c.open(t.Context(), d, fetch)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = opened.Close() })
		return opened
	}
	first := open(func(context.Context, int64) (io.ReadCloser, error) {
		begin, rest := bytes.NewReader(damaged[:300_000]), bytes.NewReader(damaged[300_000:])
		return io.NopCloser(&heldReader{begin, rest, may}), nil
	})
	right := func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content[offset:])), nil
	}
	begun := make([]byte, 1000)
	if _, err := io.ReadFull(first, begun); err != nil { // the other process is under way
		t.Fatal(err)
	}
	second := open(right)
	if _, err := io.ReadFull(second, begun); err != nil || begun[0] != 'x' {
		t.Fatalf("it does not follow the other process: %q, %v", begun[0], err)
	}
	close(may)
	if _, err := io.ReadAll(second); !errors.Is(err, errAnew) {
		t.Errorf("bytes of two contents: %v", err)
	}
	if text, err := io.ReadAll(open(right)); err != nil || !bytes.Equal(text, content) {
		t.Errorf("asked again: %d bytes, %v", len(text), err)
	}
}
