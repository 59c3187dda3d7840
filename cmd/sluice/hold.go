package main

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
)

func (a *app) holdVerb() *cobra.Command {
	var reason, id string
	var only []string
	var lift bool
	cmd := &cobra.Command{
		Use:     "hold CHANNEL --reason WHY | CHANNEL --lift [ID]",
		GroupID: groupDecide,
		Short:   "Stop a channel, all but rollbacks, until somebody lifts it",
		Long: `Commits channels/CHANNEL/holds/ID.yaml: no promotion and no grant until the file is gone. With --cell it stops grants to those
cells only. --lift removes it; the ID is needed only if there are several. The engine's own holds, after a rollback or a halt, are
lifted the same way.`,
		Example: `  sluice hold dedicated --reason "incident 512"
  sluice hold dedicated --cell acme --reason "their trade fair"
  sluice hold dedicated --lift`,
		Args: arguments(1, 2, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel := args[0]
			if len(args) == 2 {
				id = args[1]
			}
			if lift {
				return a.lift(cmd, channel, id, reason)
			}
			if len(args) == 2 {
				return usage(cmd, "%q is one argument too many; to lift a hold: --lift", args[1])
			}
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			return a.hold(cmd, channel, id, channels.Hold{Reason: reason, Cells: only})
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why, for everyone who meets it")
	f.StringVar(&id, "id", "", "the hold's name (default: made of the time)")
	f.StringSliceVar(&only, "cell", nil, "hold this `CELL` only; may be repeated")
	f.BoolVar(&lift, "lift", false, "remove the hold")
	return cmd
}

// holdID are the names that every file system takes, so that a checkout of the repository works everywhere.
var holdID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

func holdFile(channel, id string) string {
	return path.Join(channels.Dir, channel, "holds", id+".yaml")
}

// hold commits a hold under an id; empty: one made of the time.
func (a *app) hold(cmd *cobra.Command, channel, id string, h channels.Hold) error {
	what := fmt.Sprintf("hold %s", channel)
	if len(h.Cells) > 0 {
		what = fmt.Sprintf("hold %s in %s", strings.Join(h.Cells, ", "), channel)
	}
	named := id != ""
	if named && !holdID.MatchString(id) {
		return fail(fmt.Errorf("%s: --id %q does not do as a file's name everywhere", what, id), "use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first")
	}
	now := time.Now().UTC().Format("20060102-150405")
	who, err := a.author(cmd.Context())
	if err != nil {
		return wrapFailure(what, err)
	}
	h.By = who.Name
	return a.commit(cmd, change{what: what, body: h.Reason}, func(s *snapshot) (map[string][]byte, error) {
		if err := s.cellsOf(channel, h.Cells); err != nil {
			return nil, err
		}
		if !named { // two people in one second are both right
			id = now
			for n := 2; exists(s.files, holdFile(channel, id)); n++ {
				id = fmt.Sprintf("%s-%d", now, n)
			}
		}
		if exists(s.files, holdFile(channel, id)) {
			return nil, fail(fmt.Errorf("there is a hold %s already", id), "lift it first: sluice hold %s --lift %s", channel, id)
		}
		data, err := yaml.Marshal(h)
		return map[string][]byte{holdFile(channel, id): data}, err
	}, func() string {
		if len(h.Cells) > 0 {
			return fmt.Sprintf("they get nothing new but a rollback; sluice hold %s --lift %s ends it", channel, id)
		}
		return fmt.Sprintf("nothing moves there but a rollback; sluice hold %s --lift ends it", channel)
	})
}

// cellsOf tells whether there is a channel, and the cells are its.
func (s *snapshot) cellsOf(channel string, names []string) error {
	if _, err := s.channel(channel); err != nil {
		return err
	}
	for _, name := range names {
		if cell := s.desired.Cells[name]; cell == nil || cell.Channel != channel {
			return fail(fmt.Errorf("%s is no cell of %s", name, channel), "sluice status --channel %s lists them", channel)
		}
	}
	return nil
}

func (a *app) lift(cmd *cobra.Command, channel, id, reason string) error {
	return a.commit(cmd, change{what: "lift the hold on " + channel, body: reason}, func(s *snapshot) (map[string][]byte, error) {
		c, err := s.channel(channel)
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, h := range slices.Concat(c.Holds, c.CellHolds) {
			ids = append(ids, h.ID)
		}
		switch {
		case len(ids) == 0:
			return nil, fail(fmt.Errorf("%s has no hold", channel), "sluice why %s tells what it waits for", channel)
		case id == "" && len(ids) > 1:
			return nil, fail(fmt.Errorf("%s has %d holds: %s", channel, len(ids), strings.Join(ids, ", ")), "say which: sluice hold %s --lift %s", channel, ids[0])
		case id == "":
			id = ids[0]
		case !slices.Contains(ids, id):
			return nil, fail(fmt.Errorf("%s has no hold %s", channel, id), "there are: %s", strings.Join(ids, ", "))
		}
		return map[string][]byte{holdFile(channel, id): nil}, nil
	}, func() string { return "what its gates allow goes on; sluice why " + channel })
}

// exists tells whether the repository has a file.
func exists(files fs.FS, name string) bool {
	_, err := fs.Stat(files, name)
	return err == nil
}
