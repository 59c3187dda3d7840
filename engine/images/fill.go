package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/releases"
)

const (
	fillAttempts = 5
	followPause  = 50 * time.Millisecond // between two looks at a fill of another process
	firstRetry   = 500 * time.Millisecond
	longestRetry = 30 * time.Second
)

// fetchFunc opens content at a registry from an offset on.
type fetchFunc func(ctx context.Context, offset int64) (io.ReadCloser, error)

// fill is content on its way to disk: one for all readers of a process, and one process at a time for a shared folder.
// Its readers follow the file at the registry's pace. None of them can stop it or slow it down.
type fill struct {
	d     Descriptor
	cache *Cache

	mu      sync.Mutex
	changed chan struct{} // closed when one of the following changes
	file    *os.File      // nil: not open yet
	written int64
	size    int64 // as in d, until it is done
	done    bool
	err     error
	readers int
	attempt int // grows when the content is written anew: what readers have of it before may differ
}

// errAnew ends a reader that was given bytes of an earlier attempt.
var errAnew = errors.New("the content is being fetched anew, for the bytes before were wrong: ask again")

// run fills until the content is kept, or fails.
func (f *fill) run(ctx context.Context, fetch fetchFunc) {
	err := f.fill(ctx, fetch)
	if err != nil {
		f.cache.log.Warn().Err(err).Str("digest", string(f.d.Digest)).Msg("an image's content was not fetched")
	}
	f.cache.endFill(f, err)
	f.update(func() {
		f.err, f.done = err, err == nil
		if err == nil {
			f.size = f.written
		}
		if f.readers == 0 {
			f.closeFile()
		}
	})
}

func (f *fill) fill(ctx context.Context, fetch fetchFunc) error {
	lock, err := os.OpenFile(f.cache.lockName(f.d.Digest), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	defer func() { _ = lock.Close() }() // ends the lock
	for {
		var held *filelock.HeldError
		err := filelock.Lock(lock, 0, "fetches content of an image")
		switch {
		case err == nil:
			return f.fillLocked(ctx, fetch)
		case !errors.As(err, &held):
			return fmt.Errorf("fill: %w", err)
		}
		if kept, err := f.follow(); kept || err != nil {
			return err
		}
		if err := backoff.Sleep(ctx, followPause); err != nil {
			return err
		}
	}
}

// follow looks how far another process is.
func (f *fill) follow() (kept bool, err error) {
	if kept, err = f.take(f.cache.fileName(f.d.Digest)); kept || err != nil {
		return kept, err
	}
	_, err = f.take(f.cache.partName(f.d.Digest))
	return false, err
}

// take reads what another process wrote from now on, if the file is there.
func (f *fill) take(name string) (there bool, err error) {
	open, err := os.Open(name)
	if err != nil {
		return false, nil //nolint:nilerr // it has not begun
	}
	info, err := open.Stat()
	if err != nil {
		return false, errors.Join(err, open.Close())
	}
	f.update(func() {
		if f.file != nil {
			before, err := f.file.Stat()
			if err != nil || !os.SameFile(before, info) || info.Size() < f.written {
				f.attempt++
			}
		}
		f.closeFile()
		f.file, f.written = open, info.Size()
	})
	return true, nil
}

// fillLocked fills while this process alone does so. What a process that died had written is written anew.
func (f *fill) fillLocked(ctx context.Context, fetch fetchFunc) error {
	if kept, err := f.take(f.cache.fileName(f.d.Digest)); kept || err != nil { // another process just ended
		return err
	}
	part := f.cache.partName(f.d.Digest)
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	f.update(func() {
		f.closeFile()
		f.file, f.written = file, 0
		f.attempt++
	})
	if err = f.download(ctx, file, fetch); err == nil {
		err = f.cache.publish(file, part, f.d.Digest)
	}
	if err != nil {
		_ = os.Remove(part) // the next fill begins anew
		return err
	}
	_ = os.Remove(f.cache.lockName(f.d.Digest)) // whoever waits for it finds the content kept
	return nil
}

// download writes the content and checks it. A connection that breaks is taken up where it broke.
func (f *fill) download(ctx context.Context, file *os.File, fetch fetchFunc) error {
	hash := sha256.New()
	for failures := 0; ; failures++ {
		err := f.copyFrom(ctx, io.MultiWriter(file, hash), fetch)
		var refused *UpstreamError
		switch {
		case err == nil:
			if got := releases.DigestFromSum(hash.Sum(nil)); got != f.d.Digest {
				return fmt.Errorf("the registry's bytes have the digest %s, not %s", got, f.d.Digest)
			}
			return nil
		case errors.As(err, &refused) && !refused.temporary(), errors.Is(err, errLength), isDiskFull(err),
			failures+1 == fillAttempts, ctx.Err() != nil:
			return err
		}
		pause := backoff.Spread(backoff.Exponential(firstRetry, longestRetry, failures))
		if refused != nil {
			pause = max(pause, min(refused.RetryAfter, longestRetry))
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// errLength says that a registry has more or fewer bytes than a manifest says.
var errLength = errors.New("the registry has another length than the manifest says")

// copyFrom takes up the download where it is, to its end.
func (f *fill) copyFrom(ctx context.Context, to io.Writer, fetch fetchFunc) error {
	body, err := fetch(ctx, f.written)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read
	buffer := make([]byte, 128<<10)
	for {
		n, err := body.Read(buffer)
		if f.written+int64(n) > f.d.limit() {
			return errLength
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
			f.update(func() { f.written += int64(n) })
		}
		switch {
		case errors.Is(err, io.EOF):
			if f.d.Size >= 0 && f.written != f.d.Size {
				return io.ErrUnexpectedEOF
			}
			return nil
		case err != nil:
			return err
		}
	}
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// update changes the fill and wakes its readers.
func (f *fill) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// closeFile is called with mu.
func (f *fill) closeFile() {
	if f.file != nil {
		_ = f.file.Close() // what was written is synced before it is published
		f.file = nil
	}
}

// available returns how many bytes may be passed on. It is called with mu.
func (f *fill) available() int64 {
	switch {
	case f.done:
		return f.written
	case f.d.isManifest() || f.d.Size < 0:
		return 0
	}
	return min(f.written, f.d.Size-heldBack)
}

// follower reads a fill for one client.
type follower struct {
	ctx context.Context
	f   *fill

	attempt int  // of which bytes were passed on
	began   bool // some were
}

func (r *follower) ReadAt(b []byte, at int64) (int, error) {
	for {
		n, wait, err := r.tryRead(b, at)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-wait:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// tryRead reads what is there, or returns what to wait for.
func (r *follower) tryRead(b []byte, at int64) (n int, wait <-chan struct{}, err error) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch ready := f.available() - at; {
	case r.began && r.attempt != f.attempt:
		return 0, nil, errAnew
	case ready > 0 && f.file != nil:
		n, err = f.file.ReadAt(b[:min(int64(len(b)), ready)], at)
		if n > 0 {
			r.began, r.attempt = true, f.attempt
		}
		if n > 0 || errors.Is(err, io.EOF) { // another process writes the file anew
			err = nil
		}
		return n, f.changed, err
	case f.err != nil:
		return 0, nil, f.err
	case f.done:
		return 0, nil, io.EOF
	}
	return 0, f.changed, nil
}

func (r *follower) Close() error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.readers--; r.f.readers == 0 && (r.f.done || r.f.err != nil) {
		r.f.closeFile()
	}
	return nil
}
