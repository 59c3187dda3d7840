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
	var file string // where the token goes; empty: it is printed
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
		Args: cli.Arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name = args[0]
			if !cells.ValidName(n.Name) {
				return cli.Usage(cmd, "%q can't be a cell's name: it takes lower-case letters, digits and dashes", n.Name)
			}
			if n.Channel == "" && (n.Profile != "" || len(n.Values)+len(n.Labels) > 0) {
				return cli.Usage(cmd, "--profile, --value and --label are for a new cell, which needs --channel too")
			}
			if !asksKeeper(a, cmd) {
				return cli.Usage(cmd, "name the control plane with --server ADDRESS or, on the server's machine, its store with --data DIR or --database")
			}
			return cellAdd(a, cmd, n, file)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Channel, "channel", "", "`CHANNEL` that the cell follows")
	f.StringVar(&n.Profile, "profile", "", "`PROFILE` of the release that the cell runs (default: default)")
	f.StringToStringVar(&n.Values, "value", nil, "value of a parameter, `NAME=VALUE`; may be repeated")
	f.StringToStringVar(&n.Labels, "label", nil, "label, `KEY=VALUE`, that waves can select by; may be repeated")
	f.StringVar(&file, "token-file", "", "write the token to this `FILE`, readable by its owner only, instead of printing it")
	cli.ServerFlag(a, cmd)
	return cmd
}

// added is what sluice cell add did.
type added struct {
	Cell    string    `json:"cell"`
	Commit  string    `json:"commit,omitempty"` // of cell.yaml; none: it was there
	Token   string    `json:"token,omitempty"`
	File    string    `json:"file,omitempty"` // that has the token
	Expires time.Time `json:"expires"`
	Run     string    `json:"run"` // the line to run in the cell
}

func cellAdd(a *cli.App, cmd *cobra.Command, n edits.AddCell, file string) error {
	what := "add cell " + n.Name
	did := added{Cell: n.Name}
	if n.Channel != "" {
		commit, err := commitCell(a, cmd, n)
		if err != nil {
			return err
		}
		did.Commit = commit
	}
	var token peopleapi.JoinToken
	secret := func() (string, error) {
		var err error
		token, err = joinToken(a, cmd, n.Name)
		return token.Token, err
	}
	if err := keepSecret(file, secret); err != nil {
		err = fmt.Errorf("%s: %w", what, err)
		if did.Commit != "" {
			a.Stderr.Line("cell %s is committed (%s), but has no token yet; to make one: sluice cell add %s", n.Name, cli.Short(did.Commit), n.Name)
		}
		return err
	}
	did.Token, did.Expires = token.Token, token.Expires
	did.Run = "SLUICE_JOIN=" + token.Token + " sluice agent --dir /srv/product"
	if file != "" {
		did.Token, did.File, did.Run = "", file, "sluice agent --join @"+file+" --dir /srv/product"
	}
	return a.Show(did, func() {
		if did.Commit != "" {
			a.Stdout.Line("%s to %s: commit %s", what, n.Channel, cli.Short(did.Commit))
		}
		a.Stdout.Line("run this in the cell, until %s:", cli.Stamp(did.Expires.Round(time.Second)))
		a.Stdout.Line("  %s", did.Run)
	})
}

// commitCell commits cell.yaml and gives the commit; none if the cell is there as it is to be.
func commitCell(a *cli.App, cmd *cobra.Command, n edits.AddCell) (string, error) {
	repo, p, err := a.Releases().Pusher(a, cmd)
	if err != nil {
		return "", cli.FailedTo(n, err)
	}
	defer repo.Close()
	done, err := p.Push(cmd.Context(), n)
	return done.Commit, err
}

// knownWithin is how long the control plane may take to read of a cell that was committed just now.
const knownWithin = 90 * time.Second

// joinToken has the control plane make a token, or makes it in the store.
func joinToken(a *cli.App, cmd *cobra.Command, name string) (peopleapi.JoinToken, error) {
	ctx := cmd.Context()
	if a.Server == "" {
		return joinTokenHere(ctx, a, cmd, name)
	}
	var token peopleapi.JoinToken
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) {
		err := a.Call(ctx, http.MethodPost, cellPath(name, "/tokens"), nil, &token)
		if !errNoCell(err) {
			return token, err
		}
		if !committed(ctx, a, cmd, name) {
			return token, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return token, err
		}
	}
}

// committed tells whether the repository has a cell that the control plane does not know. One that can't be looked at may have it.
func committed(ctx context.Context, a *cli.App, cmd *cobra.Command, name string) bool {
	s, err := a.Releases().Read(ctx, a, cmd)
	return err != nil || s.Desired.Cells[name] != nil
}

// joinTokenHere puts a token into the store, on the server's machine.
func joinTokenHere(ctx context.Context, a *cli.App, cmd *cobra.Command, name string) (token peopleapi.JoinToken, err error) {
	s, err := a.Releases().Read(ctx, a, cmd)
	if err != nil {
		return token, err
	}
	if s.Desired.Cells[name] == nil {
		return token, cli.Fail(fmt.Errorf("the repository has no cell %q", name), "add it: sluice cell add %s --channel CHANNEL", name)
	}
	st, err := a.OpenStore(ctx, a.Logger())
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	known, kept, err := cli.ReadAdvertised(ctx, st)
	if err != nil {
		return token, err
	}
	if kept == "" || known.Address == "" {
		return token, cli.Fail(errors.New("no control plane has served cells with keys from this store, so there is no address to give the cell"), "sluice serve --cells HOST:PORT")
	}
	observed, err := st.Known(ctx)
	if err != nil {
		return token, err
	}
	serial := s.Desired.Cells[name].Identity.Serial
	if r, ok := observed.Registered[name]; ok {
		serial = max(serial, r.Identity.Serial)
	}
	who := operator(a)
	if err := st.Audit(ctx, who.entry("make a token for cell "+name)); err != nil {
		return token, err
	}
	made, join, err := peopleapi.NewJoin(name, serial, who.name, known.Address, known.Pins, time.Now())
	if err == nil {
		err = st.AddJoin(ctx, join)
	}
	return peopleapi.JoinToken{Cell: name, Token: made.String(), Expires: join.Expires}, err
}
