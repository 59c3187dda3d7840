package ownercmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/words"
)

// renderedDiff is the output of cell approve --rendered, and of cell diff where the target is a folder.
type renderedDiff struct {
	From  string          `json:"from,omitempty"` // what the cell runs; empty: nothing yet
	To    owner.Candidate `json:"to"`
	Files []filediff.File `json:"files"`
}

// keptRenderer renders what the agent keeps on disk, as the agent does, for the cell's owner to look at.
type keptRenderer struct {
	*render.Renderer
	verb string
	temp string
}

// ownFiles are the files of the cell's owner that a render needs; empty: none.
type ownFiles struct{ values, ageKey string }

func (f *ownFiles) add(cmd *cobra.Command, when string) {
	cmd.Flags().StringVar(&f.values, "values", "", when+"`FILE` with the values that the agent was given as --values")
	cmd.Flags().StringVar(&f.ageKey, "age-key", "",
		when+"`FILE` with the age keys that the agent was given (default $"+cli.AgeKeyVariable+")")
}

// newKeptRenderer returns a renderer for a verb.
func newKeptRenderer(a *cli.App, verb, state string, own ownFiles) (*keptRenderer, error) {
	self, err := cli.ExecutablePath()
	if err != nil {
		return nil, err
	}
	options := render.Options{Command: []string{self, render.ChildVerb},
		KeyFile: cmp.Or(own.ageKey, a.Getenv(cli.AgeKeyVariable))}
	if own.values != "" {
		if options.Values, err = cli.ReadOwnValues(own.values); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
	}
	if options.Temp, err = os.MkdirTemp("", "sluice-render-"); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	options.Dir = options.Temp
	return &keptRenderer{render.New(options, agent.KeptReleases{StateDir: state}), verb, options.Temp}, nil
}

func (k *keptRenderer) close() { _ = os.RemoveAll(k.temp) }

func (k *keptRenderer) manifests(ctx context.Context, as *cells.Assignment) (cells.Rendered, error) {
	m, err := k.Render(ctx, as)
	if errors.Is(err, fs.ErrNotExist) {
		return cells.Rendered{}, cli.Fail(fmt.Errorf("%s: the agent has not got %s yet", k.verb, as.Release),
			"the agent gets what waits for approval as soon as it reaches the control plane: try again then")
	}
	if err != nil {
		return cells.Rendered{}, cli.Fail(fmt.Errorf("%s: %w", k.verb, err),
			"if values or keys are missing, name the agent's own files: --values FILE, --age-key FILE")
	}
	return m.Rendered, nil
}

// compareRendered returns what a candidate would change in the manifests that the cell runs, without the values of
// Secrets.
func compareRendered(ctx context.Context, k *keptRenderer, o agent.Offer, c owner.Candidate) (renderedDiff, error) {
	before := cells.Rendered{}
	out := renderedDiff{To: c, Files: []filediff.File{}}
	var err error
	if o.Running != nil {
		out.From = o.Running.Release
		if before, err = k.manifests(ctx, o.Running); err != nil {
			return out, err
		}
	}
	after, err := k.manifests(ctx, offeredAssignment(o, c))
	if err != nil {
		return out, err
	}
	delete(before.Files, render.ManifestsFile) // its parts are files of their own
	delete(after.Files, render.ManifestsFile)
	for name := range before.Files {
		if _, both := after.Files[name]; !both {
			before.Files[name], _ = kubernetes.HideSecrets(before.Files[name], nil)
		}
	}
	for name, text := range after.Files {
		was, is := kubernetes.HideSecrets(before.Files[name], text)
		if after.Files[name] = is; was != nil {
			before.Files[name] = was
		}
	}
	out.Files = append(out.Files, filediff.Compare(before.Files, after.Files)...)
	filediff.Bound(out.Files)
	return out, nil
}

func printRendered(a *cli.App, out renderedDiff) error {
	return a.PrintResult(out, func() {
		a.Stdout.PrintLine("%s -> %s, %s: %s", cli.OrDash(out.From), out.To.Release, out.To.Digest,
			words.Count(len(out.Files), "manifest"))
		a.Stdout.PrintDiffs(out.Files)
	})
}

// offeredAssignment returns what the cell would get if the candidate began: its assignment or, for a head that it is
// not granted yet, the head with the profile and the values of today.
func offeredAssignment(o agent.Offer, c owner.Candidate) *cells.Assignment {
	switch {
	case o.Assignment != nil && o.Assignment.Digest == c.Digest:
		return o.Assignment
	case o.Running != nil:
		return &cells.Assignment{Release: c.Release, Digest: c.Digest, Profile: o.Running.Profile,
			Values: o.Running.Values}
	}
	return &cells.Assignment{Release: c.Release, Digest: c.Digest}
}
