package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/test/biggit"
	"github.com/sluice-cd/sluice/test/figures"
)

// measureCommands measures what a person waits for: a new process that reads a large repository which it read before.
// The baseline is the git command's quickest look at the same repository.
func measureCommands(ctx context.Context, dir string) ([]figures.Row, error) {
	sluice := filepath.Join(dir, "sluice")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", sluice, "./cmd/sluice").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	repo, err := writtenRepository(ctx, sluice)
	if err != nil {
		return nil, err
	}
	// A repository in the temporary folder would get a mirror that ends with the process.
	env := append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "TMPDIR="+filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, err
	}
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env, cmd.Stdout = env, io.Discard
		return cmd.Run()
	}
	before := biggit.Version(written.Releases - 2)
	commands := [][]string{
		{"version"}, {"status"}, {"plan"}, {"why", biggit.Channel(3)}, {"log", "-n", "10"}, {"validate"},
		{"release", "list"}, {"release", "show", before}, {"diff", biggit.Channel(3), before},
	}
	const runs = 9
	times := make([][]time.Duration, len(commands))
	var look []time.Duration
	for i := range runs + 1 { // the first round clones and reads everything
		gitLog, err := figures.TimeRuns(1, func(int) error { return run("git", "-C", repo, "log", "-1") })
		if err != nil {
			return nil, err
		}
		for j, args := range commands {
			if args[0] == "validate" {
				args = append(args, repo)
			} else {
				args = append(args, "--repo", repo)
			}
			took, err := figures.TimeRuns(1, func(int) error { return run(sluice, args...) })
			if err != nil {
				return nil, fmt.Errorf("sluice %v: %w", args, err)
			}
			if i > 0 {
				times[j] = append(times[j], took...)
			}
		}
		if i > 0 {
			look = append(look, gitLog...)
		}
	}
	var rows []figures.Row
	for j, args := range commands {
		what := fmt.Sprintf("sluice %s, 5,000 releases, 200 channels, 12,000 commits", args[0])
		switch args[0] {
		case "version":
			what = "sluice version, which reads nothing: the start of each of these"
		case "release":
			what = fmt.Sprintf("sluice release %s, the same", args[1])
		}
		rows = append(rows, figures.TimeRow(what, figures.Median(times[j]), "git log -1", figures.Median(look), 3))
	}
	return rows, nil
}
