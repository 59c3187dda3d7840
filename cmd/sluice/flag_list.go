package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
)

// flagListed is one flag as flag list shows it.
type flagListed struct {
	Key           string            `json:"key"`
	State         string            `json:"state"`
	Default       string            `json:"default,omitempty"`
	Feature       string            `json:"feature,omitempty"`
	Announcements []string          `json:"announcements,omitempty"` // of its feature
	Channels      map[string]string `json:"channels,omitempty"`      // how far these are
	Killed        string            `json:"killed,omitempty"`        // why
	File          string            `json:"file"`
	Line          int               `json:"line"`
}

func (a *app) flagListVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List flags: state, feature, its announcements and how far they are, kills",
		Long: `Reads the tip of the flags repository. With the release repository (--repo or $SLUICE_REPO) it knows the channels; how far cells are is asked
of the control plane: sluice flag show.`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.outlook(cmd, time.Now())
			if err != nil {
				return err
			}
			defer o.Close()
			list := o.list()
			if done, err := a.encode(list); done {
				return err
			}
			rows := make([][]field, 0, len(list))
			for _, l := range list {
				state, killed := text(l.State), field{orDash(l.Killed), plain}
				if l.State == disabled {
					state.colour = faint
				}
				if l.Killed != "" {
					killed.colour = red
				}
				var channels []string
				for _, name := range sortedKeys(l.Channels) {
					channels = append(channels, name+" "+l.Channels[name])
				}
				rows = append(rows, []field{{l.Key, bold}, state, text(orDash(l.Feature)), text(orDash(some(l.Announcements))), text(orDash(strings.Join(channels, ", "))), killed})
			}
			a.stdout.table([]string{"FLAG", "STATE", "FEATURE", "ANNOUNCEMENT", "CHANNELS", "KILLED"}, rows)
			a.warnOfFaults(o.flagsSnapshot)
			return nil
		},
	}
	return cmd
}

const disabled = "DISABLED"

// warnOfFaults says that the tip is not what is in force.
func (a *app) warnOfFaults(s *flagsSnapshot) {
	if wrong := fatal(s.tree.Faults); len(wrong) > 0 {
		a.stderr.line("%s at the tip, the first: %s; what was valid before stays in force (sluice flag lint)", counted(len(wrong), "fault"), wrong[0])
	}
}

func (o *outlook) list() []flagListed {
	list := []flagListed{}
	for _, key := range flagKeys(o.flagsSnapshot) {
		list = append(list, o.listed(o.tree.Flags[key]))
	}
	return list
}

func (o *outlook) listed(d *flags.Definition) flagListed {
	l := flagListed{Key: d.Key, State: "ENABLED", Default: d.DefaultVariant, Feature: d.Feature(), File: d.File, Line: d.Line}
	if d.Disabled {
		l.State = disabled
	}
	l.Announcements = o.announcing(l.Feature)
	for _, s := range o.plan.Announcements {
		if !slices.Contains(l.Announcements, s.Announcement.ID) {
			continue
		}
		for _, c := range s.Channels {
			if l.Channels == nil {
				l.Channels = map[string]string{}
			}
			if before := l.Channels[c.Channel]; before == "" || c.Percent > 0 {
				l.Channels[c.Channel] = string(c.State)
			}
		}
	}
	for _, k := range o.tree.Overrides {
		if k.Kind == flags.Kill && k.Flag == d.Key {
			l.Killed = k.Reason
			if !k.Cells.IsZero() {
				l.Killed = fmt.Sprintf("in some cells: %s", k.Reason)
			}
		}
	}
	return l
}
