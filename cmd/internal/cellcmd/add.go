package cellcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
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
in its store (--data or --database). Where the control plane serves only its own machine, cells have
no keys and need no token: the line to run in the cell names the cell. Without any of these flags,
the cell is only added.`,
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
			if a.DryRun {
				if n.Channel == "" {
					return cli.UsageError(cmd, "--dry-run shows the commit of a new cell: name its --channel")
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), n)
			}
			if !findTokenStore(a, cmd) && (n.Channel == "" || file != "") {
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
	client.AddServerFlag(a, cmd)
	return cmd
}

// addResult is the output of sluice cell add.
type addResult struct {
	Cell    string    `json:"cell"`
	Commit  string    `json:"commit,omitempty"` // of cell.yaml; empty: the cell existed
	Token   string    `json:"token,omitempty"`
	File    string    `json:"file,omitempty"` // with the token
	Expires time.Time `json:"expires,omitzero"`
	Run     string    `json:"run"` // the line to run in the cell
}

func addCell(a *cli.App, cmd *cobra.Command, n edits.AddCell, file string) error {
	subject := "add cell " + n.Name
	result := addResult{Cell: n.Name}
	way, err := findTokenWay(cmd.Context(), a)
	if err == nil && way.keyless && file != "" {
		err = cli.Fail(errors.New("cells have no keys here, so there is no token to write"), "leave --token-file out")
	}
	if err != nil { // before anything is committed
		return fmt.Errorf("%s: %w", subject, err)
	}
	if n.Channel != "" {
		commit, err := commitCell(a, cmd, n)
		if err != nil {
			return err
		}
		result.Commit = commit
	}
	if way.keyless {
		if _, err := readCell(cmd.Context(), a, cmd, n.Name); err != nil {
			return fmt.Errorf("%s: %w", subject, err)
		}
		result.Run = fmt.Sprintf("sluice agent --cell %s --server %s --dir /srv/product", n.Name, way.address)
	} else if err := addToken(a, cmd, &result, file); err != nil {
		if result.Commit != "" {
			a.Stderr.PrintLine("cell %s is committed (%s), but has no token yet; to make one: %s", n.Name,
				cli.ShortID(result.Commit), cli.CompleteNext(a, "sluice cell add "+n.Name))
		}
		return fmt.Errorf("%s: %w", subject, err)
	}
	return a.PrintResult(result, func() {
		if result.Commit != "" {
			a.Stdout.PrintLine("%s to %s: commit %s", subject, n.Channel, cli.ShortID(result.Commit))
		}
		until := ", on the control plane's machine"
		if !way.keyless {
			until = ", until " + cli.FormatTime(result.Expires.Round(time.Second))
		}
		a.Stdout.PrintLine("run this in the cell%s:", until)
		a.Stdout.PrintLine("  %s", result.Run)
	})
}

// addToken makes the cell's token and the line that uses it.
func addToken(a *cli.App, cmd *cobra.Command, result *addResult, file string) error {
	var token peopleapi.JoinToken
	err := writeSecret(file, func() (string, error) {
		var err error
		token, err = requestJoinToken(a, cmd, result.Cell)
		return token.Token, err
	})
	result.Token, result.Expires = token.Token, token.Expires
	result.Run = "SLUICE_JOIN=" + token.Token + " sluice agent --dir /srv/product"
	if file != "" {
		result.Token, result.File, result.Run = "", file, "sluice agent --join @"+file+" --dir /srv/product"
	}
	return err
}

// tokenWay says how a new cell becomes known to the control plane.
type tokenWay struct {
	keyless bool   // cells have no keys, and name themselves
	address string // then: where the control plane answers
}

// findTokenWay finds out whether the control plane serves cells with keys: only then there are tokens.
func findTokenWay(ctx context.Context, a *cli.App) (w tokenWay, err error) {
	const usual = "http://127.0.0.1:7600"
	switch {
	case a.Server != "":
		var page peopleapi.MemberPage
		err := client.GetResource(ctx, a, "/v1/cells?limit=1", &page)
		return tokenWay{!page.Keyed, a.Server}, err
	case a.Data == "" && a.Database == "":
		return tokenWay{true, usual}, nil
	}
	st, err := repos.OpenStore(ctx, a, a.Logger())
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	advertised, _, err := repos.ReadAdvertised(ctx, st)
	if err != nil || advertised.Address != "" {
		return w, err
	}
	local, err := st.Fact(ctx, repos.LocalFact)
	return tokenWay{true, cmp.Or(local, usual)}, err
}

// readCell returns a cell of the repository; the error suggests the nearest.
func readCell(ctx context.Context, a *cli.App, cmd *cobra.Command, name string) (*plan.Cell, error) {
	s, err := repos.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	return s.Cell(name)
}

// commitCell commits cell.yaml and returns the commit; empty if the cell exists as requested.
func commitCell(a *cli.App, cmd *cobra.Command, n edits.AddCell) (string, error) {
	repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return "", repos.DecisionError(n, err)
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
		err := client.CallServer(ctx, a, http.MethodPost, cellPath(name, "/tokens"), nil, &token)
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
	s, err := repos.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	return err != nil || s.Desired.Cells[name] != nil
}

// createJoinToken makes a token in the store, on the server's machine.
func createJoinToken(ctx context.Context, a *cli.App, cmd *cobra.Command,
	name string) (token peopleapi.JoinToken, err error) {
	s, err := repos.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	if err != nil {
		return token, err
	}
	cell, err := s.Cell(name)
	if err != nil {
		return token, err
	}
	st, err := repos.OpenStore(ctx, a, a.Logger())
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	advertised, _, err := repos.ReadAdvertised(ctx, st)
	if err != nil {
		return token, err
	}
	observed, err := st.Known(ctx)
	if err != nil {
		return token, err
	}
	serial := cell.Identity.Serial
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
	newToken.Root = string(s.Desired.RootFor(name))
	return peopleapi.JoinToken{Cell: name, Token: newToken.String(), Expires: join.Expires}, err
}
