package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
)

func (a *app) tokenVerb() *cobra.Command {
	cmd := group("token", "Add and remove the tokens of people and programs", `Who asks the control plane by https:// shows a token, $SLUICE_TOKEN, with a role: viewer reads; operator also acts on cells and rollouts,
approver on approvals; admin does everything. A token is stored as a hash, and shown once.

Asks the control plane (--server, as an administrator); without, on the server's machine, the store in --data or --database.`,
		a.tokenAddVerb(), a.tokenListVerb(), a.tokenRemoveVerb())
	cmd.GroupID = groupCells
	return cmd
}

func (a *app) tokenAddVerb() *cobra.Command {
	var role, file string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Make a token for a person or a program, and show it once",
		Example: `  sluice token add ada --role operator --for 720h --server unix:///run/sluice.sock
  sluice token add prometheus --role viewer --data /var/lib/sluice --token-file /etc/prometheus/sluice`,
		Args: arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			as, err := access.ParseRole(role)
			if err != nil {
				return usage(cmd, "--role: %w", err)
			}
			if lasts < 0 {
				return usage(cmd, "--for %s: give a positive duration", lasts)
			}
			if !a.asksKeeper(cmd) {
				return usage(cmd, "say who keeps it: --server ADDRESS, or on the server's machine --data DIR or --database")
			}
			var made peopleapi.OperatorToken
			secret := func() (string, error) {
				var err error
				made, err = a.addToken(cmd.Context(), args[0], as, lasts)
				return made.Token, err
			}
			if file != "" {
				err = writeSecret(file, secret)
				made.Token = ""
			} else {
				_, err = secret()
			}
			if err != nil {
				return wrapFailure("add the token "+args[0], err)
			}
			if done, err := a.encode(made); done {
				return err
			}
			if file != "" {
				a.stdout.line("the token of %s is in %s", made.Name, file)
				return nil
			}
			a.stderr.line("the token of %s, which is not shown again; for $SLUICE_TOKEN:", made.Name)
			a.stdout.line("%s", made.Token)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "viewer, operator, approver or admin")
	f.DurationVar(&lasts, "for", 0, "how long it is good (default: until it is removed)")
	f.StringVar(&file, "token-file", "", "write it to this `FILE`, for its owner only, instead of printing it")
	a.serverFlag(cmd)
	return cmd
}

func (a *app) addToken(ctx context.Context, name string, role access.Role, lasts time.Duration) (made peopleapi.OperatorToken, err error) {
	end := "" // none
	if lasts > 0 {
		end = lasts.String()
	}
	if a.server != "" {
		return made, a.call(ctx, http.MethodPost, "/v1/tokens", peopleapi.NewOperator{Name: name, Role: string(role), For: end}, &made)
	}
	kept, secret, err := peopleapi.NewToken(name, role, end, time.Now())
	if err != nil {
		return made, err
	}
	return peopleapi.OperatorToken{Operator: kept, Token: secret}, a.inStore(ctx, "add the token "+name+" with the role "+string(role), func(st keeps) error {
		return st.AddToken(ctx, kept)
	})
}

func (a *app) tokenListVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List everyone's tokens: names, roles, ends",
		Example: `  sluice token list --server unix:///run/sluice.sock`,
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !a.asksKeeper(cmd) {
				return usage(cmd, "say who keeps them: --server ADDRESS, or on the server's machine --data DIR or --database")
			}
			ctx := cmd.Context()
			var all struct {
				Tokens []access.Token `json:"tokens"`
			}
			var err error
			if a.server != "" {
				err = a.ask(ctx, "/v1/tokens", &all)
			} else {
				err = a.inStore(ctx, "", func(st keeps) (err error) {
					all.Tokens, err = st.Tokens(ctx)
					return err
				})
			}
			if err != nil {
				return err
			}
			if done, err := a.encode(all); done {
				return err
			}
			rows := make([][]field, 0, len(all.Tokens))
			for _, t := range all.Tokens {
				until := field{"-", plain}
				if !t.Expires.IsZero() {
					until = text(stamp(t.Expires.Round(time.Second)))
				}
				if !t.Good(time.Now()) {
					until.colour = red
				}
				rows = append(rows, []field{text(t.Name), text(string(t.Role)), text(stamp(t.Created.Round(time.Second))), until})
			}
			a.stdout.table([]string{"NAME", "ROLE", "SINCE", "UNTIL"}, rows)
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

func (a *app) tokenRemoveVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Make a token worthless, at once",
		Example: `  sluice token remove ada --server unix:///run/sluice.sock`,
		Args:    arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !a.asksKeeper(cmd) {
				return usage(cmd, "say who keeps it: --server ADDRESS, or on the server's machine --data DIR or --database")
			}
			ctx, name := cmd.Context(), args[0]
			what := "remove the token " + name
			var err error
			if a.server != "" {
				err = a.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(name), nil, nil)
			} else {
				err = a.inStore(ctx, what, func(st keeps) error { return st.RemoveToken(ctx, name) })
			}
			if err != nil {
				return wrapFailure(what, err)
			}
			return a.wrote(written{Did: what + ": done"})
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// asksKeeper tells whether it is known who keeps tokens: a control plane (a.server is set then), or the store here. What
// a flag names goes before the environment.
func (a *app) asksKeeper(cmd *cobra.Command) bool {
	here := cmd.Flags().Changed("data") || cmd.Flags().Changed("database")
	if a.server == "" && !here {
		a.server = a.getenv("SLUICE_SERVER")
	}
	return a.server != "" || a.data != "" || a.database != ""
}

// inStore does something to the store, on the server's machine; what is for the audit, empty: nothing changes.
func (a *app) inStore(ctx context.Context, what string, do func(keeps) error) (err error) {
	st, err := a.openStore(ctx, a.logger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if what != "" {
		if err := st.Audit(ctx, a.operator().entry(what)); err != nil {
			return err
		}
	}
	return do(st)
}

// local is who types, on the server's machine.
type local struct{ name string }

func (a *app) operator() local {
	if who, err := user.Current(); err == nil {
		return local{who.Username + " on the server's machine"}
	}
	return local{"somebody on the server's machine"}
}

func (l local) entry(what string) access.Entry {
	return access.Entry{At: time.Now(), Who: l.name, What: what, From: "this machine"}
}

// writeSecret makes a file that only its owner may read, and then what goes into it: a secret is shown once, and must not be
// made where it can't be kept. A file that is there is not touched; where nothing was made, none is left.
func writeSecret(file string, made func() (string, error)) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fail(fmt.Errorf("%s is there already, and no token was made", file), "name a file that is not there yet")
	}
	if err != nil {
		return fmt.Errorf("no token was made: %w", err)
	}
	secret, err := made()
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(file))
	}
	_, err = f.WriteString(secret + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
