package agentcmd

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/preflight"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// preflightVerb looks whether a cell could register and work.
func preflightVerb(a *cli.App) *cobra.Command {
	var o agent.Options
	var more agentFlags
	cmd := &cobra.Command{
		Use:   "preflight --join TOKEN|@FILE",
		Short: "Look whether a cell could register and work: the way, keys, time, disk; change nothing",
		Long: `Looks whether the control plane can be reached and has the keys that the token names, whether the clocks
agree, whether the folders can be written to and have room and, with --infrastructure, whether that can be
read; on AWS also credentials, permissions, quotas, and the endpoints that a private cluster needs. The token is not sent, so it still works afterwards. Each fault is printed with its remedy; exits 1 if
there is any that keeps the cell from working. The agent does the same before its first registration.`,
		Example: `  sluice agent preflight --join @/run/secrets/join --state /var/lib/sluice --dir /srv/product`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := more.openInfrastructure(cmd, &o); err != nil {
				return err
			}
			o.StateDir = cmp.Or(a.StateDir(o.StateDir, more.dir), ".")
			if err := identifyCell(a, cmd, &o, more.join); err != nil {
				return err
			}
			credentials, err := plane.LoadCredentials(o.StateDir, o.Cell, o.Join)
			if err != nil {
				return fmt.Errorf("preflight: %w", err)
			}
			client, err := plane.New(plane.Options{Server: o.Server, Cell: o.Cell, Token: o.Join,
				Credentials: credentials, Clock: clock.New(o.StateDir, clock.Machine{}), Log: a.Logger()})
			if err != nil {
				return fmt.Errorf("preflight: %w", err)
			}
			defer client.Close()
			look := preflight.Options{ControlPlane: client, Folders: []string{o.StateDir},
				Infrastructure: o.InfrastructureReader}
			if more.dir != "" {
				look.Folders = append(look.Folders, more.dir)
			}
			return printFindings(a, preflight.Look(cmd.Context(), look))
		},
	}
	f := cmd.Flags()
	f.StringVar(&more.join, "join", "", "`TOKEN` that sluice cell add printed, or @FILE with it (default $SLUICE_JOIN)")
	f.StringVar(&o.Cell, "cell", "", "`NAME` of the cell (default: the token's, or the one that registered here)")
	f.StringVar(&o.Server, "server", "", "`ADDRESS` of the control plane in place of the token's, as the agent has it")
	f.StringVar(&more.dir, "dir", "", "folder for the product's manifests")
	f.StringVar(&o.StateDir, "state", "", "folder for the agent's own state (default $SLUICE_STATE, else DIR/.agent)")
	more.addInfrastructure(f, &o)
	return cmd
}

var errPreflight = errors.New("preflight: the cell would not work: see above")

func printFindings(a *cli.App, all []preflight.Finding) error {
	err := a.PrintResult(map[string]any{"findings": all}, func() {
		for _, f := range all {
			switch {
			case f.Fault == "":
				a.Stdout.PrintLine("%s %s: %s", a.Stdout.Paint(cli.Green, "ok  "), f.Check, f.Found)
				continue
			case f.Note:
				a.Stdout.PrintLine("%s %s: %s", a.Stdout.Paint(cli.Yellow, "note"), f.Check, f.Fault)
			default:
				a.Stdout.PrintLine("%s %s: %s", a.Stdout.Paint(cli.Red, "no  "), f.Check, f.Fault)
			}
			a.Stdout.PrintLine("     %s", f.Remedy)
		}
	})
	for _, f := range all {
		if f.Fault != "" && !f.Note {
			err = errors.Join(err, errPreflight)
			break
		}
	}
	return err
}
