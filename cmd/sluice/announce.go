package main

import (
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
)

func (a *app) announceVerb() *cobra.Command {
	cmd := group("announce", "Tell users of features, and turn them on at that second", `An announcement says what is told, when, to whom, and which features turn on with it: announcements/ID.yaml of the flags repository. Once
it is approved it is sent to the cells ahead of time, and each that runs a release with the features turns them on at the second, also
without a network; one that does not, when it has such a release.

Each verb that changes something makes one commit of yours to the flags repository, never to the release repository. It is
--flags-repo, else $SLUICE_FLAGS_REPO, else the one around the working folder.`,
		a.announceListVerb(),
		a.completeFlags(a.announceShowVerb(), announcementIDs),
		a.announceNewVerb(),
		a.completeFlags(a.announceApproveVerb(), announcementIDs),
		a.completeFlags(a.announceHoldVerb(), announcementIDs),
		a.completeFlags(a.announceCancelVerb(), announcementIDs),
		a.completeFlags(a.announcePublishVerb(), announcementIDs),
	)
	cmd.GroupID = groupFlags
	a.flagsRepoFlags(cmd)
	return cmd
}

func announcementIDs(s *flagsSnapshot) []string { return sortedKeys(s.tree.Announcements) }

func announcementFile(id string) string { return path.Join(flags.AnnouncementsDir, id+".yaml") }

func (a *app) announceHoldVerb() *cobra.Command {
	var reason string
	var lift bool
	cmd := &cobra.Command{
		Use:   "hold ID --reason WHY | ID --lift",
		Short: "Don't publish an announcement until somebody lifts it",
		Long: `Commits overrides/hold-ID.yaml: cells are told at once. If its time passes while it is held, it is not published when the hold is lifted:
it then needs a new time, or sluice announce publish ID --now. After publication a hold counts for nothing: kill its flags, or cancel it.`,
		Example: `  sluice announce hold workspace-classes --reason "the docs are not ready"
  sluice announce hold workspace-classes --lift`,
		Args: arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" && !lift {
				return usage(cmd, "--reason is missing")
			}
			if lift {
				return a.liftAnnouncement(cmd, args[0], reason)
			}
			return a.holdAnnouncement(cmd, args[0], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everyone who meets it")
	cmd.Flags().BoolVar(&lift, "lift", false, "remove the hold")
	return cmd
}

func holdsOf(id string) func(flags.Override) bool {
	return func(o flags.Override) bool { return o.Kind == flags.Hold && o.Announcement == id }
}

func (a *app) holdAnnouncement(cmd *cobra.Command, id, reason string) error {
	out := false // it is published somewhere
	return a.commitFlags(cmd, change{what: "hold the announcement " + id, body: reason}, func(s *flagsSnapshot) (map[string][]byte, error) {
		if _, err := s.announcement(id); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(s.tree.Overrides, holdsOf(id)) {
			return nil, errUnchanged
		}
		out = s.published(id)
		data, err := overrideText(flags.Override{Kind: flags.Hold, Announcement: id, Reason: reason, By: s.repo.by.Name})
		return map[string][]byte{overrideFile("hold-" + id): data}, err
	}, func() string {
		if out {
			return fmt.Sprintf("where it is published already a hold counts for nothing: sluice flag kill KEY, or sluice announce cancel %s", id)
		}
		return fmt.Sprintf("it is not published until sluice announce hold %s --lift", id)
	})
}

func (a *app) liftAnnouncement(cmd *cobra.Command, id, reason string) error {
	return a.commitFlags(cmd, change{what: "lift the hold on the announcement " + id, body: reason}, func(s *flagsSnapshot) (map[string][]byte, error) {
		files := s.withoutOverrides(holdsOf(id))
		if len(files) == 0 {
			return nil, fail(fmt.Errorf("%s is not held", id), "sluice announce show %s tells how far it is", id)
		}
		return files, nil
	}, func() string {
		return fmt.Sprintf("if its time has not passed it is published then; else it needs sluice announce publish %s", id)
	})
}

func (a *app) announceCancelVerb() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel ID --reason WHY",
		Short: "Don't publish an announcement or, if it was published, take it back",
		Long: `Commits the reason as cancelled in announcements/ID.yaml. Before its time the announcement is never published; after it, it is
retracted: its features go off again, everywhere.`,
		Example: `  sluice announce cancel workspace-classes --reason "it comes with the next version"`,
		Args:    arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			out := false
			return a.commitFlags(cmd, change{what: "cancel the announcement " + id, body: reason}, func(s *flagsSnapshot) (map[string][]byte, error) {
				out = s.published(id)
				return editAnnouncement(s, id, func(now *flags.Announcement) (edit.Fields, error) {
					if now.Cancelled != "" {
						return nil, errUnchanged
					}
					return edit.Fields{{Key: "cancelled", Value: reason}}, nil
				})
			}, func() string {
				if out {
					return "it is retracted: its features go off; sluice announce show " + id
				}
				return "it is never published; a new announcement may have its features"
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everyone who meets it")
	return cmd
}

// published tells whether an announcement is published in some channel.
func (s *flagsSnapshot) published(id string) bool {
	for _, r := range s.tree.Records[id] {
		if r.Outcome == flags.Published {
			return true
		}
	}
	return false
}

// editAnnouncement sets fields of an announcement where they stand.
func editAnnouncement(s *flagsSnapshot, id string, fields func(now *flags.Announcement) (edit.Fields, error)) (map[string][]byte, error) {
	now, err := s.announcement(id)
	if err != nil {
		return nil, err
	}
	changes, err := fields(now)
	if err != nil {
		return nil, err
	}
	file := announcementFile(id)
	text, err := fs.ReadFile(s.files, file)
	if err != nil {
		return nil, err
	}
	for _, f := range changes {
		if text, err = edit.Set(text, []string{f.Key}, f.Value); err != nil {
			return nil, editFailure(file, err)
		}
	}
	return map[string][]byte{file: text}, nil
}
