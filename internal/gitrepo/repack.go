package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Limits beyond which the mirror is repacked: every push adds some loose objects, every fetch a pack.
const (
	maxLoose = 2000
	maxPacks = 24
)

// Repack packs the mirror's loose objects and joins its small packs. It drops nothing, reachable or not, and does not
// disturb readers.
func (r *Repo) Repack(ctx context.Context) error {
	_, err := runGit(ctx, r.mirror.git, r.mirror.env(), nil, "repack", "-d", "-l", "-q", "--geometric=2")
	if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "geometric") { // git before 2.32
		_, err = runGit(ctx, r.mirror.git, r.mirror.env(), nil, "repack", "-a", "-d", "-l", "-q", "--keep-unreachable")
	}
	if err != nil {
		return fmt.Errorf("repack mirror: %w", err)
	}
	return nil
}

// repackIfDue starts a repack in the background when a limit is exceeded.
func (r *Repo) repackIfDue() {
	due, err := r.mirror.needsRepack()
	if err == nil && !due || !r.repacking.CompareAndSwap(false, true) {
		return
	}
	r.background.Go(func() {
		defer r.repacking.Store(false)
		if err == nil {
			err = r.Repack(r.closing)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			r.o.Log.Warn().Err(err).Msg("the mirror grows until it is repacked")
		}
	})
}

// needsRepack counts the packs, and estimates the loose objects from one of their 256 folders, as git gc does.
func (m mirror) needsRepack() (bool, error) {
	packs, err1 := os.ReadDir(filepath.Join(m.dir, "objects", "pack"))
	loose, err2 := filepath.Glob(filepath.Join(m.dir, "objects", "17", "*"))
	n := 0
	for _, f := range packs {
		if filepath.Ext(f.Name()) == ".idx" {
			n++
		}
	}
	return n > maxPacks || len(loose)*256 > maxLoose, errors.Join(err1, err2)
}
