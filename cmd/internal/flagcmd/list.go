package flagcmd

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// flagSummary is one flag in the output of flag list.
type flagSummary struct {
	Key           string            `json:"key"`
	State         string            `json:"state"`
	Default       string            `json:"default,omitempty"`
	Feature       string            `json:"feature,omitempty"`
	Announcements []string          `json:"announcements,omitempty"` // of the flag's feature
	Channels      map[string]string `json:"channels,omitempty"`      // state of the announcements
	Killed        string            `json:"killed,omitempty"`        // reason
	File          string            `json:"file,omitempty"`          // empty from a control plane
	Line          int               `json:"line,omitempty"`
}

func flagListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List flags: state, feature, announcements and how far they are, kills",
		Long: `Asks the control plane (--server), which knows how far the cells are, or reads the tip of the flags
repository and, for the channels, the release repository (--repo or $SLUICE_REPO).`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, fault, err := listFlags(a, cmd)
			if err != nil {
				return err
			}
			return a.PrintResult(list, func() {
				rows := make([][]cli.Field, 0, len(list))
				for _, l := range list {
					state, killed := cli.Text(l.State), cli.Coloured(cli.OrDash(l.Killed), cli.Plain)
					if l.State == disabled {
						state.Colour = cli.Faint
					}
					if l.Killed != "" {
						killed.Colour = cli.Red
					}
					var channels []string
					for _, name := range cli.SortedKeys(l.Channels) {
						channels = append(channels, name+" "+l.Channels[name])
					}
					rows = append(rows, []cli.Field{cli.Coloured(l.Key, cli.Bold), state,
						cli.Text(cli.OrDash(l.Feature)), cli.Text(cli.OrDash(words.Some(l.Announcements, 5))),
						cli.Text(cli.OrDash(strings.Join(channels, ", "))), killed})
				}
				a.Stdout.PrintTable([]string{"FLAG", "STATE", "FEATURE", "ANNOUNCEMENT", "CHANNELS", "KILLED"}, rows)
				if fault != "" {
					a.Stderr.PrintLine("%s", fault)
				}
			})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// listFlags returns the flags from the control plane, or from the repositories. fault says why not all of them
// are in force.
func listFlags(a *cli.App, cmd *cobra.Command) (list []flagSummary, fault string, err error) {
	if client.UsesServerForFlags(a) {
		return listServerFlags(cmd.Context(), a)
	}
	o, err := openFlagsState(a, cmd, time.Now())
	if err != nil {
		return nil, "", err
	}
	defer o.Close()
	return o.summaries(), tipFaultText(o.Flags), nil
}

func listServerFlags(ctx context.Context, a *cli.App) (list []flagSummary, fault string, err error) {
	list = []flagSummary{}
	err = client.EachPage(ctx, a, "/v1/flags", url.Values{"limit": {"1000"}}, func(page peopleapi.Flags) string {
		for _, f := range page.Flags {
			list = append(list, summaryFromServer(f, page.Kills))
		}
		fault = page.Fault
		return page.Next
	})
	return list, fault, err
}

func summaryFromServer(f view.FlagStatus, kills []view.FlagKill) flagSummary {
	l := flagSummary{Key: f.Key, State: enabled, Feature: f.Feature, Announcements: f.Announcements,
		Channels: map[string]string{}}
	if f.Disabled {
		l.State = disabled
	}
	for _, c := range f.Channels {
		if c.State != "" {
			l.Channels[c.Channel] = string(c.State)
		}
	}
	for _, k := range kills {
		if k.Flag == f.Key {
			l.Killed = k.Reason
		}
	}
	return l
}

const enabled, disabled = "ENABLED", "DISABLED"

// reportTipFaults warns that the tip is not what is in force.
func reportTipFaults(a *cli.App, s *edits.Flags) {
	if fault := tipFaultText(s); fault != "" {
		a.Stderr.PrintLine("%s", fault)
	}
}

func tipFaultText(s *edits.Flags) string {
	wrong := edits.Fatal(s.Tree.Faults)
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("%s at the tip, the first: %s; what was valid before stays in force (sluice flag lint)",
		words.Count(len(wrong), "fault"), wrong[0])
}

func (o *flagsState) summaries() []flagSummary {
	list := []flagSummary{}
	for _, key := range flagKeys(o.Flags) {
		list = append(list, o.summaryOf(o.Tree.Flags[key]))
	}
	return list
}

func (o *flagsState) summaryOf(d *flags.Definition) flagSummary {
	l := flagSummary{Key: d.Key, State: enabled, Default: d.DefaultVariant, Feature: d.Feature(), File: d.File,
		Line: d.Line}
	if d.Disabled {
		l.State = disabled
	}
	l.Announcements = o.Announcing(l.Feature)
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
	for _, k := range o.Tree.Overrides {
		if k.Kind == repository.Kill && k.Flag == d.Key {
			l.Killed = k.Reason
			if !k.Cells.IsZero() {
				l.Killed = fmt.Sprintf("in some cells: %s", k.Reason)
			}
		}
	}
	return l
}
