// Package flagcmd has the verbs of feature flags and announcements. Verbs that change something make one commit
// to the flags repository, whose contents package edits decides; a kill goes through the control plane where
// there is one. Verbs that only read ask the control plane, or decide as the announcer would.
//
// It never writes to a release repository. A verb runs in one goroutine.
package flagcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/releasecmd"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func FlagVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("flag", "Manage feature flags: list, show, set, evaluate, lint, kill",
		`Flags live in a repository of their own, in flagd's format: flags/*.yaml. A flag that names a
feature (metadata.feature) is on only in cells that run a release with that feature, once an
announcement of the feature is published there (sluice announce). Each command that changes
something makes one commit in your name to the flags repository, never to the release repository.

The flags repository is --flags-repo, else $SLUICE_FLAGS_REPO, else the one around the working
folder.`,
		releasecmd.FlagInitVerb(a),
		flagListVerb(a),
		repos.CompleteFromFlags(a, flagShowVerb(a), flagKeys),
		repos.CompleteFromFlags(a, flagSetVerb(a), flagKeys),
		repos.CompleteFromFlags(a, flagEvalVerb(a), flagKeys),
		flagLintVerb(a),
		flagStaleVerb(a),
		repos.CompleteFromFlags(a, flagKillVerb(a), flagKeys),
		repos.CompleteFromFlags(a, flagUnkillVerb(a), flagKeys),
		flagPromoteVerb(a),
	)
	cmd.GroupID = cli.GroupFlags
	repos.AddFlagsRepoFlags(a, cmd)
	return cmd
}

func flagKeys(s *edits.Flags) []string { return cli.SortedKeys(s.Tree.Flags) }
