package cellcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/trial"
	"github.com/sluice-cd/sluice/internal/words"
)

// renderedDiff is the output of cell approve --rendered.
type renderedDiff struct {
	From  string         `json:"from,omitempty"` // what the cell runs; empty: nothing yet
	To    candidate      `json:"to"`
	Files []cli.FileDiff `json:"files"`
}

// showRendered prints what a candidate would change in the manifests that the cell runs, from what the agent keeps on
// disk. values is the file with the values that the owner sets; empty: none.
func showRendered(ctx context.Context, a *cli.App, state string, o agent.Offer, c candidate, values string) error {
	what := "cell approve " + c.Release
	temp, err := os.MkdirTemp("", "sluice-render-")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer os.RemoveAll(temp)
	self, err := cli.ExecutablePath()
	if err != nil {
		return err
	}
	options := render.Options{Command: []string{self, render.ChildVerb}, Dir: temp, Temp: temp}
	if values != "" {
		if options.Values, err = cli.ReadOwnValues(values); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	renderer := render.New(options, agent.KeptReleases{StateDir: state})
	files := func(as *cells.Assignment) (map[string][]byte, error) {
		m, err := renderer.Render(ctx, as)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, cli.Fail(fmt.Errorf("%s: the agent has not got %s yet", what, as.Release),
				"the agent gets what waits for approval as soon as it reaches the control plane: try again then")
		}
		if err != nil {
			return nil, cli.Fail(fmt.Errorf("%s: %w", what, err),
				"if values are missing, name the agent's own file: --values FILE")
		}
		delete(m.Files, trial.ManifestsFile) // its parts are files of their own
		return m.Files, nil
	}
	before := map[string][]byte{}
	out := renderedDiff{To: c, Files: []cli.FileDiff{}}
	if o.Running != nil {
		out.From = o.Running.Release
		if before, err = files(o.Running); err != nil {
			return err
		}
	}
	after, err := files(offeredAssignment(o, c))
	if err != nil {
		return err
	}
	out.Files = append(out.Files, cli.DiffFiles(before, after)...)
	cli.BoundDiffs(out.Files)
	return a.PrintResult(out, func() {
		a.Stdout.PrintLine("%s -> %s, %s: %s", cli.OrDash(out.From), c.Release, c.Digest,
			words.Count(len(out.Files), "manifest"))
		a.Stdout.PrintDiffs(out.Files)
	})
}

// offeredAssignment returns what the cell would get if the candidate began: its assignment or, for a head that it is
// not granted yet, the head with the profile and the values of today.
func offeredAssignment(o agent.Offer, c candidate) *cells.Assignment {
	switch {
	case o.Assignment != nil && o.Assignment.Digest == c.Digest:
		return o.Assignment
	case o.Running != nil:
		return &cells.Assignment{Release: c.Release, Digest: c.Digest, Profile: o.Running.Profile,
			Values: o.Running.Values}
	}
	return &cells.Assignment{Release: c.Release, Digest: c.Digest}
}
