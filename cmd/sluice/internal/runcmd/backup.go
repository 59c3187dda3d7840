package runcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/store"
)

// writeBackup makes a file that only its owner may read, since it holds hashes of tokens, and leaves no
// incomplete file.
func writeBackup(ctx context.Context, st *store.Store, to string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	if err := st.Backup(ctx, to); err != nil {
		return err
	}
	return f.Sync()
}

func BackupVerb(a *cli.App) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "backup --data DIR --to FILE",
		GroupID: cli.GroupRun,
		Short:   "Make a consistent copy of the store in --data, even while serve runs",
		Long: `All intent is in git; the store holds what was observed, and tokens. The copy is a complete store:
to restore it, stop serve and put it in place of DIR/` + cli.StoreFile + `. A database (--database) is
backed up with its own tools. The keys in DIR/tls are files: copy them too.`,
		Example: `  sluice backup --data /var/lib/sluice --to /backup/sluice.db`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for flag, missing := range map[string]bool{"--data": a.Data == "", "--to": to == ""} {
				if missing {
					return cli.UsageError(cmd, "%s is missing", flag)
				}
			}
			if a.Database != "" {
				return cli.UsageError(cmd, "the store is in PostgreSQL: pg_dump backs it up")
			}
			file := filepath.Join(a.Data, cli.StoreFile)
			if err := cli.CheckStore(a); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			st, err := store.Open(cmd.Context(), file, a.Logger())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, st.Close()) }()
			if err := writeBackup(cmd.Context(), st, to); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			return a.PrintDone(edits.Result{Summary: "backup of " + file + " in " + to})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`FILE` to write; it must not exist yet")
	return cmd
}
