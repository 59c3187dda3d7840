package flagcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func AnnounceVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("announce", "Announce features to users, and turn them on at that second",
		`An announcement, announcements/ID.yaml in the flags repository, says what users are told, when, in
which cells, and which features turn on with it. Once approved, it is sent to the cells ahead of
time. Each cell whose release contains the features turns them on at that second, even without a
network; any other cell does so once it runs such a release.

Each command that changes something makes one commit in your name to the flags repository, never to
the release repository. The flags repository is --flags-repo, else $SLUICE_FLAGS_REPO, else the one
around the working folder.`,
		announceListVerb(a),
		repos.CompleteFromFlags(a, announceShowVerb(a), announcementIDs),
		announceNewVerb(a),
		repos.CompleteFromFlags(a, announceApproveVerb(a), announcementIDs),
		repos.CompleteFromFlags(a, announceHoldVerb(a), announcementIDs),
		repos.CompleteFromFlags(a, announceCancelVerb(a), announcementIDs),
		repos.CompleteFromFlags(a, announcePublishVerb(a), announcementIDs),
	)
	cmd.GroupID = cli.GroupFlags
	repos.AddFlagsRepoFlags(a, cmd)
	return cmd
}

func announcementIDs(s *edits.Flags) []string { return cli.SortedKeys(s.Tree.Announcements) }

func announceHoldVerb(a *cli.App) *cobra.Command {
	var reason string
	var lift bool
	cmd := &cobra.Command{
		Use:   "hold ID --reason WHY | ID --lift",
		Short: "Keep an announcement from being published until the hold is lifted",
		Long: `Commits overrides/hold-ID.yaml; cells are told at once. If the announcement's time passes while it
is held, lifting the hold does not publish it: it then needs a new time, or sluice announce publish
ID --now. After publication a hold has no effect: kill the flags, or cancel the announcement.`,
		Example: `  sluice announce hold workspace-classes --reason "the docs are not ready"
  sluice announce hold workspace-classes --lift`,
		Args: cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" && !lift {
				return cli.UsageError(cmd, "--reason is missing")
			}
			if lift {
				return repos.CommitDecision(a, cmd, repos.FlagsRepository(),
					edits.LiftAnnouncement{ID: args[0], Reason: reason})
			}
			return repos.CommitDecision(a, cmd, repos.FlagsRepository(),
				edits.HoldAnnouncement{ID: args[0], Reason: reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, shown to everyone it affects")
	cmd.Flags().BoolVar(&lift, "lift", false, "remove the hold")
	return cmd
}

func announceCancelVerb(a *cli.App) *cobra.Command {
	var d edits.CancelAnnouncement
	cmd := &cobra.Command{
		Use:   "cancel ID --reason WHY",
		Short: "Cancel an announcement or, if it was published, retract it",
		Long: `Commits the reason as cancelled in announcements/ID.yaml. Before its time, the announcement is never
published; after it, the announcement is retracted: its features turn off again, everywhere.`,
		Example: `  sluice announce cancel workspace-classes --reason "it comes with the next version"`,
		Args:    cli.ArgumentCount(1, 1, "ID"),
	}
	cli.RequireReason(cmd, &d.Reason, "reason, shown to everyone it affects")
	return repos.RunDecision(a, cmd, repos.FlagsRepository(), func(args []string) edits.Decision[*edits.Flags] {
		d.ID = args[0]
		return d
	})
}

func announceApproveVerb(a *cli.App) *cobra.Command {
	var w repos.ApprovalOptions
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve an announcement with its flags as they are now, signed with your SSH key",
		Long: `Commits approvals/ID/PERSON.yaml with the hash of the announcement and its flags' definitions,
signed with an SSH key that sluice.yaml of the flags repository lists for you under people. The key
is --key, or git's user.signingKey, or one that your SSH agent holds. The author of an announcement
can't approve it. After an edit of the announcement or its flags, approval is needed again.`,
		Example: `  sluice announce approve workspace-classes
  sluice announce approve workspace-classes --as ada --key ~/.ssh/id_ed25519 --comment "the docs are out"`,
		Args: cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := repos.FlagsRepository()
			return repos.CommitApproval(a, cmd, to, w, func(as string) edits.Decision[*edits.Flags] {
				return edits.ApproveAnnouncement{ID: args[0], As: as, Comment: w.Comment}
			})
		},
	}
	w.AddFlags(cmd)
	return cmd
}

func announcePublishVerb(a *cli.App) *cobra.Command {
	var d edits.PublishAnnouncement
	cmd := &cobra.Command{
		Use:   "publish ID --now | ID --at TIME",
		Short: "Give an announcement a new time, or publish it now",
		Long: `Commits a new publishAt to announcements/ID.yaml; with --now, the current moment. This changes the
announcement, which must be approved again before it counts. A time that has passed is not moved
without --now, because users may have been told by then.`,
		Example: `  sluice announce publish workspace-classes --at "2026-12-02 10:00"
  sluice announce publish workspace-classes --now --reason "the hold is over"`,
		Args: cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.At == "" && !d.Now {
				return cli.UsageError(cmd, "--now or --at is missing")
			}
			d.ID = args[0]
			return repos.CommitDecision(a, cmd, repos.FlagsRepository(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.At, "at", "", "publication `TIME`, such as \"2026-12-01 10:00\"")
	f.StringVar(&d.Zone, "zone", "", "IANA `ZONE` of --at (default: the announcement's)")
	f.BoolVar(&d.Now, "now", false, "publish at once; with --at: move the time although it has passed")
	f.StringVar(&d.Reason, "reason", "", "reason, recorded in the commit")
	return cmd
}
