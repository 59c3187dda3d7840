package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
)

func (a *app) quarantineVerb() *cobra.Command {
	var reason string
	var in []string
	var lift bool
	cmd := &cobra.Command{
		Use:     "quarantine V --reason WHY | V --lift",
		GroupID: groupDecide,
		Short:   "Keep a release out of all channels, or of some",
		Long: `Commits quarantine/V.yaml: from then on no channel (or none of --channel) takes the release, and no cell is granted it.
Channels that run it and have "onFailure: rollback" go back to their last good release.`,
		Example: `  sluice quarantine 2026.11.2 --reason "loses workspaces"
  sluice quarantine 2026.11.2 --lift`,
		Args: arguments(1, 1, "V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			version := args[0]
			file := path.Join(channels.QuarantineDir, version+".yaml")
			if lift {
				return a.commit(cmd, change{what: "lift the quarantine of " + version, body: reason}, func(s *snapshot) (map[string][]byte, error) {
					return removal(s, file, "quarantined")
				}, func() string { return "it is a candidate again where it was accepted" })
			}
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			return a.quarantine(cmd, version, file, reason, in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why, for everyone who meets it")
	f.StringSliceVar(&in, "channel", nil, "only this `CHANNEL`; may be repeated")
	f.BoolVar(&lift, "lift", false, "end the quarantine")
	return cmd
}

func (a *app) quarantine(cmd *cobra.Command, version, file, reason string, in []string) error {
	what := "quarantine " + version
	if len(in) > 0 {
		what += " in " + strings.Join(in, ", ")
	}
	who, err := a.author(cmd.Context())
	if err != nil {
		return wrapFailure(what, err)
	}
	var running []string
	return a.commit(cmd, change{what: what, body: reason}, func(s *snapshot) (map[string][]byte, error) {
		for _, name := range in {
			if _, err := s.channel(name); err != nil {
				return nil, err
			}
		}
		r := s.desired.Releases[version]
		if r == nil {
			_, err := s.release(version)
			return nil, err
		}
		running = nil
		for _, name := range s.desired.Order {
			if e := s.desired.Channels[name].Effective; e != nil && e.Release == version && (len(in) == 0 || slices.Contains(in, name)) {
				running = append(running, name)
			}
		}
		data, err := yaml.Marshal(channels.Quarantine{Digest: r.Digest, Channels: in, Reason: reason, By: who.Name})
		return map[string][]byte{file: data}, err
	}, func() string {
		if len(running) == 0 {
			return "no channel takes it; lift it with sluice quarantine " + version + " --lift"
		}
		return fmt.Sprintf("%s runs it: where onFailure is rollback it goes back by itself; sluice status tells", strings.Join(running, ", "))
	})
}

// removal takes one file away that has to be there.
func removal(s *snapshot, file, state string) (map[string][]byte, error) {
	if !exists(s.files, file) {
		return nil, fail(fmt.Errorf("it is not %s: there is no %s", state, file), "sluice status shows what holds")
	}
	return map[string][]byte{file: nil}, nil
}
