package ownercmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases"
)

func cellApprovalVerb(a *cli.App) *cobra.Command {
	set := func(use, brief string, on bool) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: brief, Args: cli.ArgumentCount(0, 0, "")}
		return ownerVerb(a, cmd, func([]string) owner.Decision { return owner.RequireApproval(on) })
	}
	return cli.Group("approval", "Set whether a release needs the owner's approval to start", ownerHelp,
		set("require", "Let only approved releases start", true),
		set("off", "Let releases start without the owner's approval", false))
}

// candidates returns what can be approved, newest first.
func candidates(o agent.Offer) []owner.Candidate {
	return owner.Candidates(o.Head, o.Assignment, o.Running)
}

func cellApproveVerb(a *cli.App) *cobra.Command {
	rendered, own := false, ownFiles{}
	cmd := &cobra.Command{
		Use: "approve [RELEASE]", Short: "Approve a release that is offered to this cell, by its digest",
		Args: cli.ArgumentCount(0, 1, "[RELEASE]"),
		Long: `Approves exactly the bytes that the control plane offers. If several releases are offered, say which.

--rendered shows what the release would change in the manifests that the cell runs, and approves
nothing. It reads what the agent has on disk: the agent gets a release that waits for approval.
sluice cell diff compares with what a cluster has instead.`,
		Example: `  sluice cell approve --rendered --state /var/lib/sluice
  sluice cell approve 2026.11.3 --state /var/lib/sluice`,
	}
	folder := addStateFlags(a, cmd)
	cmd.Flags().BoolVar(&rendered, "rendered", false, "show what would change in the manifests, and approve nothing")
	own.add(cmd, "with --rendered: ")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		offered, err := agent.LoadOffer(state)
		if err != nil {
			return fmt.Errorf("cell approve: %w", err)
		}
		c, err := chooseCandidate("cell approve", candidates(offered), args)
		if err != nil {
			return err
		}
		switch {
		case rendered:
			k, err := newKeptRenderer(a, "cell approve "+c.Release, state, own)
			if err != nil {
				return err
			}
			defer k.close()
			changes, err := compareRendered(cmd.Context(), k, offered, c)
			if err != nil {
				return err
			}
			return printRendered(a, changes)
		case own != ownFiles{}:
			return cli.UsageError(cmd, "--values and --age-key are about --rendered")
		}
		return changeOwner(a, cmd, folder, owner.Approve(c))
	}
	return cmd
}

// chooseCandidate returns the candidate that the arguments of a verb name.
func chooseCandidate(verb string, all []owner.Candidate, args []string) (owner.Candidate, error) {
	var names []string
	for _, c := range all {
		names = append(names, c.Release+" "+string(c.Digest))
	}
	switch {
	case len(all) == 0:
		return owner.Candidate{}, cli.Fail(fmt.Errorf("%s: nothing is offered that this cell does not run", verb),
			"sluice cell owner shows what it runs")
	case len(args) == 0 && len(all) == 1:
		return all[0], nil
	case len(args) == 0:
		return owner.Candidate{}, cli.Fail(fmt.Errorf("%s: several releases are offered: %s", verb,
			strings.Join(names, ", ")), "name one: sluice %s %s", verb, all[0].Release)
	}
	i := slices.IndexFunc(all, func(c owner.Candidate) bool {
		return c.Release == args[0] || string(c.Digest) == args[0]
	})
	if i < 0 {
		return owner.Candidate{}, cli.Fail(fmt.Errorf("%s: %s is not offered", verb, args[0]), "offered: %s",
			strings.Join(names, ", "))
	}
	return all[i], nil
}

// ownerView is the output of sluice cell owner.
type ownerView struct {
	Cell    string            `json:"cell"`
	Owner   *cells.Owner      `json:"owner"`
	Offered []owner.Candidate `json:"offered"`
	Running *owner.Candidate  `json:"running,omitempty"`
	Waits   string            `json:"waits,omitempty"`

	PinDigest releases.Digest `json:"pinDigest,omitempty"` // empty: a pin is by name alone

	Notices []cells.Notice `json:"notices,omitempty"` // from the control plane
}

// loadOwner reads the owner's decisions; without any, it returns an empty Owner.
func loadOwner(a *cli.App, cmd *cobra.Command, folder func() (string, error)) (*cells.Owner, string, error) {
	state, err := folder()
	if err != nil {
		return nil, "", err
	}
	o, err := agent.LoadOwner(state)
	if err != nil {
		return nil, "", cli.Fail(fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err),
			"fix the file, or remove it to decide anew; until then the agent starts nothing new")
	}
	if o == nil {
		o = &cells.Owner{}
	}
	return o, state, nil
}

func cellOwnerVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "owner", Short: "Show what the cell's owner decided, and what waits for it",
		Args: cli.ArgumentCount(0, 0, "")}
	folder := addStateFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, state, err := loadOwner(a, cmd, folder)
		if err != nil {
			return err
		}
		offered, err := agent.LoadOffer(state)
		if err != nil {
			return fmt.Errorf("cell owner: %w", err)
		}
		name, _, err := agent.StateDirCell(state)
		if err != nil {
			return fmt.Errorf("cell owner: %w", err)
		}
		v := ownerView{Cell: name, Owner: o, Offered: append([]owner.Candidate{}, candidates(offered)...),
			Waits: offered.Waits, PinDigest: o.PinDigest, Notices: offered.Notices}
		if r := offered.Running; r != nil {
			v.Running = &owner.Candidate{Release: r.Release, Digest: r.Digest, Channel: r.Channel}
		}
		return a.PrintResult(v, func() { printOwner(a, v) })
	}
	return cmd
}

func printOwner(a *cli.App, v ownerView) {
	o := v.Owner
	say := func(what, text string) { a.Stdout.PrintLine("%-9s %s", what, text) }
	say("cell", cli.OrDash(v.Cell))
	if v.Running != nil {
		say("runs", v.Running.Release+" "+string(v.Running.Digest))
	}
	for _, c := range v.Offered {
		mark := ""
		if slices.Contains(o.Approved, c.Digest) {
			mark = " (approved)"
		}
		say("offered", c.Release+" "+string(c.Digest)+mark)
	}
	if v.Waits != "" {
		say("waits", v.Waits)
	}
	for _, n := range v.Notices {
		say("notice", n.Text)
	}
	say("paused", cli.OrDash(o.Paused))
	say("pin", cli.OrDash(owner.PinText(o)))
	approval := "not required"
	if o.Approval {
		approval = fmt.Sprintf("required; %d approved", len(o.Approved))
	}
	say("approval", approval)
	printHeldFeatures(a, o)
	printWindows(a, o)
}
