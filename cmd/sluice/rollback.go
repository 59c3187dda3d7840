package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

func (a *app) rollbackVerb() *cobra.Command {
	var to, reason string
	cmd := &cobra.Command{
		Use:     "rollback CHANNEL --reason WHY",
		GroupID: groupDecide,
		Short:   "Ask for a channel to go back to an earlier release",
		Long: `Commits a request downward: the engine answers with a rollback, in force at once for all cells, and leaves a hold on
the channel, so that nothing moves up until you lift it (sluice hold CHANNEL --lift). Without --to, the newest earlier
head is meant that is not quarantined. To keep a release from coming back, quarantine it.`,
		Example: `  sluice rollback dedicated --reason "workspaces start slowly"
  sluice rollback dedicated --to 2026.11.1 --reason "workspaces start slowly"`,
		Args: arguments(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			channel := args[0]
			c := change{what: "roll back " + channel, body: reason}
			if to != "" {
				c.what += " to " + to
			}
			return a.commit(cmd, c, func(s *snapshot) (map[string][]byte, error) {
				ch, err := s.channel(channel)
				if err != nil {
					return nil, err
				}
				target, err := downward(s, ch, to)
				if err != nil {
					return nil, err
				}
				return withRelease(s, channel, target)
			}, func() string {
				return fmt.Sprintf("the engine moves it, and holds the channel; when all is well: sluice hold %s --lift", channel)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `RELEASE` to go back to")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the commit and for those who ask later")
	return cmd
}

// downward checks the target of a rollback, or finds one.
func downward(s *snapshot, c *plan.Channel, to string) (string, error) {
	e := c.Effective
	if e == nil {
		return "", fail(fmt.Errorf("%s has no release yet", c.Name), "there is nothing to go back from")
	}
	head, err := releases.ParseVersion(e.Release)
	if err != nil {
		return "", err
	}
	if to != "" {
		r, err := s.release(to)
		if err != nil {
			return "", err
		}
		if !r.Version.Less(head) {
			return "", fail(fmt.Errorf("%s runs %s, and %s is no earlier release", c.Name, e.Release, to), "to go up: sluice promote %s %s", c.Name, to)
		}
		return to, nil
	}
	for _, h := range slices.Backward(c.History) {
		r, err := s.release(h.Release)
		if err != nil || !r.Version.Less(head) || s.quarantined(c.Name, h.Release, h.Digest) {
			continue
		}
		return h.Release, nil
	}
	return "", fail(fmt.Errorf("%s never ran an earlier release that it could go back to", c.Name), "name one: --to V (sluice release list)")
}

// quarantined tells whether a channel must not take a release.
func (s *snapshot) quarantined(channel, version string, digest releases.Digest) bool {
	for _, q := range s.desired.Quarantine {
		if q.Stops(channel, version, digest) {
			return true
		}
	}
	return false
}
