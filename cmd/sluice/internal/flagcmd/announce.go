package flagcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
)

func AnnounceVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("announce", "Tell users of features, and turn them on at that second", `An announcement says what is told, when, to whom, and which features turn on with it: announcements/ID.yaml of the flags repository. Once
it is approved it is sent to the cells ahead of time, and each that runs a release with the features turns them on at the second, also
without a network; one that does not, when it has such a release.

Each verb that changes something makes one commit of yours to the flags repository, never to the release repository. It is
--flags-repo, else $SLUICE_FLAGS_REPO, else the one around the working folder.`,
		announceListVerb(a),
		cli.CompleteFlags(a, announceShowVerb(a), announcementIDs),
		announceNewVerb(a),
		cli.CompleteFlags(a, announceApproveVerb(a), announcementIDs),
		cli.CompleteFlags(a, announceHoldVerb(a), announcementIDs),
		cli.CompleteFlags(a, announceCancelVerb(a), announcementIDs),
		cli.CompleteFlags(a, announcePublishVerb(a), announcementIDs),
	)
	cmd.GroupID = cli.GroupFlags
	cli.FlagsRepoFlags(a, cmd)
	return cmd
}

func announcementIDs(s *edits.Flags) []string { return cli.SortedKeys(s.Tree.Announcements) }

func announceHoldVerb(a *cli.App) *cobra.Command {
	var reason string
	var lift bool
	cmd := &cobra.Command{
		Use:   "hold ID --reason WHY | ID --lift",
		Short: "Don't publish an announcement until somebody lifts it",
		Long: `Commits overrides/hold-ID.yaml: cells are told at once. If its time passes while it is held, it is not published when the hold is lifted:
it then needs a new time, or sluice announce publish ID --now. After publication a hold counts for nothing: kill its flags, or cancel it.`,
		Example: `  sluice announce hold workspace-classes --reason "the docs are not ready"
  sluice announce hold workspace-classes --lift`,
		Args: cli.Arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" && !lift {
				return cli.Usage(cmd, "--reason is missing")
			}
			if lift {
				return cli.Commit(a, cmd, a.Flags(), edits.LiftAnnouncement{ID: args[0], Reason: reason})
			}
			return cli.Commit(a, cmd, a.Flags(), edits.HoldAnnouncement{ID: args[0], Reason: reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everyone who meets it")
	cmd.Flags().BoolVar(&lift, "lift", false, "remove the hold")
	return cmd
}

func announceCancelVerb(a *cli.App) *cobra.Command {
	var d edits.CancelAnnouncement
	cmd := &cobra.Command{
		Use:   "cancel ID --reason WHY",
		Short: "Don't publish an announcement or, if it was published, take it back",
		Long: `Commits the reason as cancelled in announcements/ID.yaml. Before its time the announcement is never published; after it, it is
retracted: its features go off again, everywhere.`,
		Example: `  sluice announce cancel workspace-classes --reason "it comes with the next version"`,
		Args:    cli.Arguments(1, 1, "ID"),
	}
	cli.NeedReason(cmd, &d.Reason, "why, for everyone who meets it")
	return cli.Decides(a, cmd, a.Flags(), func(args []string) edits.Decision[*edits.Flags] {
		d.ID = args[0]
		return d
	})
}

func announceApproveVerb(a *cli.App) *cobra.Command {
	var w cli.Approving
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve an announcement with its flags as they are now, signed with your SSH key",
		Long: `Commits approvals/ID/PERSON.yaml with the hash of the announcement and its flags' definitions, signed with an SSH key that sluice.yaml
of the flags repository lists for you under people. The key is --key, or git's user.signingKey, or one that your SSH agent has. Whoever
wrote the announcement can't approve it. An edit of the announcement or of its flags needs approval again.`,
		Example: `  sluice announce approve workspace-classes
  sluice announce approve workspace-classes --as ada --key ~/.ssh/id_ed25519 --comment "the docs are out"`,
		Args: cli.Arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cli.Approve(a, cmd, a.Flags(), w, func(as string) edits.Decision[*edits.Flags] {
				return edits.ApproveAnnouncement{ID: args[0], As: as, Comment: w.Comment}
			})
		},
	}
	w.Flags(cmd)
	return cmd
}

func announcePublishVerb(a *cli.App) *cobra.Command {
	var d edits.PublishAnnouncement
	cmd := &cobra.Command{
		Use:   "publish ID --now | ID --at TIME",
		Short: "Give an announcement a new time, or publish it now",
		Long: `Commits a new publishAt to announcements/ID.yaml; --now says this moment. That is a new text, which is approved again before it counts.
A time that has passed is not moved without --now, because users may have been told by then.`,
		Example: `  sluice announce publish workspace-classes --at "2026-12-02 10:00"
  sluice announce publish workspace-classes --now --reason "the hold is over"`,
		Args: cli.Arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.At == "" && !d.Now {
				return cli.Usage(cmd, "--now or --at is missing")
			}
			d.ID = args[0]
			return cli.Commit(a, cmd, a.Flags(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.At, "at", "", "when: a `TIME` such as \"2026-12-01 10:00\"")
	f.StringVar(&d.Zone, "zone", "", "IANA `ZONE` of --at (default: the announcement's)")
	f.BoolVar(&d.Now, "now", false, "at once; with --at: although its time has passed")
	f.StringVar(&d.Reason, "reason", "", "why, for the commit")
	return cmd
}
