// Command sluice takes releases from a git repository through channels into cells.
//
// Every verb reads flags, calls the packages that do the work, and prints. Verbs live in internal/, a package for each group of help; what
// they share is in internal/cli, and the tree of all is in root.go.
// The command decides nothing by itself: what plan, why and status show is engine's one Plan, and what people's
// verbs write is a commit, pushed as anyone else's would be. Tables are for people; -o json and
// -o yaml are for programs and stay as they are.
//
// A run ends with 0 (done), 1 (failed), 2 (wrong usage) or 3 (blocked: a gate or a hold is closed).
// run holds no global state, so that several may go on in one process.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/runcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: ours is no longer caught after the first.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole command. It returns the exit code; ctx ends it early.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == runcmd.RenderName {
		return render.Main(stdin, stdout) // before anything is set up: the child limits its own memory
	}
	a := cli.NewApp(env, stdin, stdout, stderr)
	root := root(a)
	root.SetArgs(args)
	return a.ReportError(root.ExecuteContext(ctx))
}
