package lookcmd

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/trial"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/filediff"
)

// maxRenderedKinds bounds the kinds of cells for which releases are compared: cells may each have values of their own.
const maxRenderedKinds = 8

// diffRendered compares what the releases of c render to, in place of their files: for one cell or, without one, for
// each profile with the values of each cell of the channel.
func diffRendered(ctx context.Context, a *cli.App, s *edits.Releases, c *releaseDiff, cell string) error {
	to, from := c.to, s.Desired.Releases[c.From]
	in := s.Desired.Channels[c.Channel].Cells
	if cell != "" {
		chosen := s.Desired.Cells[cell]
		switch {
		case chosen == nil:
			return cli.Fail(fmt.Errorf("there is no cell %q", cell), "sluice cell list shows them")
		case chosen.Channel != c.Channel:
			return cli.Fail(fmt.Errorf("%s is a cell of %s, not of %s", cell, chosen.Channel, c.Channel),
				"sluice diff %s %s --rendered --cell %s", chosen.Channel, c.To, cell)
		}
		in = []*plan.Cell{chosen}
	}
	variants, err := renderedVariants(a, c, in, cell)
	if err != nil {
		return err
	}
	if more := len(variants) - maxRenderedKinds; more > 0 {
		a.Stderr.PrintLine("warning: %d of %d kinds of cells are compared; --cell NAME chooses one", maxRenderedKinds,
			len(variants))
		variants = variants[:maxRenderedKinds]
	}
	renderer, err := trial.Open(a)
	if err != nil {
		return err
	}
	defer renderer.Close()
	render := func(files fs.FS, r *plan.Release, v trial.Variant) (map[string][]byte, error) {
		if r == nil || files == nil {
			return map[string][]byte{}, nil // there is no head yet
		}
		v.Values = maps.Clone(v.Values) // those of them that the release knows: the other may have new ones
		maps.DeleteFunc(v.Values, func(name string, _ any) bool { _, known := r.Parameters[name]; return !known })
		m, err := renderer.Render(ctx, trial.FolderOf(files, &r.StoredRelease), v)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", r.Version, trial.Reason(err, r.Version))
		}
		delete(m, render.ManifestsFile) // its parts are files of their own
		return m, nil
	}
	c.Files = []filediff.File{}
	for _, v := range variants {
		before, err := render(c.before, from, v)
		if err != nil {
			return err
		}
		after, err := render(c.after, to, v)
		if err != nil {
			return err
		}
		for _, f := range filediff.Compare(before, after) {
			if len(variants) > 1 {
				f.File = path.Join(v.Label(), f.File)
			}
			c.Files = append(c.Files, f)
		}
	}
	return nil
}

// renderedVariants returns the variants to compare: that of one cell, if cell names it. It tells which cells and
// profiles are left out, and fails if nothing is left: no difference was found then because none was looked for.
func renderedVariants(a *cli.App, c *releaseDiff, in []*plan.Cell, cell string) ([]trial.Variant, error) {
	to := &c.to.Release
	variants, unfit, bare := trial.Variants(to, trial.FolderOf(c.after, &c.to.StoredRelease).HasRoot(), in)
	lacking := trial.OwnersLacking(to)
	switch why := unfit[cell]; {
	case cell != "" && why != nil:
		return nil, cli.Fail(fmt.Errorf("the values of %s do not fit %s: %s", cell, c.To, why[0]),
			"edit cells/%s/cell.yaml", cell)
	case lacking != "":
		return nil, cli.Fail(fmt.Errorf("%s of %s is the owner's, and no value of it can be made up", lacking, c.To),
			"sluice render %s --cell %s --value %s=…", c.To, cmp.Or(cell, "NAME"), lacking)
	case cell != "":
		return variants[:1], nil
	}
	for _, name := range slices.Sorted(maps.Keys(unfit)) {
		a.Stderr.PrintLine("warning: %s is left out: its values do not fit %s: %s", name, c.To, unfit[name][0])
	}
	for _, p := range bare {
		a.Stderr.PrintLine("warning: profile %s is left out: no cell has a value for each required parameter, and "+
			"none could be made up", p)
	}
	if len(variants) == 0 {
		return nil, cli.Fail(fmt.Errorf("%s can't be rendered: no cell of %s has values that fit it", c.To, c.Channel),
			"sluice render %s --value NAME=…", c.To)
	}
	return variants, nil
}
