// Command sluice-agent is the part of sluice that runs in a cell: its agent, the part of it on each node of a cluster,
// and the verbs of the cell's owner.
//
// It is made of the same packages as command sluice, takes the same command lines, and lacks the engine with what that
// needs, so that it is smaller on disk and in memory. Where it is installed it is called sluice, as its help and its
// errors call it.
package main

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/agentcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/ownercmd"
)

func main() { cli.Main(run) }

// run runs the command and returns the exit code; ctx ends it early.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if code, ok := agentcmd.RunChild(args, stdin, stdout, stderr); ok {
		return code
	}
	a := cli.NewApp(env, stdin, stdout, stderr)
	root := root(a)
	root.SetArgs(args)
	return a.ReportError(cmp.Or(root.ExecuteContext(ctx), a.Misdirected))
}

const rootHelp = `This is sluice-agent, the part of sluice that runs in a cell. It takes the same command lines, and
has the verbs that a cell needs: its agent, and the decisions of the cell's owner. Verbs that read a
release repository or ask a control plane are in the whole command.

Exit codes: 0 done, 1 failed, 2 wrong usage. With -o json, standard output is JSON or empty; errors are
printed in words on standard error.`

// root builds the tree of all commands.
func root(a *cli.App) *cobra.Command {
	root := cli.Root(a, "Run a cell's agent, and decide as the cell's owner", rootHelp,
		func(*cobra.Command) error { return nil })
	root.AddGroup(
		&cobra.Group{ID: cli.GroupCells, Title: "The cell's owner:"},
		&cobra.Group{ID: cli.GroupRun, Title: "Programs to run:"},
	)
	root.AddCommand(
		ownercmd.CellVerb(a),
		agentcmd.AgentVerb(a),
		agentcmd.NodeVerb(a),
		agentcmd.SuperviseVerb(a),
		agentcmd.EncloseVerb(a),
		agentcmd.VersionVerb(a),
	)
	cli.CompleteFlagValues(root, nil)
	return root
}
