package agent

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

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

const (
	fetchTimeout = 10 * time.Minute
	keptReleases = 5
)

// contents are the releases on disk: canonical tars named by their digest. A tar gets its name
// only once its bytes were verified and are durable.
type contents struct {
	dir    string
	client *client
	limit  int64 // bytes of a release, on the wire and unpacked
}

func (c *contents) file(d releases.Digest) string { return filepath.Join(c.dir, d.Hex()+".tar") }

// unavailableError: what is needed can't be had now. It may be later, and nothing is wrong with the release.
type unavailableError struct{ cause error }

func (e *unavailableError) Error() string { return e.cause.Error() }
func (e *unavailableError) Unwrap() error { return e.cause }

// refusedError: what came is not what was asked for.
type refusedError struct{ cause error }

func (e *refusedError) Error() string { return "refused: " + e.cause.Error() }
func (e *refusedError) Unwrap() error { return e.cause }

// open gives a release's tar, from disk or else from the control plane. Errors are *unavailableError.
func (c *contents) open(ctx context.Context, d releases.Digest) (*os.File, error) {
	f, err := os.Open(c.file(d))
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.fetch(ctx, d); err == nil {
			f, err = os.Open(c.file(d))
		}
	}
	if err != nil {
		return nil, &unavailableError{err}
	}
	return f, nil
}

// drop removes a release whose bytes on disk turned out to be damaged.
func (c *contents) drop(d releases.Digest) error {
	if err := os.Remove(c.file(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the damaged release %s: %w", d, err)
	}
	return nil
}

// fetch brings a release onto the disk if it is what the digest says, and within the limits (fault 31).
func (c *contents) fetch(ctx context.Context, d releases.Digest) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("fetch %s: no end after %s", d, fetchTimeout))
	defer cancel()
	body, err := c.client.content(ctx, releasesPath, d, c.limit)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	f, err := os.CreateTemp(c.dir, disk.Unfinished)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name()) // what is left is swept at the next start
		}
	}()
	buffered := bufio.NewWriterSize(f, 64<<10)
	_, got, err := releases.Unpack(io.TeeReader(body, buffered), releases.Limits{TotalBytes: c.limit})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if body.failed != nil {
		return fmt.Errorf("fetch %s: %w", d, body.failed)
	}
	if err != nil {
		return &refusedError{fmt.Errorf("release %s: %w", d, err)}
	}
	if got != d {
		return &refusedError{fmt.Errorf("release %s: what came has digest %s", d, got)}
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.file(d)); err != nil {
		return err
	}
	return disk.SyncDir(c.dir)
}

// prune keeps the releases named, and the newest of the others.
func (c *contents) prune(keep ...releases.Digest) error {
	names := map[string]bool{}
	for _, d := range keep {
		names[d.Hex()+".tar"] = true
	}
	return disk.KeepNewest(c.dir, keptReleases, names)
}
