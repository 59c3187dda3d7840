package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// Loader makes Desired of commits, and caches what it read: unchanged blobs are not parsed again, and only new commits
// of the history are folded. Methods may be called from any goroutine; loads happen one at a time.
type Loader struct {
	Repo        Repository // required
	AllReleases bool       // parse every release, not only those that a decision may need, however long it takes
	CacheFile   string     // a file that caches what was read, for quick restarts; empty: none

	mu               sync.Mutex
	cache            *manifest.Cache
	readErrors       uint64 // of Repo, when cache was empty
	history          *plan.History
	lost             *plan.History // that AuthorityAt read last; nil: none
	last             *plan.Desired
	uncachedCommits  int                // commits folded since the file was written
	cacheFileCurrent bool               // the file was written or read
	savedDigests     map[digestKey]bool // in the file
	savedReleases    map[digestKey]bool // in the file
	beside           *besideReader      // reads releases that were left unread; nil: nobody does
}

// What one Load reads of releases beyond those that a channel's state is about. Where a besideReader goes on, the loop
// waits for a moment's work only (R48, R61).
const (
	aloneBytes, aloneFiles   = 256 << 20, 20_000
	besideBytes, besideFiles = 16 << 20, 2_000
)

// Load returns what the repository says at tip. ErrDiverged: tip's history lacks the tip that was loaded last, and no
// commit acknowledges that (R5).
func (l *Loader) Load(ctx context.Context, tip string) (*plan.Desired, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil && l.last.Commit == tip && !l.beside.hasNews() {
		return l.last, nil
	}
	files, err := l.Repo.FS(tip)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", tip, err)
	}
	if l.cache == nil {
		l.cache, l.readErrors, l.history = new(manifest.Cache), l.Repo.ReadErrors(), nil
	}
	var reading, warming sync.WaitGroup
	savedReleases := 0
	defer warming.Wait()
	defer reading.Wait()
	if l.history == nil {
		reading.Go(func() { savedReleases = l.readReleaseCache() }) // needed after the history
		l.readCacheFile()
		warming.Go(func() { cells.Load(l.cache, files) }) // concurrently with the history, which takes as long
	}
	changes, err := l.Repo.Changes(ctx, l.history.Tip, tip)
	if errors.Is(err, ErrDiverged) {
		// The new branch is read from its root; comparing it with what was served from the old one is the engine's job.
		l.history = plan.NewHistory()
		changes, err = l.Repo.Changes(ctx, "", tip)
	}
	if err != nil {
		return nil, fmt.Errorf("read history up to %s: %w", tip, err)
	}
	if err := l.history.Advance(changes, l.Repo.FS, l.cache); err != nil {
		l.history = nil
		return nil, err
	}
	reading.Wait()
	d, err := plan.Build(files, l.history, l.Repo.FS, l.cache, l.AllReleases, l.budget(tip))
	if err != nil {
		return nil, err
	}
	if l.Repo.ReadErrors() != l.readErrors { // what can't be read now must not be taken for a fault, nor be remembered
		warming.Wait()
		l.cache, l.last = nil, nil
		return nil, fmt.Errorf("read commit %s: the mirror is damaged, or this machine can't read it", tip)
	}
	l.last = d
	l.beside.begin(l.cache, files, d)
	l.writeCacheFile(d, len(changes))
	l.writeReleaseCache(d, savedReleases)
	return d, nil
}

// AuthorityAt returns who had a say in the repository at a commit that the branch may have lost meanwhile.
func (l *Loader) AuthorityAt(ctx context.Context, commit string) (plan.Authority, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil && l.lost.Tip == commit { // asked with each load, until a person accepts the loss
		return l.lost.Authority, nil
	}
	changes, err := l.Repo.Changes(ctx, "", commit)
	if err != nil {
		return plan.Authority{}, fmt.Errorf("read history up to %s: %w", commit, err)
	}
	h := plan.NewHistory()
	if err := h.Advance(changes, l.Repo.FS, l.cache); err != nil {
		return plan.Authority{}, err
	}
	l.lost = h
	return h.Authority, nil
}

// CopyHistory returns a copy of the history up to the commit that was loaded last; before that, ErrNotReady.
func (l *Loader) CopyHistory() (*plan.History, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil || l.history == nil {
		return nil, ErrNotReady
	}
	return copyHistory(l.history)
}

// budget returns what may be read of releases that only become candidates; nil: everything.
func (l *Loader) budget(tip string) *releases.Budget {
	switch {
	case l.AllReleases:
		return nil
	case l.beside == nil:
		return &releases.Budget{Bytes: aloneBytes, Files: aloneFiles}
	case l.last != nil && l.last.Commit == tip: // the same commit again: only what was read meanwhile
		return &releases.Budget{}
	}
	return &releases.Budget{Bytes: besideBytes, Files: besideFiles}
}
