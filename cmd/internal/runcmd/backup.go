package runcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
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
sluice restore puts it in place. A database (--database) is backed up with its own tools. The keys
in DIR/tls are files: copy them too.`,
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
			file := filepath.Join(a.Data, repos.StoreFile)
			if err := repos.CheckStore(a); err != nil {
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
			return repos.PrintDone(a, edits.Result{Summary: "backup of " + file + " in " + to})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`FILE` to write; it must not exist yet")
	return cmd
}

// RestoreVerb puts a backup in place of the store.
func RestoreVerb(a *cli.App) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:     "restore --data DIR --from FILE",
		GroupID: cli.GroupRun,
		Short:   "Put a backup in place of the store in --data, which is kept beside it",
		Long: `Checks the backup first, and refuses while serve runs in DIR. What the backup lacks, git and the
cells' reports tell again; a one-time token that was used since is void, and whoever was signed in
signs in again. Operators' tokens that were removed since work again: it lists them.
A database (--database) is restored with its own tools.`,
		Example: `  sluice restore --data /var/lib/sluice --from /backup/sluice.db`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for flag, missing := range map[string]bool{"--data": a.Data == "", "--from": from == ""} {
				if missing {
					return cli.UsageError(cmd, "%s is missing", flag)
				}
			}
			if a.Database != "" {
				return cli.UsageError(cmd, "the store is in PostgreSQL: pg_restore restores it")
			}
			release, err := lockDataFolder(a.Data)
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer func() { err = errors.Join(err, release()) }()
			if err := repos.RefuseSecondStore(a); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			file := filepath.Join(a.Data, repos.StoreFile)
			r, err := restoreStore(cmd.Context(), file, from, time.Now())
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			done := edits.Result{Summary: "restored " + file + " from " + from,
				Next: "start sluice serve --data " + a.Data}
			if r.Before != "" {
				done.Summary += "; the former one is " + r.Before
			}
			for _, t := range r.Tokens {
				done.Details = append(done.Details, fmt.Sprintf("token %s, %s, made at %s, works again: if it was removed since, "+
					"sluice token remove %s --data %s before you start", t.Name, t.DescribeRoles(),
					cli.FormatTime(t.Created), t.Name, a.Data))
			}
			return repos.PrintDone(a, done)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "backup `FILE`, which stays")
	return cmd
}

// restored says what a restore found.
type restored struct {
	Before string         // where the former store is; empty: there was none
	Tokens []access.Token // that the backup has
}

// restoreStore puts a copy of the backup in place of the store in file. A backup that can't be used changes nothing.
func restoreStore(ctx context.Context, file, backup string, now time.Time) (r restored, err error) {
	copied := file + ".restoring"
	defer func() {
		for _, suffix := range append(sideFiles[:], "") {
			_ = os.Remove(copied + suffix) // what is left of a copy that was not put in place
		}
	}()
	if err := copyFile(copied, backup); err != nil {
		return r, err
	}
	if err := store.Check(ctx, copied); err != nil {
		return r, cli.Fail(fmt.Errorf("%s can't be used: %w", backup, err),
			"name a file that sluice backup wrote; the store is as it was")
	}
	if r.Tokens, err = endSessions(ctx, copied); err != nil {
		return r, err
	}
	aside := file + ".before-" + now.UTC().Format("20060102T150405Z")
	switch err := os.Rename(file, aside); {
	case err == nil:
		r.Before = aside
	case !errors.Is(err, fs.ErrNotExist):
		return r, err
	}
	if err := moveSideFiles(file, aside); err != nil {
		return r, err
	}
	return r, os.Rename(copied, file)
}

// endSessions ends the sessions in a restored store: some have ended since the backup was made. Tokens stay, for nobody
// knows which were removed since: they are returned.
func endSessions(ctx context.Context, file string) (tokens []access.Token, err error) {
	st, err := store.Open(ctx, file, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if _, err = signin.EndAll(ctx, st.Records()); err != nil {
		return nil, err
	}
	return st.Tokens(ctx)
}

// sideFiles are the suffixes of the files that SQLite keeps beside a database.
var sideFiles = [...]string{"-wal", "-shm"}

// moveSideFiles moves what SQLite keeps beside a database that was moved.
func moveSideFiles(from, to string) (err error) {
	for _, suffix := range sideFiles {
		if renameErr := os.Rename(from+suffix, to+suffix); !errors.Is(renameErr, fs.ErrNotExist) {
			err = errors.Join(err, renameErr)
		}
	}
	return err
}

// copyFile copies a file to one that only its owner may read, durably.
func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // only read
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, source)
	return errors.Join(err, f.Sync(), f.Close())
}
