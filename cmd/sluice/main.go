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
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/runcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: after the first, signals are no longer caught.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command and returns the exit code; ctx ends it early.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == render.ChildVerb && isPipe(stdin) {
		return render.Main(stdin, stdout) // before any setup: the child limits its own memory
	}
	if len(args) > 0 && args[0] == runcmd.SuperviseName {
		return runcmd.Supervise(args[1:], stderr)
	}
	if len(args) > 0 && args[0] == runcmd.EncloseName {
		return runcmd.Enclose(args[1:], stderr)
	}
	a := cli.NewApp(env, stdin, stdout, stderr)
	root := root(a)
	root.SetArgs(args)
	return a.ReportError(cmp.Or(root.ExecuteContext(ctx), a.Misdirected))
}

// isPipe reports whether a program writes to in: not a person at a terminal, nor nobody (/dev/null).
func isPipe(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}
