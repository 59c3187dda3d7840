package main

import (
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels"
)

func (a *app) freezeVerb() *cobra.Command {
	var from, until, reason string
	cmd := &cobra.Command{
		Use:     "freeze CHANNEL --until T --reason WHY",
		GroupID: groupDecide,
		Short:   "Let nothing into a channel for a while",
		Long: `Adds a freeze to the channel's policy in one commit of yours; comments stay. From --from (default: now) up to --until,
nothing is promoted or granted there but rollbacks. T is RFC 3339, or a duration from now (--from) or from --from (--until).
To end it early, edit channels/CHANNEL/channel.yaml.`,
		Example: `  sluice freeze dedicated --from 2026-12-20T00:00:00Z --until 2027-01-05T00:00:00Z --reason holidays
  sluice freeze dedicated --until 48h --reason "conference"`,
		Args: arguments(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			begin := time.Now().UTC().Truncate(time.Second)
			var err error
			if from != "" {
				if begin, err = instant(from, begin); err != nil {
					return usage(cmd, "--from %w", err)
				}
			}
			if until == "" || reason == "" {
				return usage(cmd, "--until and --reason are needed")
			}
			end, err := instant(until, begin)
			if err != nil {
				return usage(cmd, "--until %w", err)
			}
			if !begin.Before(end) {
				return usage(cmd, "--until %s is not after --from %s", stamp(end), stamp(begin))
			}
			return a.freeze(cmd, args[0], channels.Freeze{From: begin, Until: end, Reason: reason})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "when it begins (default: now)")
	f.StringVar(&until, "until", "", "when it ends")
	f.StringVar(&reason, "reason", "", "why, for everyone who meets it")
	return cmd
}

// instant reads a time, or a duration after base.
func instant(s string, base time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return base.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%s is neither a time like 2026-12-20T00:00:00Z nor a duration like 48h", s)
	}
	return t, nil
}

func (a *app) freeze(cmd *cobra.Command, channel string, f channels.Freeze) error {
	what := fmt.Sprintf("freeze %s until %s", channel, stamp(f.Until))
	return a.commit(cmd, change{what: what, body: f.Reason}, func(s *snapshot) (map[string][]byte, error) {
		if _, err := s.channel(channel); err != nil {
			return nil, err
		}
		file := path.Join(channels.Dir, channel, "channel.yaml")
		policy, err := fs.ReadFile(s.files, file)
		if err != nil {
			return nil, err
		}
		edited, err := channels.AddFreeze(policy, f)
		if err != nil {
			return nil, fail(err, "edit %s by hand", file)
		}
		return map[string][]byte{file: edited}, nil
	}, func() string { return "nothing is promoted or granted there meanwhile, but rollbacks" })
}
