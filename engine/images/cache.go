package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

const (
	defaultQuota = 20 << 30
	scrubPeriod  = 7 * 24 * time.Hour // in which all content is checked once
	scrubPause   = time.Minute        // between two looks for what is due
	fullPause    = time.Minute        // in which nothing is kept after the disk was full
	usedStep     = time.Minute        // how exactly the last use is known
	partSuffix   = ".part"
	lockSuffix   = ".lock"

	firstBytesWait = 15 * time.Second // for a registry's first bytes; then they are waited for while content is read
)

// Cache keeps content by digest in a folder, which processes may share. A file with a digest's name is complete and was
// right when it was written; each process checks it again before its first use, and weekly.
type Cache struct {
	dir      string
	quota    int64
	inUse    atomic.Pointer[map[releases.Digest]bool] // never evicted; nil: not known yet, and nothing is
	log      zerolog.Logger
	counters *counters

	mu        sync.Mutex
	kept      map[releases.Digest]*keptFile
	fills     map[releases.Digest]*fill
	used      int64 // bytes of what is kept, and reserved for fills
	fullUntil time.Time
	ctx       context.Context // of fills
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// keptFile is a complete file.
type keptFile struct {
	size int64
	used time.Time // guarded by Cache.mu

	checking sync.Mutex
	checked  time.Time // guarded by checking; zero: not by this process
}

func openCache(o Options) (*Cache, error) {
	c := &Cache{dir: o.Dir, quota: cmp.Or(o.Quota, defaultQuota), log: o.Log,
		kept: map[releases.Digest]*keptFile{}, fills: map[releases.Digest]*fill{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the images' folder: %w", err)
	}
	if err := c.readFolder(); err != nil {
		return nil, fmt.Errorf("open the images' folder: %w", err)
	}
	return c, nil
}

func (c *Cache) fileName(d releases.Digest) string { return filepath.Join(c.dir, d.Hex()) }
func (c *Cache) partName(d releases.Digest) string { return c.fileName(d) + partSuffix }
func (c *Cache) lockName(d releases.Digest) string { return c.fileName(d) + lockSuffix }

// readFolder finds what is kept. Parts of fills that died are removed when somebody fills again, or by scrub.
func (c *Cache) readFolder() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[releases.Digest]bool{}
	for _, e := range entries {
		digest, err := releases.ParseDigest("sha256:" + e.Name())
		if err != nil || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil { // else just removed
			found[digest] = true
			c.add(digest, info)
		}
	}
	for digest := range c.kept {
		if !found[digest] {
			c.remove(digest)
		}
	}
	return nil
}

// add is called with mu.
func (c *Cache) add(digest releases.Digest, info fs.FileInfo) *keptFile {
	if k := c.kept[digest]; k != nil {
		return k
	}
	used := info.ModTime()
	if now := time.Now(); used.After(now) { // the clock went back: a file of the future would never be the oldest
		used = now
	}
	k := &keptFile{size: info.Size(), used: used}
	c.kept[digest] = k
	c.used += k.size
	return k
}

// remove forgets a file. It is called with mu.
func (c *Cache) remove(digest releases.Digest) {
	if k := c.kept[digest]; k != nil {
		c.used -= k.size
		delete(c.kept, digest)
	}
}

func (c *Cache) usage() (used, quota int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used, c.quota
}

// open opens content: what is kept, else what a fill brings.
func (c *Cache) open(ctx context.Context, d Descriptor, fetch fetchFunc) (*Content, error) {
	kept, err := c.openKept(d.Digest)
	if kept != nil || err != nil {
		return kept, err
	}
	c.mu.Lock()
	f := c.fills[d.Digest]
	if f == nil {
		f = c.beginFill(d, fetch)
	}
	if f == nil {
		c.mu.Unlock()
		c.counters.through.Inc()
		return c.openThrough(ctx, d, fetch)
	}
	f.mu.Lock()
	f.readers++
	f.mu.Unlock()
	c.mu.Unlock()
	content := &Content{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, reader: &follower{ctx: ctx, f: f}}
	if content.Size, err = f.await(ctx); err != nil {
		_ = content.Close()
		if isDiskFull(err) {
			return c.openThrough(ctx, d, fetch)
		}
		return nil, err
	}
	return content, nil
}

// openThrough opens content that is not kept.
func (c *Cache) openThrough(ctx context.Context, d Descriptor, fetch fetchFunc) (*Content, error) {
	t := &through{ctx: ctx, fetch: fetch, d: d}
	err := t.restart()
	if err == nil && d.Size >= 0 {
		return &Content{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, reader: t}, nil
	}
	for err == nil && !t.ended { // a manifest, which is small
		err = t.more()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	return inMemory(d, t.ready), nil
}

// has reports whether a complete file is here.
func (c *Cache) has(digest releases.Digest) bool {
	_, err := os.Stat(c.fileName(digest))
	return err == nil
}

// openKept opens a complete file; nil: there is none. A damaged one is removed, to be fetched again.
func (c *Cache) openKept(digest releases.Digest) (*Content, error) {
	file, err := os.Open(c.fileName(digest))
	if errors.Is(err, fs.ErrNotExist) { // never here, or evicted by another process
		c.mu.Lock()
		c.remove(digest)
		c.mu.Unlock()
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open an image's content: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	now := time.Now()
	c.mu.Lock()
	k := c.add(digest, info)
	touch := now.Sub(k.used) > usedStep
	k.used = now
	c.mu.Unlock()
	if touch {
		_ = os.Chtimes(c.fileName(digest), time.Time{}, now) // for the next process; the file is right without
	}
	right, err := c.check(k, file, digest, now, 0)
	if err != nil || !right {
		return nil, errors.Join(err, file.Close())
	}
	return &Content{Digest: digest, Size: info.Size(), Kept: true, reader: file}, nil
}

// check reads a file that was not checked within a time, or never if that is zero, and removes it if it is damaged.
func (c *Cache) check(k *keptFile, file *os.File, digest releases.Digest, now time.Time, within time.Duration) (
	right bool, err error) {

	k.checking.Lock()
	defer k.checking.Unlock()
	if !k.checked.IsZero() && (within == 0 || now.Sub(k.checked) < within) {
		return true, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(file, 0, maxBlob)); err != nil {
		return false, fmt.Errorf("check an image's content: %w", err)
	}
	if releases.DigestFromSum(hash.Sum(nil)) == digest {
		k.checked = now
		return true, nil
	}
	c.counters.damaged.Inc()
	c.log.Error().Str("digest", string(digest)).Str("file", file.Name()).
		Msg("an image's content was damaged on disk: it is removed, and fetched again when it is asked for")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(digest)
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove damaged content: %w", err)
	}
	return false, nil
}

// beginFill starts a fill, or returns nil if there is no room. It is called with mu.
func (c *Cache) beginFill(d Descriptor, fetch fetchFunc) *fill {
	if c.ctx.Err() != nil || time.Now().Before(c.fullUntil) || !c.reserve(d.limit()) {
		return nil
	}
	f := &fill{d: d, cache: c, size: d.Size, changed: make(chan struct{})}
	c.fills[d.Digest] = f
	c.counters.fills.Inc()
	c.running.Go(func() { f.run(c.ctx, fetch) })
	return f
}

// reserve takes n bytes of the quota, and evicts what was used longest ago if it must. It is called with mu.
func (c *Cache) reserve(n int64) bool {
	if n > c.quota {
		return false
	}
	if c.used+n > c.quota {
		c.evict(c.used + n - c.quota)
	}
	if c.used+n > c.quota {
		return false
	}
	c.used += n
	return true
}

// evict removes at least n bytes, if that many may go. It is called with mu.
func (c *Cache) evict(n int64) {
	oldest := make([]releases.Digest, 0, len(c.kept))
	for digest := range c.kept {
		oldest = append(oldest, digest)
	}
	slices.SortFunc(oldest, func(a, b releases.Digest) int { return c.kept[a].used.Compare(c.kept[b].used) })
	inUse := c.inUse.Load()
	if inUse == nil {
		return
	}
	for _, digest := range oldest {
		if n <= 0 {
			return
		}
		if (*inUse)[digest] {
			continue
		}
		if err := os.Remove(c.fileName(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn().Err(err).Msg("an image's content can't be evicted")
			continue
		}
		n -= c.kept[digest].size
		c.remove(digest)
		c.counters.evicted.Inc()
	}
}

// publish makes a complete file durable under its digest's name.
func (c *Cache) publish(file *os.File, part string, digest releases.Digest) error {
	if err := file.Sync(); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	if err := os.Rename(part, c.fileName(digest)); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// endFill gives back what a fill reserved, and counts what it brought.
func (c *Cache) endFill(f *fill, err error) {
	info, statErr := os.Stat(c.fileName(f.d.Digest))
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fills, f.d.Digest)
	c.used -= f.d.limit()
	switch {
	case err == nil && statErr == nil:
		k := c.add(f.d.Digest, info)
		k.used = time.Now()
		c.counters.filled.Add(info.Size())
	case isDiskFull(err):
		c.fullUntil = time.Now().Add(fullPause)
		c.log.Error().Msg("the disk of the images' folder is full: content is passed through and not kept")
		fallthrough
	default:
		c.counters.failed.Inc()
	}
}

// await returns the size of a fill once its first bytes are here: a registry's refusal comes instead of them, when a
// client can still be told. One that is unknown is known at its end.
func (f *fill) await(ctx context.Context) (int64, error) {
	patience := time.NewTimer(firstBytesWait)
	defer patience.Stop()
	for late := false; ; {
		f.mu.Lock()
		done, err, written, wait := f.done, f.err, f.written, f.changed
		f.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case done:
			return written, nil
		case f.d.Size >= 0 && (late || written > 0):
			return f.d.Size, nil
		}
		select {
		case <-wait:
		case <-patience.C:
			late = true
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// run checks what is kept and follows what other processes change, until ctx ends.
func (c *Cache) run(ctx context.Context) error {
	defer c.running.Wait()
	defer c.stop()
	for backoff.Sleep(ctx, scrubPause) == nil {
		if err := c.scrub(ctx, time.Now()); err != nil {
			c.log.Warn().Err(err).Msg("the images' folder was not checked")
		}
	}
	return nil
}

// scrub checks content that was not checked for long, a file at a time, and removes what dead fills left.
func (c *Cache) scrub(ctx context.Context, now time.Time) error {
	if err := c.readFolder(); err != nil {
		return err
	}
	if err := c.removeLeftovers(now); err != nil {
		return err
	}
	c.mu.Lock()
	all := make(map[releases.Digest]*keptFile, len(c.kept))
	for digest, k := range c.kept {
		all[digest] = k
	}
	c.mu.Unlock()
	for digest, k := range all {
		if ctx.Err() != nil {
			return nil
		}
		file, err := os.Open(c.fileName(digest))
		if err != nil {
			continue // evicted meanwhile
		}
		_, err = c.check(k, file, digest, now, scrubPeriod)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// removeLeftovers removes parts and locks that nobody wrote to for a day, or that are of a future day.
func (c *Cache) removeLeftovers(now time.Time) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), partSuffix) && !strings.HasSuffix(e.Name(), lockSuffix) {
			continue
		}
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()).Abs() > 24*time.Hour {
			_ = os.Remove(filepath.Join(c.dir, e.Name())) // it is tried again
		}
	}
	return nil
}
