package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/releases"
)

// previewer gets the release that the owner keeps from beginning, so that the owner can look at it before deciding:
// see KeptReleases. What fails is tried again; nothing waits for it.
type previewer struct {
	cache  *content.Cache
	wanted atomic.Pointer[releases.Digest] // nil: none
	wake   wake.Signal
}

func newPreviewer(cache *content.Cache) *previewer { return &previewer{cache: cache, wake: wake.New()} }

// undecided returns the release that waits for the owner's approval, as far as o says; empty: none does. What waits for
// another reason is not fetched.
func undecided(o Offer, owner *cells.Owner) releases.Digest {
	var d releases.Digest
	switch {
	case owner == nil || !owner.Approval:
	case o.Assignment != nil && o.Waits != "":
		d = o.Assignment.Digest
	case o.Head != nil:
		d = o.Head.Digest
	}
	if o.Running != nil && o.Running.Digest == d {
		return ""
	}
	return d
}

// want says which release to get; empty: none.
func (p *previewer) want(d releases.Digest) {
	var next *releases.Digest
	if d != "" {
		next = &d
	}
	if before := p.wanted.Swap(next); next != nil && (before == nil || *before != *next) {
		p.wake.Notify()
	}
}

// run gets what is wanted until ctx ends.
func (p *previewer) run(ctx context.Context) {
	for tries := 0; ctx.Err() == nil; {
		var again <-chan time.Time
		if d := p.wanted.Load(); d != nil {
			if err := p.get(ctx, *d); err != nil {
				tries++
				again = time.After(backoff.FullJitter(backoff.Exponential(time.Second, 5*time.Minute, tries)))
			}
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-p.wake:
			tries = 0
		}
	}
}

func (p *previewer) get(ctx context.Context, d releases.Digest) error {
	f, err := p.cache.Open(ctx, d)
	if err != nil {
		return err
	}
	return f.Close()
}

// KeptReleases has the releases that the agent of a state folder keeps on disk: what runs, and what the owner keeps
// from beginning. It implements render.Releases, downloads nothing and changes nothing.
type KeptReleases struct{ StateDir string }

// Open returns a release's tar. fs.ErrNotExist: the agent has not got it yet.
func (k KeptReleases) Open(_ context.Context, d releases.Digest) (io.ReadCloser, error) {
	return k.File(d)
}

// File returns a release's tar as a file, as Open does.
func (k KeptReleases) File(d releases.Digest) (*os.File, error) {
	if _, err := releases.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(k.StateDir, "releases", d.Hex()+".tar"))
}

// Remove refuses: the folder is the agent's.
func (k KeptReleases) Remove(releases.Digest) error {
	return errors.New("the agent's copy is damaged; it gets another one when it needs it")
}
