package main

import (
	"cmp"

	"github.com/spf13/cobra"
)

var flagsKind = kind{"flags repository", "flagskeleton", "flag init", "sluice flag set KEY --new --flags-repo %s; sluice serve takes it with --flags-repo"}

func (a *app) flagInitVerb() *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use:   "init [DIR-or-URL]",
		Short: "Begin a flags repository",
		Long: `Writes sluice.yaml in one commit of yours. A folder that is no git repository becomes one, with a worktree that follows what the
engine pushes; --bare makes one without.`,
		Example: `  sluice flag init flags
  sluice flag init --bare /srv/git/flags.git`,
		Args: arguments(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := cmp.Or(a.flagsRepo, ".")
			if len(args) == 1 {
				target = args[0]
			}
			return a.begin(cmd, flagsKind, a.flagsAt(target), bare)
		},
	}
	cmd.Flags().BoolVar(&bare, "bare", false, "make a repository without a worktree, as git hosts have them")
	return cmd
}
