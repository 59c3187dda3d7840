package cellcmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
)

func cellAddVerb(a *cli.App) *cobra.Command {
	var n edits.AddCell
	var file string // for the token; empty: print it
	cmd := &cobra.Command{
		Use:   "add NAME [--channel CHANNEL]",
		Short: "Add a cell, and make the one-time token that its agent registers with",
		Long: `Commits cells/NAME/cell.yaml if it does not exist yet, and makes a token that works once, within an
hour. The token carries the control plane's address and the pins of its keys, so that the agent
needs nothing else. Without --channel the cell must exist already: it gets a new token, and the key
that it registers with replaces the one before.

The token is made by the control plane (--server, as an administrator) or, on the server's machine,
in its store (--data or --database).`,
		Example: `  sluice cell add acme --channel dedicated --server unix:///run/sluice.sock
  sluice cell add acme --channel dedicated --profile small --label region=eu --value domain=acme.example --data /var/lib/sluice`,
		Args: cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name = args[0]
			if !cells.ValidName(n.Name) {
				return cli.UsageError(cmd, "%q can't be a cell's name: it takes lower-case letters, digits and dashes",
					n.Name)
			}
			if n.Channel == "" && (n.Profile != "" || len(n.Values)+len(n.Labels) > 0) {
				return cli.UsageError(cmd,
					"--profile, --value and --label are for a new cell, which needs --channel too")
			}
			if !findTokenStore(a, cmd) {
				return cli.UsageError(cmd, missingTokenStore)
			}
			return addCell(a, cmd, n, file)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Channel, "channel", "", "`CHANNEL` that the cell follows")
	f.StringVar(&n.Profile, "profile", "", "`PROFILE` of the release that the cell runs (default: default)")
	f.StringToStringVar(&n.Values, "value", nil, "value of a parameter, `NAME=VALUE`; may be repeated")
	f.StringToStringVar(&n.Labels, "label", nil, "label, `KEY=VALUE`, that waves can select by; may be repeated")
	f.StringVar(&file, "token-file", "",
		"write the token to this `FILE`, readable by its owner only, instead of printing it")
	cli.AddServerFlag(a, cmd)
	return cmd
}

// addResult is the output of sluice cell add.
type addResult struct {
	Cell    string    `json:"cell"`
	Commit  string    `json:"commit,omitempty"` // of cell.yaml; empty: the cell existed
	Token   string    `json:"token,omitempty"`
	File    string    `json:"file,omitempty"` // with the token
	Expires time.Time `json:"expires"`
	Run     string    `json:"run"` // the line to run in the cell
}

func addCell(a *cli.App, cmd *cobra.Command, n edits.AddCell, file string) error {
	subject := "add cell " + n.Name
	result := addResult{Cell: n.Name}
	if n.Channel != "" {
		commit, err := commitCell(a, cmd, n)
		if err != nil {
			return err
		}
		result.Commit = commit
	}
	var token peopleapi.JoinToken
	makeToken := func() (string, error) {
		var err error
		token, err = requestJoinToken(a, cmd, n.Name)
		return token.Token, err
	}
	if err := writeSecret(file, makeToken); err != nil {
		err = fmt.Errorf("%s: %w", subject, err)
		if result.Commit != "" {
			a.Stderr.PrintLine("cell %s is committed (%s), but has no token yet; to make one: sluice cell add %s",
				n.Name, cli.ShortID(result.Commit), n.Name)
		}
		return err
	}
	result.Token, result.Expires = token.Token, token.Expires
	result.Run = "SLUICE_JOIN=" + token.Token + " sluice agent --dir /srv/product"
	if file != "" {
		result.Token, result.File, result.Run = "", file, "sluice agent --join @"+file+" --dir /srv/product"
	}
	return a.PrintResult(result, func() {
		if result.Commit != "" {
			a.Stdout.PrintLine("%s to %s: commit %s", subject, n.Channel, cli.ShortID(result.Commit))
		}
		a.Stdout.PrintLine("run this in the cell, until %s:", cli.FormatTime(result.Expires.Round(time.Second)))
		a.Stdout.PrintLine("  %s", result.Run)
	})
}

// commitCell commits cell.yaml and returns the commit; empty if the cell exists as requested.
func commitCell(a *cli.App, cmd *cobra.Command, n edits.AddCell) (string, error) {
	repo, p, err := a.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return "", cli.DecisionError(n, err)
	}
	defer repo.Close()
	done, err := p.Push(cmd.Context(), n)
	return done.Commit, err
}

// unknownCellTimeout bounds how long the control plane may take to read a cell that was just committed.
const unknownCellTimeout = 90 * time.Second

// requestJoinToken asks the control plane for a token or, without one, makes the token in the store.
func requestJoinToken(a *cli.App, cmd *cobra.Command, name string) (peopleapi.JoinToken, error) {
	ctx := cmd.Context()
	if a.Server == "" {
		return createJoinToken(ctx, a, cmd, name)
	}
	var token peopleapi.JoinToken
	ctx, cancel := context.WithTimeout(ctx, unknownCellTimeout)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) {
		err := a.CallServer(ctx, http.MethodPost, cellPath(name, "/tokens"), nil, &token)
		if !isUnknownCell(err) {
			return token, err
		}
		if !isCommitted(ctx, a, cmd, name) {
			return token, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return token, err
		}
	}
}

// isCommitted reports whether the repository has a cell that the control plane does not know, or can't be read.
func isCommitted(ctx context.Context, a *cli.App, cmd *cobra.Command, name string) bool {
	s, err := a.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	return err != nil || s.Desired.Cells[name] != nil
}

// createJoinToken makes a token in the store, on the server's machine.
func createJoinToken(ctx context.Context, a *cli.App, cmd *cobra.Command,
	name string) (token peopleapi.JoinToken, err error) {
	s, err := a.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	if err != nil {
		return token, err
	}
	if s.Desired.Cells[name] == nil {
		return token, cli.Fail(fmt.Errorf("the repository has no cell %q", name),
			"add it: sluice cell add %s --channel CHANNEL", name)
	}
	st, err := a.OpenStore(ctx, a.Logger())
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	advertised, stored, err := cli.ReadAdvertised(ctx, st)
	if err != nil {
		return token, err
	}
	if stored == "" || advertised.Address == "" {
		return token, cli.Fail(errors.New("no control plane has served cells with keys from this store, "+
			"so there is no address to give the cell"), "sluice serve --cells HOST:PORT")
	}
	observed, err := st.Known(ctx)
	if err != nil {
		return token, err
	}
	serial := s.Desired.Cells[name].Identity.Serial
	if r, ok := observed.Registered[name]; ok {
		serial = max(serial, r.Identity.Serial)
	}
	user := currentOperator(a)
	if err := st.RecordAudit(ctx, user.auditEntry("make a token for cell "+name)); err != nil {
		return token, err
	}
	newToken, join, err := peopleapi.NewJoinToken(name, serial, user.name, advertised.Address, advertised.Pins,
		time.Now())
	if err == nil {
		err = st.AddJoin(ctx, join)
	}
	return peopleapi.JoinToken{Cell: name, Token: newToken.String(), Expires: join.Expires}, err
}
