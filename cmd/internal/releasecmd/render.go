package releasecmd

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/cmd/internal/trial"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/releases"
)

// renderOptions are the flags of render.
type renderOptions struct {
	cell, profile string
	values        []string
}

// renderedRelease is the output of render.
type renderedRelease struct {
	Release string            `json:"release"`
	Digest  releases.Digest   `json:"digest"`
	Cell    string            `json:"cell,omitempty"`
	Profile string            `json:"profile"`
	Files   map[string]string `json:"files"` // by the name that a cell's target gets
}

func RenderVerb(a *cli.App) *cobra.Command {
	o := renderOptions{}
	cmd := &cobra.Command{
		Use:     "render V",
		GroupID: cli.GroupAuthor,
		Short:   "Print the manifests of a release as a cell would get them",
		Long: `Renders release V here, in the same way as an agent does. With --cell, the profile and values of
that cell count. Parameters that a cell's owner sets are not in the repository: --value sets them.`,
		Example: `  sluice render 2026.11.3 --cell acme
  sluice render 2026.11.3 --profile small --value domain=acme.example`,
		Args: cli.ArgumentCount(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := repos.OpenReleases(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			defer repo.Close()
			s, err := repo.ReadReleases(cmd.Context())
			if err != nil {
				return err
			}
			out, err := o.render(cmd.Context(), a, s, args[0])
			if err != nil {
				return fmt.Errorf("render %s: %w", args[0], err)
			}
			if done, err := a.PrintEncoded(out); done {
				return err
			}
			_, err = a.Stdout.Write(cleantext.YAML([]byte(out.Files[render.ManifestsFile])))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.cell, "cell", "", "`NAME` of the cell whose profile and values count")
	f.StringVar(&o.profile, "profile", "", "`PROFILE` to render (default: the cell's, or default)")
	f.StringArrayVar(&o.values, "value", nil, "`NAME=VALUE` of a parameter, in place of the cell's; may be repeated")
	return cmd
}

func (o *renderOptions) render(ctx context.Context, a *cli.App, s *edits.Releases, version string) (*renderedRelease,
	error) {
	r, err := s.Release(version)
	if err != nil {
		return nil, err
	}
	var v trial.Variant
	if o.cell != "" {
		c := s.Desired.Cells[o.cell]
		if c == nil {
			return nil, cli.Fail(fmt.Errorf("there is no cell %q", o.cell), "sluice cell list shows them")
		}
		v.Profile, v.Values = c.Profile, c.Values
	}
	v.Profile = cmp.Or(o.profile, v.Profile)
	if v, err = withValues(v, &r.Release, o.values); err != nil {
		return nil, err
	}
	renderer, err := trial.Open(a)
	if err != nil {
		return nil, err
	}
	defer renderer.Close()
	files, err := renderer.Render(ctx, trial.FolderOf(s.Files, &r.StoredRelease), v)
	if err != nil {
		return nil, trial.Reason(err, r.Version)
	}
	out := renderedRelease{Release: version, Digest: r.Digest, Cell: o.cell, Profile: cmp.Or(v.Profile, "default"),
		Files: map[string]string{}}
	for name, data := range files {
		out.Files[name] = string(data)
	}
	return &out, nil
}

// withValues returns the variant with the values of --value: as text for a parameter of type string, else as YAML.
func withValues(v trial.Variant, r *releases.Release, given []string) (trial.Variant, error) {
	vendor, own := map[string]any{}, map[string]any{}
	for name, value := range v.Values {
		vendor[name] = value
	}
	for _, pair := range given {
		name, text, ok := strings.Cut(pair, "=")
		if !ok {
			return v, cli.Fail(fmt.Errorf("--value %q is not NAME=VALUE", pair), "write --value domain=acme.example")
		}
		var value any = text
		if p := r.Parameters[name]; p.Type != "string" {
			if yaml.Unmarshal([]byte(text), &value) != nil {
				return v, cli.Fail(fmt.Errorf("--value %s: %q is no YAML", name, text), "quote it")
			}
		}
		if r.Parameters[name].Owner == releases.OwnerCell {
			own[name] = value
		} else {
			vendor[name] = value
		}
	}
	if len(vendor) > 0 {
		v.Values = vendor
	}
	if len(own) > 0 {
		v.Own = own
	}
	return v, nil
}
