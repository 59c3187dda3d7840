package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/edits"
)

// AddDryRunFlags adds --dry-run to verbs, given by their paths below root: each makes one commit by PushOrShow.
func AddDryRunFlags(a *App, root *cobra.Command, paths ...string) {
	for _, path := range paths {
		cmd, _, err := root.Find(strings.Fields(path))
		if err == nil && cmd != root && cmd.Flags().Lookup("dry-run") == nil {
			cmd.Flags().BoolVar(&a.DryRun, "dry-run", false, "show the commit, and make none")
		}
	}
}

// preview is the output of --dry-run.
type preview struct {
	Summary string     `json:"did"` // what would be done
	By      string     `json:"by"`
	Message string     `json:"message,omitempty"` // empty: there is nothing to do
	Files   []FileDiff `json:"files"`
}

// PushOrShow commits a decision and prints what was done or, with --dry-run, shows the commit and makes none.
func PushOrShow[S edits.Snapshot](ctx context.Context, a *App, repo *OpenRepository, p edits.Pusher[S],
	d edits.Decision[S]) error {
	if a.DryRun {
		return show(ctx, a, repo, p, d)
	}
	done, err := p.Push(ctx, d)
	if err != nil {
		return err
	}
	return a.PrintDone(done)
}

func show[S edits.Snapshot](ctx context.Context, a *App, repo *OpenRepository, p edits.Pusher[S],
	d edits.Decision[S]) error {
	s, err := p.ReadSnapshot(ctx)
	if err != nil {
		return DecisionError(d, err)
	}
	e, err := edits.Decide(d, s, p.By, time.Now())
	if err != nil {
		return DecisionError(d, err)
	}
	a.ReportFaults(e.Warnings)
	files, err := repo.FS(s.Base())
	if err != nil {
		return DecisionError(d, err)
	}
	before, after := map[string][]byte{}, map[string][]byte{}
	for name, data := range e.Files {
		switch old, err := fs.ReadFile(files, name); {
		case err == nil:
			before[name] = old
		case !errors.Is(err, fs.ErrNotExist):
			return DecisionError(d, err)
		}
		if data != nil {
			after[name] = data
		}
	}
	would := preview{Summary: e.Summary, By: fmt.Sprintf("%s <%s>", p.By.Name, p.By.Email),
		Message: strings.TrimSpace(e.Message), Files: DiffFiles(before, after)}
	return a.PrintResult(would, func() {
		if len(e.Files) == 0 {
			a.Stdout.PrintLine("%s", e.Summary)
			return
		}
		a.Stdout.PrintLine("would commit, as %s:", would.By)
		a.Stdout.PrintText("    ", would.Message)
		for _, f := range would.Files {
			if f.Diff == "" {
				a.Stdout.PrintLine("%-8s %s", f.Kind, f.File)
			}
			a.Stdout.PrintDiff(f)
		}
	})
}
