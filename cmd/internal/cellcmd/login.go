package cellcmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// LoginVerb signs a person in by device flow.
func LoginVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "login --server ADDRESS",
		GroupID: cli.GroupCells,
		Short:   "Sign in at the control plane's identity provider, in any browser",
		Long: `Shows an address and a code to enter there, and waits until you did. The token that comes of it is
kept in your configuration folder, readable by you alone, and the other verbs show it to that server
from then on, unless SLUICE_TOKEN is set. It ends after 12 h, or with sluice logout.`,
		Example: `  sluice login --server https://sluice.example.com:7600`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requireServer(a, cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			var d signin.Device
			if err := client.CallServerAs(ctx, a, http.MethodPost, "/auth/device", "", nil, &d); err != nil {
				return fmt.Errorf("sign in: %w", err)
			}
			a.Stderr.PrintLine("open %s in a browser, and enter the code %s", d.URL, d.UserCode)
			if d.Complete != "" {
				a.Stderr.PrintLine("or open %s, and compare the code", d.Complete)
			}
			token, err := awaitToken(ctx, a, d)
			if err != nil {
				return fmt.Errorf("sign in: %w", err)
			}
			if err := client.KeepSession(a, client.SavedSession{Token: token.Token, Ends: token.Ends}); err != nil {
				return fmt.Errorf("sign in: %w", err)
			}
			var me signin.Me
			if err := client.CallServerAs(ctx, a, http.MethodGet, "/v1/me", token.Token, nil, &me); err != nil {
				return err
			}
			if a.Getenv("SLUICE_TOKEN") != "" {
				a.Stderr.PrintLine("note: SLUICE_TOKEN is set, and goes before this session; unset it to use that")
			}
			return repos.PrintDone(a, edits.Result{Summary: fmt.Sprintf("signed in as %s with %s, until %s", me.Name,
				me.Grants, cli.FormatTime(token.Ends.Round(time.Second)))})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// requireServer finds the control plane to sign in at.
func requireServer(a *cli.App, cmd *cobra.Command) error {
	if a.Server == "" {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	if !strings.HasPrefix(a.Server, "https://") {
		return cli.UsageError(cmd,
			"name the control plane: --server https://HOST:PORT (loopback and unix:// need no token)")
	}
	return nil
}

// awaitToken asks until the person is done.
func awaitToken(ctx context.Context, a *cli.App, d signin.Device) (token signin.DeviceToken, err error) {
	wait := time.Duration(max(d.Interval, 1)) * time.Second
	for {
		if err := backoff.Sleep(ctx, wait); err != nil {
			return token, err
		}
		token = signin.DeviceToken{}
		err := client.CallServerAs(ctx, a, http.MethodPost, "/auth/device/token", "",
			map[string]string{"handle": d.Handle}, &token)
		refusal := new(client.Refusal)
		switch {
		case errors.As(err, &refusal) && refusal.Status == http.StatusServiceUnavailable &&
			time.Now().Before(d.Expires):
			continue // the provider, or the server, is busy
		case err != nil || token.Token != "":
			return token, err
		case token.SlowDown:
			wait += 5 * time.Second // RFC 8628, section 3.5
		}
	}
}

// LogoutVerb ends what LoginVerb began.
func LogoutVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "logout --server ADDRESS",
		GroupID: cli.GroupCells,
		Short:   "Sign out: the token of sluice login stops working everywhere",
		Example: `  sluice logout --server https://sluice.example.com:7600`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requireServer(a, cmd); err != nil {
				return err
			}
			kept, err := client.ReadSession(a)
			if err != nil {
				return err
			}
			if kept.Token == "" {
				return repos.PrintDone(a, edits.Result{Summary: "nobody is signed in at " + a.Server + " here"})
			}
			ended := client.CallServerAs(cmd.Context(), a, http.MethodPost, "/auth/logout", kept.Token, nil, nil)
			if err := client.ForgetSession(a); err != nil { // also where the server can't be reached
				return err
			}
			if ended != nil {
				return fmt.Errorf("the token is removed here, and may be valid until %s: %w",
					cli.FormatTime(kept.Ends), ended)
			}
			return repos.PrintDone(a, edits.Result{Summary: "signed out of " + a.Server})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// SessionVerb shows and ends the sessions of who signed in.
func SessionVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("session", "Show and end the sessions of people who signed in",
		`Who signs in, with a browser or sluice login, has a session. An administrator sees all of them, and
ends one everywhere within 2 s.`, sessionListVerb(a), sessionEndVerb(a))
	cmd.GroupID = cli.GroupCells
	return cmd
}

func sessionListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List who is signed in",
		Example: `  sluice session list --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all struct {
				Sessions []signin.Session `json:"sessions"`
			}
			if err := askServer(a, cmd, http.MethodGet, "/v1/sessions", &all); err != nil {
				return err
			}
			return a.PrintResult(all, func() {
				rows := make([][]cli.Field, 0, len(all.Sessions))
				for _, s := range all.Sessions {
					rows = append(rows, []cli.Field{cli.Text(s.ID), cli.Text(s.Who.Label()), cli.Text(s.Kind),
						cli.Text(cli.FormatTime(s.Created.Round(time.Second))),
						cli.Text(cli.FormatTime(s.Seen.Round(time.Second))),
						cli.Text(cli.FormatTime(s.Ends.Round(time.Second)))})
				}
				a.Stdout.PrintTable([]string{"ID", "WHO", "BY", "SINCE", "SEEN", "UNTIL"}, rows)
			})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func sessionEndVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "end ID",
		Short:   "End a session; it stops working everywhere within 2 s",
		Example: `  sluice session end 3f9a0c5be1d2a847 --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "end the session " + args[0]
			if err := askServer(a, cmd, http.MethodDelete, "/v1/sessions/"+url.PathEscape(args[0]), nil); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return repos.PrintDone(a, edits.Result{Summary: what + ": done"})
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func askServer(a *cli.App, cmd *cobra.Command, method, path string, into any) error {
	if a.Server == "" {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	if a.Server == "" {
		return cli.UsageError(cmd, "name the control plane: --server ADDRESS")
	}
	return client.CallServer(cmd.Context(), a, method, path, nil, into)
}
