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

// Loader makes Desired of commits, and remembers what it read: unchanged blobs are not parsed again,
// and of the history only new commits are folded. Safe for concurrent use; loads happen one at a time.
type Loader struct {
	Repo Repository // required
	All  bool       // parse every release, not only those that a decision could be about
	Keep string     // a file to keep what was read in, so that a restart is quick; empty: none

	mu               sync.Mutex
	cache            manifest.Cache
	history          *plan.History
	last             *plan.Desired
	uncachedCommits  int  // commits folded since the file was written
	cacheFileCurrent bool // it was written or read
}

// Load gives what the repository says at tip. ErrDiverged: the last tip that was loaded is not in
// tip's history, and nobody acknowledged that (R5).
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
		warming.Go(func() { cells.Load(&l.cache, files) }) // beside the history, which takes as long
	}
	changes, err := l.Repo.Changes(ctx, l.history.Tip, tip)
	if errors.Is(err, ErrDiverged) {
		// The new branch is read from its root; what was served from the old one is the engine's to compare.
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
	d, err := plan.Build(files, l.history, l.Repo.FS, &l.cache, l.All)
	if err != nil {
		return nil, err
	}
	l.last = d
	l.writeCacheFile(d, len(changes))
	return d, nil
}
