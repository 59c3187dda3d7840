package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func (a *app) flagLintVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "lint [DIR-or-URL]",
		Short: "Find all that is wrong in a flags repository",
		Long: `Reads every file strictly and prints one "file:line: fault" a line; exits 1 if there is any. Warnings are printed and don't count.
A folder or a worktree is read as it stands, so that an editor or CI can check what is not committed yet; of a bare repository or a
URL, the tip of the branch is read. Without an argument, the working folder is.

Git hosts can refuse a push that brings a fault in: sluice validate --pre-receive, as for a release repository.`,
		Example: `  sluice flag lint
  sluice flag lint https://git.example/flags -o json`,
		Args: arguments(0, 1, "DIR-or-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := a.flagsRepo
			if len(args) == 1 {
				target = args[0]
			}
			if target == "" {
				target = a.around(cmd.Context())
			}
			what := "flag lint " + target
			if !isRemote(target) && kindOfFolder(target) != bareGit {
				if _, err := os.Stat(target); err != nil {
					return fail(fmt.Errorf("%s: %w", what, err), "name a folder or a URL")
				}
				if !isFlags(os.DirFS(target)) {
					return fail(fmt.Errorf("%s: %w", what, errNoFlags), "name its folder; sluice flag init makes one")
				}
			}
			a.branch = a.flagsBranch
			faults, err := a.validate(cmd.Context(), target)
			if err != nil {
				return wrapFailure(what, err)
			}
			return a.printFaults(faults)
		},
	}
}

var errNoFlags = errors.New("it is no flags repository: no sluice.yaml there says kind: Flags")
