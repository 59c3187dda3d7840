package content

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

const (
	fetchTimeout = 10 * time.Minute
	maxReleases  = 5
)

// Cache holds releases on disk: canonical tars named by their digest. A tar gets its name only once its bytes are
// verified and durable.
type Cache struct {
	dir    string
	source Source
	limit  int64
}

// NewCache returns a cache in an existing folder. limit bounds the bytes of a release, on the wire and unpacked.
func NewCache(dir string, source Source, limit int64) *Cache {
	return &Cache{dir: dir, source: source, limit: limit}
}

func (c *Cache) releaseFile(d releases.Digest) string { return filepath.Join(c.dir, d.Hex()+".tar") }

// Open opens a release's tar, from disk or else from the source. Errors are *cells.UnavailableError.
func (c *Cache) Open(ctx context.Context, d releases.Digest) (io.ReadCloser, error) {
	f, err := os.Open(c.releaseFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.download(ctx, d); err == nil {
			f, err = os.Open(c.releaseFile(d))
		}
	}
	if err != nil {
		return nil, &cells.UnavailableError{Cause: err}
	}
	return f, nil
}

// Remove removes a release whose bytes on disk are damaged.
func (c *Cache) Remove(d releases.Digest) error {
	if err := os.Remove(c.releaseFile(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the damaged release %s: %w", d, err)
	}
	return nil
}

// download stores a release if it matches its digest and is within the limits (fault 31).
func (c *Cache) download(ctx context.Context, d releases.Digest) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout,
		fmt.Errorf("fetch %s: not finished after %s", d, fetchTimeout))
	defer cancel()
	body, err := c.source.OpenContent(ctx, Releases, d, c.limit)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	f, err := os.CreateTemp(c.dir, disk.UnfinishedPattern)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name()) // if this fails, the agent removes the file at its next start
		}
	}()
	buffered := bufio.NewWriterSize(f, 64<<10)
	got, err := releases.DigestOfTar(io.TeeReader(body, buffered), releases.Limits{TotalBytes: c.limit})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if broken := body.ConnectionError(); broken != nil {
		return fmt.Errorf("fetch %s: %w", d, broken)
	}
	if err != nil {
		return &RefusedError{Cause: fmt.Errorf("release %s: %w", d, err)}
	}
	if got != d {
		return &RefusedError{Cause: fmt.Errorf("release %s: the received bytes have digest %s", d, got)}
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.releaseFile(d)); err != nil {
		return err
	}
	return disk.SyncDir(c.dir)
}

// Prune removes the oldest releases, so that at most maxReleases are left, but none of keep.
func (c *Cache) Prune(keep ...releases.Digest) error {
	names := map[string]bool{}
	for _, d := range keep {
		names[d.Hex()+".tar"] = true
	}
	return disk.PruneOldest(c.dir, maxReleases, names)
}
