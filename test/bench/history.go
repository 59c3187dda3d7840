package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluice-cd/sluice/test/biggit"
)

// written is a repository with a history that the engine itself wrote: each head is a promotion with its evidence, and
// a signature where the engine signs.
var written = biggit.Shape{Releases: 5000, Files: 10, Channels: 200, Ungated: true}

// writtenBatch is how many releases come between two promotions of all channels: 5,000 releases and 7,000 promotions.
const writtenBatch = 144

// writtenRepository returns the repository of shape written, and lets sluice make it first if needed, which takes
// minutes.
func writtenRepository(ctx context.Context, sluice string) (string, error) {
	root := filepath.Join(os.TempDir(), "sluice-bench")
	dir := filepath.Join(root, "written-v1.git")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unfinished, data := dir+".making", dir+".data"
	for _, old := range []string{unfinished, data} {
		if err := os.RemoveAll(old); err != nil {
			return "", err
		}
	}
	defer os.RemoveAll(data)                         //nolint:errcheck // temporary
	if err := os.MkdirAll(root, 0o755); err != nil { //nolint:gosec // nothing secret
		return "", err
	}
	if err := written.Start(ctx, unfinished); err != nil {
		return "", err
	}
	for from := 0; from < written.Releases; from += writtenBatch {
		if err := written.Grow(ctx, unfinished, from, min(from+writtenBatch, written.Releases)); err != nil {
			return "", err
		}
		tick := exec.CommandContext(ctx, sluice, "tick", "--repo", unfinished, "--data", data, "--log", "error")
		if out, err := tick.CombinedOutput(); err != nil {
			return "", fmt.Errorf("sluice tick after %d releases: %w: %s", from, err, out)
		}
	}
	gc := exec.CommandContext(ctx, "git", "-C", unfinished, "repack", "-a", "-d", "-q")
	if out, err := gc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git repack: %w: %s", err, out)
	}
	return dir, os.Rename(unfinished, dir)
}
