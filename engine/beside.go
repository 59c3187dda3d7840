package engine

import (
	"context"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/releases"
)

// besideReader reads releases beside the loop, the greatest version first, so that no decision waits for hashing (R48).
// What it read is in the cache that it was given, for the next Load. Methods but run work on a nil reader.
type besideReader struct {
	work wake.Signal

	mu     sync.Mutex // guards what follows
	cache  *manifest.Cache
	files  fs.FS
	unread []releases.Version // the greatest last
	news   bool               // something was read since the last begin
}

// readBeside lets l leave releases unread that run reads. It returns run, which ends with ctx and calls notify when
// l has news.
func (l *Loader) readBeside(notify func()) (run func(context.Context)) {
	b := &besideReader{work: wake.New()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beside = b
	return func(ctx context.Context) { b.run(ctx, notify) }
}

// begin says what d leaves to be read.
func (b *besideReader) begin(cache *manifest.Cache, files fs.FS, d *plan.Desired) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cache, b.files, b.news, b.unread = cache, files, false, nil
	for _, r := range d.Versions {
		if r.Unread {
			b.unread = append(b.unread, r.Version)
		}
	}
	if len(b.unread) > 0 {
		b.work.Notify()
	}
}

func (b *besideReader) hasNews() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.news
}

// HasNews reports whether a Load of the same commit would know more.
func (l *Loader) HasNews() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beside.hasNews()
}

// tellAfter is how long what was read waits for more: each news makes the loop load and plan again.
const tellAfter = time.Second

func (b *besideReader) run(ctx context.Context, notify func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.work:
		}
		b.mu.Lock()
		cache, files, unread := b.cache, b.files, b.unread
		b.mu.Unlock()
		told := time.Now()
		for i, v := range slices.Backward(unread) {
			if ctx.Err() != nil {
				return
			}
			releases.ReadRelease(cache, files, v)
			if i > 0 && time.Since(told) < tellAfter {
				continue
			}
			told = time.Now()
			b.mu.Lock()
			b.news = true
			b.mu.Unlock()
			notify()
			if len(b.work) > 0 { // another commit, perhaps with greater versions
				break
			}
		}
	}
}
