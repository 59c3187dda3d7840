package repos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/releases"
)

// AddDryRunFlags adds --dry-run to verbs, given by their paths below root: each makes one commit by PushOrShow. A verb
// without the flag can't commit.
func AddDryRunFlags(a *cli.App, root *cobra.Command, paths ...string) {
	for _, path := range paths {
		cmd, _, err := root.Find(strings.Fields(path))
		if err == nil && cmd != root && cmd.Flags().Lookup("dry-run") == nil {
			cmd.Flags().BoolVar(&a.DryRun, "dry-run", false, "show the commit, and make none")
		}
	}
}

// preview is the output of --dry-run.
type preview struct {
	Summary string          `json:"did"` // what would be done
	Details []string        `json:"details,omitempty"`
	By      string          `json:"by"`
	Message string          `json:"message,omitempty"` // empty: there is nothing to do
	Files   []filediff.File `json:"files"`
}

// PushOrShow commits a decision and prints what was done or, with --dry-run, shows the commit and makes none.
func PushOrShow[S edits.Snapshot](ctx context.Context, a *cli.App, repo *OpenRepository, p edits.Pusher[S],
	d edits.Decision[S]) error {
	if a.DryRun {
		return show(ctx, a, p, d)
	}
	done, err := p.Push(ctx, d)
	if err != nil {
		return err
	}
	return PrintDone(a, done)
}

func show[S edits.Snapshot](ctx context.Context, a *cli.App, p edits.Pusher[S], d edits.Decision[S]) error {
	e, err := p.Propose(ctx, d)
	if err != nil {
		return DecisionError(d, err)
	}
	a.ReportFaults(e.Warnings)
	return showCommit(a, p.By.Person, e.Edit, e.Before, e.After())
}

// ShowCommit prints the commit that would be made; an empty message: there is nothing to commit, as summary says.
func ShowCommit(a *cli.App, by releases.Person, summary, message string, before, after map[string][]byte) error {
	return showCommit(a, by, edits.Edit{Summary: summary, Message: message}, before, after)
}

func showCommit(a *cli.App, by releases.Person, e edits.Edit, before, after map[string][]byte) error {
	would := preview{Summary: e.Summary, Details: e.Details, By: fmt.Sprintf("%s <%s>", by.Name, by.Email),
		Message: strings.TrimSpace(e.Message), Files: append([]filediff.File{}, filediff.Compare(before, after)...)}
	filediff.Bound(would.Files)
	return a.PrintResult(would, func() {
		if e.Message == "" {
			a.Stdout.PrintLine("%s", e.Summary)
			return
		}
		if !strings.HasPrefix(e.Message, e.Summary) {
			a.Stdout.PrintLine("%s", e.Summary) // it says more than the message
		}
		printDetails(a, e.Details)
		a.Stdout.PrintLine("would commit, as %s:", would.By)
		a.Stdout.PrintText("    ", would.Message)
		a.Stdout.PrintDiffs(would.Files)
	})
}

// noCommitter stands for the repository in a run with --dry-run: nothing that a verb does commits.
type noCommitter struct{}

func (noCommitter) Push(context.Context, string, []releases.Draft) ([]string, error) {
	return nil, errors.New("--dry-run makes no commit")
}
