package lookcmd

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/words"
)

// releaseDiff is the output of diff.
type releaseDiff struct {
	Channel string          `json:"channel"`
	From    string          `json:"from"` // the head; empty: none yet
	To      string          `json:"to"`
	Files   []filediff.File `json:"files"`

	before, after fs.FS // that have the releases
	to            *plan.Release
}

func DiffVerb(a *cli.App) *cobra.Command {
	stat, rendered, cell := false, false, ""
	cmd := &cobra.Command{
		Use:     "diff CHANNEL [V]",
		GroupID: cli.GroupLook,
		Short:   "Show what another release would change in a channel",
		Long: `Compares the files of the channel's head with those of release V or, without V, of the newest
release without faults. With --rendered, compares the manifests that cells of the channel get.`,
		Example: `  sluice diff dedicated
  sluice diff dedicated 2026.11.3 --rendered --cell acme`,
		Args: cli.ArgumentCount(1, 2, "CHANNEL"),
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
			c, err := diffReleases(s, repo, args)
			if err == nil && (rendered || cell != "") {
				err = diffRendered(cmd.Context(), a, s, c, cell)
			}
			if err != nil {
				return fmt.Errorf("diff %s: %w", strings.Join(args, " "), err)
			}
			if stat {
				for i := range c.Files {
					c.Files[i].Diff = ""
				}
			}
			return a.PrintResult(c, func() { printDiff(a, c) })
		},
	}
	cmd.Flags().BoolVar(&stat, "stat", false, "print only the names of the files")
	cmd.Flags().BoolVar(&rendered, "rendered", false, "compare what the releases render to, for each kind of cell")
	cmd.Flags().StringVar(&cell, "cell", "", "`NAME` of the cell to render for (implies --rendered)")
	return cmd
}

func diffReleases(s *edits.Releases, repo *repos.OpenRepository, args []string) (*releaseDiff, error) {
	channel, err := s.Channel(args[0])
	if err != nil {
		return nil, err
	}
	out := &releaseDiff{Channel: channel.Name, Files: []filediff.File{}}
	if len(args) == 2 {
		out.To = args[1]
	} else {
		for _, r := range slices.Backward(s.Desired.Versions) {
			if len(edits.Fatal(r.Faults)) == 0 {
				out.To = r.Version.String()
				break
			}
		}
	}
	if out.To == "" {
		return nil, cli.Fail(fmt.Errorf("there is no release yet"), "sluice release cut V --from FOLDER")
	}
	if out.to, err = s.Release(out.To); err != nil {
		return nil, err
	}
	before := map[string][]byte{}
	if e := channel.Effective; e != nil {
		out.From = e.Release
		files, err := repo.FS(e.Commit) // the bytes in use, even if the folder was changed since
		if err != nil {
			return nil, err
		}
		out.before = files
		if before, err = edits.ReleaseFiles(files, e.Release); err != nil {
			return nil, err
		}
	}
	out.after = s.Files
	after, err := edits.ReleaseFiles(s.Files, out.To)
	if err != nil {
		return nil, err
	}
	out.Files = append(out.Files, filediff.Compare(before, after)...)
	return out, nil
}

func printDiff(a *cli.App, c *releaseDiff) {
	differ := "differ"
	if len(c.Files) == 1 {
		differ = "differs"
	}
	a.Stdout.PrintLine("%s: %s -> %s, %s %s", c.Channel, cli.OrDash(c.From), c.To, words.Count(len(c.Files), "file"),
		differ)
	a.Stdout.PrintDiffs(c.Files)
}
