package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Loader makes Desired of commits, and caches what it read: unchanged blobs are not parsed again, and only new commits
// of the history are folded. Methods may be called from any goroutine; loads happen one at a time.
type Loader struct {
	Repo        Repository // required
	AllReleases bool       // parse every release, not only those that a decision may need
	CacheFile   string     // a file that caches what was read, for quick restarts; empty: none

	mu               sync.Mutex
	cache            manifest.Cache
	history          *plan.History
	last             *plan.Desired
	uncachedCommits  int  // commits folded since the file was written
	cacheFileCurrent bool // the file was written or read
}

// Load returns what the repository says at tip. ErrDiverged: tip's history lacks the tip that was loaded last, and no
// commit acknowledges that (R5).
func (l *Loader) Load(ctx context.Context, tip string) (*plan.Desired, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil && l.last.Commit == tip {
		return l.last, nil
	}
	files, err := l.Repo.FS(tip)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", tip, err)
	}
	var warming sync.WaitGroup
	defer warming.Wait()
	if l.history == nil {
		l.readCacheFile()
		warming.Go(func() { cells.Load(&l.cache, files) }) // concurrently with the history, which takes as long
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
	if err := l.history.Advance(changes, l.Repo.FS, &l.cache); err != nil {
		l.history = nil
		return nil, err
	}
	d, err := plan.Build(files, l.history, l.Repo.FS, &l.cache, l.AllReleases)
	if err != nil {
		return nil, err
	}
	l.last = d
	l.writeCacheFile(d, len(changes))
	return d, nil
}
