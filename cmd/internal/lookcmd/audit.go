package lookcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/internal/words"
)

// AuditVerb has the verbs about who did what at the control plane.
func AuditVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("audit", "See who did what at the control plane, and prove it",
		`The control plane keeps a line of each action of people and programs: who, what, from where. The lines
are a chain of hashes, so that one that is removed or changed afterwards is found, and named.`,
		auditListVerb(a), auditExportVerb(a), auditVerifyVerb(a))
	cmd.GroupID = cli.GroupLook
	return cmd
}

func auditListVerb(a *cli.App) *cobra.Command {
	limit := 100
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the newest lines of the audit, newest first",
		Example: "  sluice audit list --server unix:///run/sluice.sock",
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return cli.UsageError(cmd, "--limit is 1 to 10000")
			}
			var all struct {
				Entries []access.Entry `json:"entries"`
			}
			var err error
			if client.UsesServer(a) {
				err = client.GetResource(cmd.Context(), a, fmt.Sprintf("/v1/audit?limit=%d", limit), &all)
			} else {
				err = withAudit(cmd, a, func(st repos.Store) (err error) {
					all.Entries, err = st.AuditEntries(cmd.Context(), limit)
					return err
				})
			}
			if err != nil {
				return err
			}
			return a.PrintResult(all, func() {
				rows := make([][]cli.Field, 0, len(all.Entries))
				for _, e := range all.Entries {
					rows = append(rows, []cli.Field{cli.Text(cli.FormatTime(e.At)), cli.Coloured(e.Who, cli.Bold),
						cli.Text(e.What), cli.Text(e.From)})
				}
				a.Stdout.PrintTable([]string{"AT", "WHO", "WHAT", "FROM"}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", limit, "show only the newest `N`")
	client.AddServerFlag(a, cmd)
	return cmd
}

// withAudit opens the store on the control plane's machine.
func withAudit(cmd *cobra.Command, a *cli.App, do func(repos.Store) error) error {
	if a.Data == "" && a.Database == "" {
		return cli.UsageError(cmd, "name the store of the control plane, on its machine: --data DIR or --database")
	}
	return repos.ReadStore(cmd.Context(), a, do)
}

func auditExportVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the whole audit as JSON Lines, for sluice audit verify and other programs",
		Long: `Prints the audit from the store in --data or --database, on the control plane's machine. The first line has
the newest row's hash, and that of the last row that was deleted for its age; each further line is a row
with its hash, which is that of "sluice audit/1", a line feed, and the row's bytes as they are printed.`,
		Example: "  sluice audit export --data /var/lib/sluice >audit.jsonl",
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAudit(cmd, a, func(st repos.Store) error {
				return exportAudit(cmd.Context(), st, a.Stdout.Writer)
			})
		},
	}
}

func exportAudit(ctx context.Context, st repos.Store, to io.Writer) error {
	var export *audit.Exporter
	// A read of a database may run again after a lost connection: nothing is printed before it is complete.
	var whole bytes.Buffer
	err := st.ExportAudit(ctx, func(h audit.Header) (err error) {
		whole.Reset()
		export, err = audit.NewExporter(&whole, h)
		return err
	}, func(r audit.Sealed) error { return export.Write(r) })
	if err != nil {
		return err
	}
	_, err = whole.WriteTo(to)
	return err
}

func auditVerifyVerb(a *cli.App) *cobra.Command {
	var earlier []string
	cmd := &cobra.Command{
		Use:   "verify [EXPORT]",
		Short: "Find rows of the audit that were removed or changed",
		Long: `Verifies the chain of the audit: in a file that sluice audit export printed (- for standard input), on any
machine and offline, or in the store in --data or --database. It names each row that was removed or
changed, and exits 1 if there is any.

Whoever can write to the database can write a whole new chain, and only what is kept elsewhere shows that:
an export from before (--earlier), or the release repository (--repo or SLUICE_REPO), where the engine
commits once a day how far the audit is.`,
		Example: `  sluice audit verify audit.jsonl
  sluice audit verify --data /var/lib/sluice --earlier yesterday.jsonl
  sluice audit verify audit.jsonl --repo https://git.example/releases`,
		Args: cli.ArgumentCount(0, 1, "EXPORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := readWitnesses(cmd, a, earlier)
			if err != nil {
				return err
			}
			from, err := openExport(cmd, a, args)
			if err != nil {
				return err
			}
			found, err := audit.Verify(from, known)
			if err = errors.Join(err, from.Close()); err != nil {
				return fmt.Errorf("verify the audit: %w", err)
			}
			err = a.PrintResult(found, func() {
				for _, f := range found.Findings {
					a.Stdout.PrintLine("%s", f.What)
				}
				if len(found.Findings) == 0 {
					a.Stdout.PrintLine("%d rows, %d to %d: none was removed or changed", found.Rows, found.First, found.Last)
					if found.Compared > 0 {
						a.Stdout.PrintLine("the same as %s", words.Count(found.Compared, "earlier head"))
					}
				}
			})
			if err == nil && len(found.Findings) > 0 {
				err = errors.New("the audit is not as it was written")
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&earlier, "earlier", nil, "earlier `EXPORT` whose newest row must still be there")
	return cmd
}

// readWitnesses reads what earlier exports end with, and what the repository says, if one is named.
func readWitnesses(cmd *cobra.Command, a *cli.App, files []string) (known []audit.Witness, err error) {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, cli.Fail(err, "--earlier names a file that sluice audit export printed")
		}
		head, err := audit.ReadHead(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		known = append(known, audit.Witness{Head: head, From: "an earlier export"})
	}
	if a.Repo == "" && a.Getenv("SLUICE_REPO") == "" {
		return known, nil
	}
	s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
	if err != nil {
		return nil, err
	}
	for _, h := range s.Desired.AuditHeads {
		known = append(known, audit.Witness{Head: audit.Head{Number: h.Row, Hash: h.Hash},
			From: "the audit as of commit " + cli.ShortID(h.Commit)})
	}
	return known, nil
}

// openExport opens the file that is named or, without one, exports the store.
func openExport(cmd *cobra.Command, a *cli.App, args []string) (io.ReadCloser, error) {
	switch {
	case len(args) == 1 && args[0] == "-":
		return io.NopCloser(a.Stdin), nil
	case len(args) == 1:
		f, err := os.Open(args[0])
		if err != nil {
			return nil, cli.Fail(err, "name a file that sluice audit export printed")
		}
		return f, nil
	}
	var whole bytes.Buffer
	err := withAudit(cmd, a, func(st repos.Store) error { return exportAudit(cmd.Context(), st, &whole) })
	return io.NopCloser(&whole), err
}
