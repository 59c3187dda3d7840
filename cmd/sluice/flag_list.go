package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
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
	File          string            `json:"file,omitempty"`          // where it is; a control plane does not say
	Line          int               `json:"line,omitempty"`
}

func (a *app) flagListVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List flags: state, feature, its announcements and how far they are, kills",
		Long: `Asks the control plane (--server), which knows how far cells are, or reads the tip of the flags repository and, for the channels, the
release repository (--repo or $SLUICE_REPO).`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, fault, err := a.flagsListed(cmd)
			if err != nil {
				return err
			}
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
			if fault != "" {
				a.stderr.line("%s", fault)
			}
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// flagsListed asks the control plane, or the repositories. fault says why what is listed is not all in force.
func (a *app) flagsListed(cmd *cobra.Command) (list []flagListed, fault string, err error) {
	if a.asksFlagsServer() {
		return a.serverFlags(cmd.Context())
	}
	o, err := a.outlook(cmd, time.Now())
	if err != nil {
		return nil, "", err
	}
	defer o.Close()
	return o.list(), faultsAtTip(o.flagsSnapshot), nil
}

// serverFlags reads all pages.
func (a *app) serverFlags(ctx context.Context) (list []flagListed, fault string, err error) {
	list = []flagListed{}
	q := url.Values{"limit": {"1000"}}
	for {
		var page peopleapi.Flags
		if err := a.ask(ctx, "/v1/flags?"+q.Encode(), &page); err != nil {
			return nil, "", err
		}
		for _, f := range page.Flags {
			list = append(list, listedThere(f, page.Kills))
		}
		if page.Next == "" {
			return list, page.Fault, nil
		}
		q.Set("after", page.Next)
	}
}

func listedThere(f view.FlagStatus, kills []view.FlagKill) flagListed {
	l := flagListed{Key: f.Key, State: enabled, Feature: f.Feature, Announcements: f.Announcements, Channels: map[string]string{}}
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

// warnOfFaults says that the tip is not what is in force.
func (a *app) warnOfFaults(s *flagsSnapshot) {
	if fault := faultsAtTip(s); fault != "" {
		a.stderr.line("%s", fault)
	}
}

func faultsAtTip(s *flagsSnapshot) string {
	wrong := fatal(s.tree.Faults)
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("%s at the tip, the first: %s; what was valid before stays in force (sluice flag lint)", counted(len(wrong), "fault"), wrong[0])
}

func (o *outlook) list() []flagListed {
	list := []flagListed{}
	for _, key := range flagKeys(o.flagsSnapshot) {
		list = append(list, o.listed(o.tree.Flags[key]))
	}
	return list
}

func (o *outlook) listed(d *flags.Definition) flagListed {
	l := flagListed{Key: d.Key, State: enabled, Default: d.DefaultVariant, Feature: d.Feature(), File: d.File, Line: d.Line}
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
