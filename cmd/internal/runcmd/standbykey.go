package runcmd

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// StandbyKeyVerb is the tree of verbs about the TLS key that is kept off the server.
func StandbyKeyVerb(a *cli.App) *cobra.Command {
	var tlsDir string
	cmd := &cobra.Command{
		Use:     "standby-key",
		GroupID: cli.GroupRun,
		Short:   "Keep the control plane's standby key elsewhere, and let it take over",
		Long: `Cells know the control plane by two TLS keys, active and standby, and take others only if the standby key signed them.
Keep the standby key off the server: then whoever takes the server over can't make cells trust other keys, and the
standby key ends what they have.`,
	}
	cmd.AddCommand(moveStandbyKey(a, &tlsDir), succeedStandbyKey(a, "promote", &tlsDir),
		succeedStandbyKey(a, "replace", &tlsDir))
	for _, verb := range cmd.Commands() {
		addTLSDirFlag(verb, &tlsDir)
	}
	return cmd
}

func moveStandbyKey(a *cli.App, tlsDir *string) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "move --to FILE --data DIR",
		Short:   "Move the standby key off this machine, to a removable disk for instance",
		Long:    "Leaves standby.pub, its public half, which is all that serve needs. Do the same with the folders of the replicas.",
		Example: `  sluice standby-key move --to /media/safe/standby.key --data /var/lib/sluice`,
		Args:    cli.ArgumentCount(0, 0, ""),
		PreRunE: requireData(a, tlsDir, func() map[string]string { return map[string]string{"to": to} }),
		RunE: func(*cobra.Command, []string) error {
			dir := keysFolder(a.Data, *tlsDir)
			if err := transport.MoveStandbyKey(dir, to); err != nil {
				return cli.Fail(fmt.Errorf("standby-key move: %w", err), "nothing was lost: the key is in %s or in %s", dir, to)
			}
			outcome := "the standby key is in " + to + "; keep a second copy, and none on a server"
			return a.PrintResult(map[string]any{"said": outcome}, func() { a.Stdout.PrintLine("%s", outcome) })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`FILE` elsewhere, for the key")
	return cmd
}

func succeedStandbyKey(a *cli.App, verb string, tlsDir *string) *cobra.Command {
	s := transport.Succession{KeepActive: verb == "replace"}
	short := "Let the standby key take over from the active one"
	long := `The standby key becomes the active one, a new standby key is made in --next, and the old one signs both for the cells. Use it
after the active key leaked: then on a machine that was never taken over. Restart serve, and copy the folder to the replicas.`
	if s.KeepActive {
		short = "Replace the standby key, and keep the active one"
		long = "A new standby key is made in --next, and the old one signs it for the cells. Restart serve, and copy the folder to the replicas."
	}
	cmd := &cobra.Command{
		Use: verb + " --standby FILE --next FILE --data DIR", Short: short, Long: long,
		Example: fmt.Sprintf(
			"  sluice standby-key %s --standby /media/safe/standby.key --next /media/safe/next.key --data /var/lib/sluice", verb),
		Args: cli.ArgumentCount(0, 0, ""),
		PreRunE: requireData(a, tlsDir, func() map[string]string {
			return map[string]string{"standby": s.Standby, "next": s.Next}
		}),
		RunE: func(*cobra.Command, []string) error {
			s.Dir = keysFolder(a.Data, *tlsDir)
			pins, err := transport.Succeed(s)
			if err != nil {
				return cli.Fail(fmt.Errorf("standby-key %s: %w", verb, err), "the same command again continues where it stopped")
			}
			return a.PrintResult(map[string]any{"pins": pins}, func() {
				a.Stdout.PrintLine("active key %s", pins[0])
				a.Stdout.PrintLine("standby key %s", pins[1])
				a.Stdout.PrintLine("restart serve, and copy %s to the replicas; keep %s in a safe place", s.Dir, s.Next)
			})
		},
	}
	cmd.Flags().StringVar(&s.Standby, "standby", "", "`FILE` with the standby key that cells know")
	cmd.Flags().StringVar(&s.Next, "next", "", "`FILE` for the next standby key, off this machine; it is made if it is missing")
	return cmd
}

// requireData checks that the folder of keys and the flags that name files are given.
func requireData(a *cli.App, tlsDir *string, files func() map[string]string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if a.Data == "" && *tlsDir == "" {
			return cli.UsageError(cmd, missingData)
		}
		for name, file := range files() {
			if file == "" {
				return cli.UsageError(cmd, "--%s is missing", name)
			}
			if filepath.Clean(filepath.Dir(file)) == filepath.Clean(keysFolder(a.Data, *tlsDir)) {
				return cli.UsageError(cmd, "--%s is in the folder of keys: name a file elsewhere", name)
			}
		}
		return nil
	}
}
