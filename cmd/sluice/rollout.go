package main

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

func (a *app) rolloutVerb() *cobra.Command {
	cmd := group("rollout", "See how a head reaches its cells; stop it, let it go on, skip a wave", `A head reaches the cells of its channel in waves, as rollout: in channel.yaml says. What you decide here is a commit to the
release repository, like everything that is meant to be: halt is a hold, resume its removal.`,
		a.complete(a.rolloutStatusVerb(), channelNames),
		a.complete(a.rolloutHaltVerb(), channelNames),
		a.complete(a.rolloutResumeVerb(), channelNames),
		a.complete(a.rolloutSkipVerb(), channelNames),
	)
	cmd.GroupID = groupDecide
	return cmd
}

// haltID is the hold that sluice rollout halt leaves.
const haltID = "rollout"

func (a *app) rolloutHaltVerb() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "halt CHANNEL --reason WHY",
		Short: "Stop the rollout: no more cells begin, and nothing is promoted",
		Long: `Commits channels/CHANNEL/holds/rollout.yaml. Cells that began go on to their end; only rollbacks are granted. To take the
release back as well: sluice rollback.`,
		Example: `  sluice rollout halt dedicated --reason "support sees slow starts"`,
		Args:    arguments(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			return a.hold(cmd, args[0], haltID, channels.Hold{Reason: reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everyone who meets it")
	return cmd
}

func (a *app) rolloutResumeVerb() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "resume CHANNEL [HOLD]",
		Short: "Let a halted rollout go on where it was",
		Long: `Removes the hold that stops it: the one that sluice rollout halt left or, where the engine halted it, the engine's. HOLD says
which if there are several.`,
		Example: `  sluice rollout resume dedicated`,
		Args:    arguments(1, 2, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) == 2 {
				id = args[1]
			}
			return a.resume(cmd, args[0], id, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the commit")
	return cmd
}

func (a *app) resume(cmd *cobra.Command, channel, id, reason string) error {
	return a.commit(cmd, change{what: "resume the rollout of " + channel, body: reason}, func(s *snapshot) (map[string][]byte, error) {
		c, err := s.channel(channel)
		if err != nil {
			return nil, err
		}
		held := func(id string) bool {
			return slices.ContainsFunc(c.Holds, func(h channels.Hold) bool { return h.ID == id })
		}
		switch {
		case len(c.Holds) == 0:
			return nil, fail(fmt.Errorf("%s is not halted", channel), "sluice rollout status %s tells what it waits for", channel)
		case id != "" && !held(id):
			return nil, fail(fmt.Errorf("%s has no hold %s", channel, id), "sluice status --channel %s lists them", channel)
		case id != "":
		case held(haltID):
			id = haltID
		case len(c.Holds) == 1:
			id = c.Holds[0].ID
		default:
			return nil, fail(fmt.Errorf("%s has %d holds, none of them by sluice rollout halt", channel, len(c.Holds)), "say which: sluice rollout resume %s %s", channel, c.Holds[0].ID)
		}
		return map[string][]byte{holdFile(channel, id): nil}, nil
	}, func() string { return "it goes on where it was; sluice rollout status " + channel })
}

func (a *app) rolloutSkipVerb() *cobra.Command {
	var reason string
	var wave int
	cmd := &cobra.Command{
		Use:   "skip-wave CHANNEL --reason WHY",
		Short: "Open the next wave without waiting for those before",
		Long: `Commits channels/CHANNEL/skips/SEQUENCE.yaml, for the head that the channel has now and no other. It skips the waves' soak and
nothing else: neither quarantine nor holds, windows, freezes, maxInFlight or the failure budget.

Which wave is open, the control plane (--server) or the store (--data, --database) is asked; --wave names the wave to open and asks nobody.`,
		Example: `  sluice rollout skip-wave dedicated --reason "it soaked in staging for a week" --server unix:///run/sluice.sock
  sluice rollout skip-wave dedicated --wave 3 --reason "urgent"`,
		Args: arguments(1, 1, "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			return a.skipWave(cmd, args[0], wave, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everyone who asks later")
	cmd.Flags().IntVar(&wave, "wave", 0, "the `WAVE` to open (default: the one after that which is open)")
	a.serverFlag(cmd)
	return cmd
}

func skipFile(channel string, sequence int64) string {
	return path.Join(channels.Dir, channel, "skips", strconv.FormatInt(sequence, 10)+".yaml")
}

func (a *app) skipWave(cmd *cobra.Command, channel string, wave int, reason string) error {
	what := "skip a wave of " + channel
	who, err := a.author(cmd.Context())
	if err != nil {
		return wrapFailure(what, err)
	}
	seen := int64(0)
	if wave == 0 {
		if wave, seen, err = a.nextWave(cmd, channel); err != nil {
			return wrapFailure(what, err)
		}
	}
	what = fmt.Sprintf("open wave %d of %s", wave, channel)
	return a.commit(cmd, change{what: what, body: reason}, func(s *snapshot) (map[string][]byte, error) {
		c, err := s.channel(channel)
		if err != nil {
			return nil, err
		}
		e := c.Effective
		switch {
		case e == nil:
			return nil, fail(fmt.Errorf("%s has no release yet", channel), "sluice why %s tells what it waits for", channel)
		case seen != 0 && seen != e.Sequence:
			return nil, fail(fmt.Errorf("the head moved to %s meanwhile", e.Release), "look again: sluice rollout status %s", channel)
		case c.Policy == nil:
			return nil, fail(fmt.Errorf("the policy of %s has faults", channel), "sluice validate")
		case wave < 2 || wave > len(c.Policy.Rollout.Waves):
			return nil, fail(fmt.Errorf("there is no wave %d to open: %s has %d", wave, channel, len(c.Policy.Rollout.Waves)), "sluice rollout status %s", channel)
		}
		for _, skip := range c.Skips {
			if skip.Sequence == e.Sequence && skip.Wave >= wave {
				return nil, errUnchanged
			}
		}
		data, err := yaml.Marshal(channels.Skip{Wave: wave, Reason: reason, By: who.Name})
		return map[string][]byte{skipFile(channel, e.Sequence): data}, err
	}, func() string {
		return fmt.Sprintf("its cells get it as far as all else allows; sluice rollout status %s", channel)
	})
}

// nextWave finds out which wave follows the one that is open, and of which head.
func (a *app) nextWave(cmd *cobra.Command, channel string) (wave int, sequence int64, err error) {
	if !a.asksServer() && a.data == "" && a.database == "" {
		return 0, 0, fail(fmt.Errorf("which wave is open is not known here"), "ask the control plane with --server, or name the wave to open with --wave")
	}
	all, err := a.rollouts(cmd.Context(), cmd, channel)
	if err != nil {
		return 0, 0, err
	}
	p := all[0]
	switch {
	case p.Wave == 0:
		return 0, 0, fail(fmt.Errorf("%s has no rollout by waves under way", channel), "sluice rollout status %s", channel)
	case p.Wave == len(p.Waves):
		return 0, 0, fail(fmt.Errorf("the last wave, %d, is open already", p.Wave), "sluice rollout status %s", channel)
	}
	return p.Wave + 1, p.Sequence, nil
}

// rollouts tells how far heads have come: as the control plane knows it, or as the repository and the store say. With a
// channel, that one's only, and it is there.
func (a *app) rollouts(ctx context.Context, cmd *cobra.Command, channel string) ([]plan.Progress, error) {
	if a.asksServer() {
		var all peopleapi.Rollouts
		err := a.ask(ctx, "/v1/rollouts?channel="+url.QueryEscape(channel), &all)
		if err == nil && channel != "" && len(all.Rollouts) != 1 {
			err = fmt.Errorf("the control plane told of %d rollouts, not of one", len(all.Rollouts))
		}
		return all.Rollouts, err
	}
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	v, err := a.view(ctx, repo)
	if err != nil {
		return nil, err
	}
	if channel != "" && v.Desired.Channels[channel] == nil {
		return nil, fail(fmt.Errorf("there is no channel %s", channel), "sluice status lists them")
	}
	return view.Rollouts(v, channel), nil
}
