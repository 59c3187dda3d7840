package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/store"
)

// writeBackup makes the file for its owner only, for it has the hashes of tokens, and leaves none that is not whole.
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

func (a *app) backupVerb() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "backup --data DIR --to FILE",
		GroupID: groupRun,
		Short:   "Copy the store in --data, consistently, also while serve runs",
		Long: `All intent is in git; the store has what was observed, and tokens. The copy is a whole store: to restore it, stop serve and put it
in place of DIR/` + storeFile + `. A database (--database) is backed up by its own tools. The keys in DIR/tls are files: copy them too.`,
		Example: `  sluice backup --data /var/lib/sluice --to /backup/sluice.db`,
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for flag, missing := range map[string]bool{"--data": a.data == "", "--to": to == ""} {
				if missing {
					return usage(cmd, "%s is missing", flag)
				}
			}
			if a.database != "" {
				return usage(cmd, "the store is in PostgreSQL: pg_dump backs it up")
			}
			file := filepath.Join(a.data, storeFile)
			if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
				return fail(fmt.Errorf("backup: there is no store in %s", a.data), "--data names the folder that serve has")
			}
			st, err := store.Open(cmd.Context(), file, a.logger())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, st.Close()) }()
			if err := writeBackup(cmd.Context(), st, to); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			return a.wrote(written{Did: "backup of " + file + " in " + to})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `FILE` to write, which must not be there yet")
	return cmd
}
