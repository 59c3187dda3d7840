package cellcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
)

func TokenVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("token", "Manage the access tokens of people and programs",
		`A request to the control plane over https:// shows a token, $SLUICE_TOKEN, with a role: viewer
reads; operator also acts on cells and rollouts, approver on approvals; admin does everything. A
token may have several roles, and is stored as a hash, and shown once.

These commands ask the control plane (--server, as an administrator) or, on the server's machine,
use the store in --data or --database.`,
		tokenAddVerb(a), tokenListVerb(a), tokenRemoveVerb(a))
	cmd.GroupID = cli.GroupCells
	return cmd
}

func tokenAddVerb(a *cli.App) *cobra.Command {
	var roles []string
	var file string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Make a token for a person or a program, and show it once",
		Example: `  sluice token add ada --role operator --for 720h --server unix:///run/sluice.sock
  sluice token add prometheus --role viewer --data /var/lib/sluice --token-file /etc/prometheus/sluice`,
		Args: cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			as, err := access.ParseRoles(roles...)
			if err != nil {
				return cli.UsageError(cmd, "--role: %w", err)
			}
			if lasts < 0 {
				return cli.UsageError(cmd, "--for %s is not a positive duration", lasts)
			}
			if !findTokenStore(a, cmd) {
				return cli.UsageError(cmd, missingTokenStore)
			}
			var made peopleapi.OperatorToken
			makeToken := func() (string, error) {
				var err error
				made, err = createToken(cmd.Context(), a, args[0], as, lasts)
				return made.Token, err
			}
			if err = writeSecret(file, makeToken); err != nil {
				return fmt.Errorf("add the token %s: %w", args[0], err)
			}
			if file != "" {
				made.Token = ""
			}
			return a.PrintResult(made, func() {
				if file != "" {
					a.Stdout.PrintLine("the token of %s is in %s", made.Name, file)
					return
				}
				a.Stderr.PrintLine("the token of %s for $SLUICE_TOKEN, which is not shown again:", made.Name)
				a.Stdout.PrintLine("%s", made.Token)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&roles, "role", nil,
		"`ROLE`: viewer, operator, approver or admin; or several, with commas between them")
	cli.AddDurationFlag(f, &lasts, "for", 0, "how long the token is valid (default: until it is removed)")
	f.StringVar(&file, "token-file", "",
		"write the token to this `FILE`, readable by its owner only, instead of printing it")
	client.AddServerFlag(a, cmd)
	return cmd
}

func createToken(ctx context.Context, a *cli.App, name string, roles access.Roles,
	lasts time.Duration) (made peopleapi.OperatorToken, err error) {
	end := "" // none
	if lasts > 0 {
		end = lasts.String()
	}
	if a.Server != "" {
		return made, client.CallServer(ctx, a, http.MethodPost, "/v1/tokens",
			peopleapi.NewOperator{Name: name, Roles: strings.Split(roles.String(), ","), For: end}, &made)
	}
	record, secret, err := peopleapi.NewToken(name, roles, end, time.Now())
	if err != nil {
		return made, err
	}
	return peopleapi.OperatorToken{Operator: record, Token: secret}, withStore(ctx, a,
		"add the token "+name+" with "+record.DescribeRoles(), func(st repos.Store) error {
			return st.AddToken(ctx, record)
		})
}

func tokenListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all tokens: names, roles, when they expire",
		Example: `  sluice token list --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !findTokenStore(a, cmd) {
				return cli.UsageError(cmd, missingTokenStore)
			}
			ctx := cmd.Context()
			var all struct {
				Tokens []access.Token `json:"tokens"`
			}
			var err error
			if a.Server != "" {
				err = client.GetResource(ctx, a, "/v1/tokens", &all)
			} else {
				err = withStore(ctx, a, "", func(st repos.Store) (err error) {
					all.Tokens, err = st.Tokens(ctx)
					return err
				})
			}
			if err != nil {
				return err
			}
			return a.PrintResult(all, func() {
				rows := make([][]cli.Field, 0, len(all.Tokens))
				for _, t := range all.Tokens {
					until := cli.Coloured("-", cli.Plain)
					if !t.Expires.IsZero() {
						until = cli.Text(cli.FormatTime(t.Expires.Round(time.Second)))
					}
					if !t.IsValid(time.Now()) {
						until.Colour = cli.Red
					}
					rows = append(rows, []cli.Field{cli.Text(t.Name), cli.Text(t.Roles.String()),
						cli.Text(cli.FormatTime(t.Created.Round(time.Second))), until})
				}
				a.Stdout.PrintTable([]string{"NAME", "ROLES", "SINCE", "UNTIL"}, rows)
			})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func tokenRemoveVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a token; it stops working at once",
		Example: `  sluice token remove ada --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !findTokenStore(a, cmd) {
				return cli.UsageError(cmd, missingTokenStore)
			}
			ctx, name := cmd.Context(), args[0]
			what := "remove the token " + name
			var err error
			if a.Server != "" {
				err = client.CallServer(ctx, a, http.MethodDelete, "/v1/tokens/"+url.PathEscape(name), nil, nil)
			} else {
				err = withStore(ctx, a, what, func(st repos.Store) error { return st.RemoveToken(ctx, name) })
			}
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return repos.PrintDone(a, edits.Result{Summary: what + ": done"})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

const missingTokenStore = "name the control plane with --server ADDRESS or, on the server's machine, " +
	"its store with --data DIR or --database"

// findTokenStore reports whether the command line or the environment names who stores tokens: a control plane
// (a.Server is set then) or the local store. Flags take precedence over the environment.
func findTokenStore(a *cli.App, cmd *cobra.Command) bool {
	here := cmd.Flags().Changed("data") || cmd.Flags().Changed("database")
	if a.Server == "" && !here {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	return a.Server != "" || a.Data != "" || a.Database != ""
}

// withStore opens the store on the server's machine for do. what is the entry for the audit log; empty: nothing
// changes.
func withStore(ctx context.Context, a *cli.App, what string, do func(repos.Store) error) (err error) {
	st, err := repos.OpenStore(ctx, a, a.Logger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if what != "" {
		if err := st.RecordAudit(ctx, currentOperator(a).auditEntry(what)); err != nil {
			return err
		}
	}
	return do(st)
}

// localOperator is the user who runs the command on the server's machine.
type localOperator struct{ name string }

func currentOperator(a *cli.App) localOperator {
	if who, err := user.Current(); err == nil {
		return localOperator{who.Username + " on the server's machine"}
	}
	return localOperator{"somebody on the server's machine"}
}

func (l localOperator) auditEntry(what string) access.Entry {
	return access.Entry{At: time.Now(), Who: l.name, What: what, From: "this machine"}
}

// writeSecret creates a file that only its owner may read, makes a secret and writes it there. The file comes
// first: a secret is shown once, and must not be made where it can't be stored. An existing file is not
// touched; where no secret was made, no file is left. Without a file, the secret is only made.
func writeSecret(file string, makeSecret func() (string, error)) error {
	if file == "" {
		_, err := makeSecret()
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return cli.Fail(fmt.Errorf("%s exists already; no token was made", file), "name a file that does not exist yet")
	}
	if err != nil {
		return fmt.Errorf("no token was made: %w", err)
	}
	secret, err := makeSecret()
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(file))
	}
	_, err = f.WriteString(secret + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
