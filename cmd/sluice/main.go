// Command sluice takes releases from a git repository through channels into cells.
//
// Every verb reads flags, calls the packages that do the work, and prints. Verbs live in
// cmd/internal/, a package for each group of help; cli there has what the verbs share, and root.go builds the tree of
// all.
//
// The command decides nothing itself: plan, why and status show the engine's one Plan, and people's verbs push
// a commit, as anyone else would. Tables are for people; -o json and -o yaml are for programs, and their fields
// are stable.
//
// A run ends with 0 (done), 1 (failed), 2 (wrong usage) or 3 (blocked by a gate or a hold). run holds no global
// state, so several runs may go on in one process.
package main

import (
	"cmp"
	"context"
	"io"

	"github.com/sluice-cd/sluice/cmd/internal/agentcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
)

func main() { cli.Main(run) }

// run runs the command and returns the exit code; ctx ends it early.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if code, ok := agentcmd.RunChild(args, stdin, stdout, stderr); ok {
		return code
	}
	a := cli.NewApp(env, stdin, stdout, stderr)
	a.Hints = repos.Hints()
	root := root(a)
	root.SetArgs(args)
	return a.ReportError(cmp.Or(root.ExecuteContext(ctx), a.Misdirected))
}
