package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
)

// newCell is what sluice cell add is told.
type newCell struct {
	name    string
	channel string // empty: the cell is there, and gets a new token
	profile string
	values  map[string]string
	labels  map[string]string
	file    string // where the token goes; empty: it is printed
}

func (a *app) cellAddVerb() *cobra.Command {
	var n newCell
	cmd := &cobra.Command{
		Use:   "add NAME [--channel CHANNEL]",
		Short: "Add a cell, and make the one-time token that its agent registers with",
		Long: `Commits cells/NAME/cell.yaml, if it isn't there, and makes a token that is good once and for an hour. It carries the control plane's
address and the pins of its keys, so that the agent needs nothing else. Without --channel the cell must be there already: it gets a new token, and
the key that it registers with takes the place of the one before.

The token comes from the control plane (--server, as an administrator) or, on the server's machine, goes into its store (--data or --database).`,
		Example: `  sluice cell add acme --channel dedicated --server unix:///run/sluice.sock
  sluice cell add acme --channel dedicated --profile small --label region=eu --value domain=acme.example --data /var/lib/sluice`,
		Args: arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.name = args[0]
			if !cells.ValidName(n.name) {
				return usage(cmd, "%q can't be a cell's name: it takes lower-case letters, digits and dashes", n.name)
			}
			if n.channel == "" && (n.profile != "" || len(n.values)+len(n.labels) > 0) {
				return usage(cmd, "--profile, --value and --label are for a new cell, which needs --channel too")
			}
			if !a.asksKeeper(cmd) {
				return usage(cmd, "say who makes the token: --server ADDRESS, or on the server's machine --data DIR or --database")
			}
			return a.cellAdd(cmd, n)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.channel, "channel", "", "the `CHANNEL` that it follows")
	f.StringVar(&n.profile, "profile", "", "the release's `PROFILE` that it runs (default: default)")
	f.StringToStringVar(&n.values, "value", nil, "a parameter's value, `NAME=VALUE`; may be repeated")
	f.StringToStringVar(&n.labels, "label", nil, "a label, `KEY=VALUE`, that waves can name; may be repeated")
	f.StringVar(&n.file, "token-file", "", "write the token to this `FILE`, for its owner only, instead of printing it")
	a.serverFlag(cmd)
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

func (a *app) cellAdd(cmd *cobra.Command, n newCell) error {
	what := "add cell " + n.name
	did := added{Cell: n.name}
	if n.channel != "" {
		commit, err := a.commitCell(cmd, n)
		if err != nil {
			return err
		}
		did.Commit = commit
	}
	var token peopleapi.JoinToken
	secret := func() (string, error) {
		var err error
		token, err = a.joinToken(cmd, n.name)
		return token.Token, err
	}
	var err error
	if n.file != "" {
		err = writeSecret(n.file, secret)
	} else {
		_, err = secret()
	}
	if err != nil {
		err = wrapFailure(what, err)
		if did.Commit != "" {
			a.stderr.line("cell %s is committed (%s), and has no token yet: sluice cell add %s makes one", n.name, short(did.Commit), n.name)
		}
		return err
	}
	did.Token, did.Expires = token.Token, token.Expires
	did.Run = "SLUICE_JOIN=" + token.Token + " sluice agent --dir /srv/product"
	if n.file != "" {
		did.Token, did.File, did.Run = "", n.file, "sluice agent --join @"+n.file+" --dir /srv/product"
	}
	if done, err := a.encode(did); done {
		return err
	}
	if did.Commit != "" {
		a.stdout.line("%s to %s: commit %s", what, n.channel, short(did.Commit))
	}
	a.stdout.line("run this in the cell, until %s:", stamp(did.Expires.Round(time.Second)))
	a.stdout.line("  %s", did.Run)
	return nil
}

// commitCell commits cell.yaml and gives the commit; none if the cell is there as it is to be.
func (a *app) commitCell(cmd *cobra.Command, n newCell) (string, error) {
	c := change{what: "add cell " + n.name + " to " + n.channel}
	repo, err := a.openAs(cmd, c)
	if err != nil {
		return "", wrapFailure(c.what, err)
	}
	defer repo.Close()
	commit, err := a.push(cmd.Context(), repo, c, func(s *snapshot) (map[string][]byte, error) { return n.files(s) })
	if errors.Is(err, errUnchanged) {
		return "", nil
	}
	return commit, err
}

// cellFile is cell.yaml as it is written: without what is left to its default.
type cellFile struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Channel    string            `yaml:"channel"`
	Profile    string            `yaml:"profile,omitempty"`
	Labels     map[string]string `yaml:"labels,omitempty"`
	Values     map[string]any    `yaml:"values,omitempty"`
}

// files are those to commit.
func (n newCell) files(s *snapshot) (map[string][]byte, error) {
	if _, err := s.channel(n.channel); err != nil {
		return nil, err
	}
	if is := s.desired.Cells[n.name]; is != nil {
		if is.Channel == n.channel && n.profile == "" && len(n.values)+len(n.labels) == 0 {
			return nil, errUnchanged
		}
		return nil, fail(fmt.Errorf("the cell is there already, in %s", is.Channel), "edit cells/%s/cell.yaml to change it; for a new token leave --channel and the others out", n.name)
	}
	file := cellFile{APIVersion: "sluice/v1", Kind: "Cell", Channel: n.channel, Profile: n.profile, Labels: n.labels}
	for name, value := range n.values {
		var v any // 3 is a number and true a boolean, as they would be in the file
		if err := yaml.Unmarshal([]byte(value), &v); err != nil {
			return nil, fail(fmt.Errorf("--value %s: %q is no YAML", name, value), "quote it, or edit cell.yaml")
		}
		if file.Values == nil {
			file.Values = map[string]any{}
		}
		file.Values[name] = v
	}
	data, err := yaml.Marshal(file)
	return map[string][]byte{path.Join(cells.Dir, n.name, "cell.yaml"): data}, err
}

// knownWithin is how long the control plane may take to read of a cell that was committed just now.
const knownWithin = 90 * time.Second

// joinToken has the control plane make a token, or makes it in the store.
func (a *app) joinToken(cmd *cobra.Command, name string) (peopleapi.JoinToken, error) {
	ctx := cmd.Context()
	if a.server == "" {
		return a.joinTokenHere(ctx, cmd, name)
	}
	var token peopleapi.JoinToken
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) {
		err := a.call(ctx, http.MethodPost, cellPath(name, "/tokens"), nil, &token)
		if !errNoCell(err) {
			return token, err
		}
		if !a.committed(ctx, cmd, name) {
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
func (a *app) committed(ctx context.Context, cmd *cobra.Command, name string) bool {
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return false
	}
	defer repo.Close()
	s, err := repo.snapshot(ctx)
	return err != nil || s.desired.Cells[name] != nil
}

// joinTokenHere puts a token into the store, on the server's machine.
func (a *app) joinTokenHere(ctx context.Context, cmd *cobra.Command, name string) (token peopleapi.JoinToken, err error) {
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return token, err
	}
	defer repo.Close()
	s, err := repo.snapshot(ctx)
	if err != nil {
		return token, err
	}
	if s.desired.Cells[name] == nil {
		return token, fail(fmt.Errorf("the repository has no cell %q", name), "add it: sluice cell add %s --channel CHANNEL", name)
	}
	st, err := a.openStore(ctx, a.logger())
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	known, kept, err := readSpoken(ctx, st)
	if err != nil {
		return token, err
	}
	if kept == "" || known.Address == "" {
		return token, fail(errors.New("no control plane has served cells by key from this store, so that there is no address to tell the cell"), "sluice serve --cells HOST:PORT")
	}
	observed, err := st.Known(ctx)
	if err != nil {
		return token, err
	}
	serial := s.desired.Cells[name].Identity.Serial
	if r, ok := observed.Registered[name]; ok {
		serial = max(serial, r.Identity.Serial)
	}
	who := a.operator()
	if err := st.Audit(ctx, who.entry("make a token for cell "+name)); err != nil {
		return token, err
	}
	made, join, err := peopleapi.NewJoin(name, serial, who.name, known.Address, known.Pins, time.Now())
	if err == nil {
		err = st.AddJoin(ctx, join)
	}
	return peopleapi.JoinToken{Cell: name, Token: made.String(), Expires: join.Expires}, err
}

// identity is the cell's, as the repository has it.
func (s *snapshot) identity(name string) (cells.Identity, error) {
	c := s.desired.Cells[name]
	if c == nil {
		return cells.Identity{}, fail(fmt.Errorf("the repository has no cell %q", name), "sluice cell list")
	}
	return c.Identity, nil
}

func identityYAML(id cells.Identity) ([]byte, error) {
	id.APIVersion, id.Kind = "sluice/v1", "Identity"
	return yaml.Marshal(id)
}

// filesBelow are a folder's files, as a change that removes them.
func (s *snapshot) filesBelow(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(s.files, dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasPrefix(name, dir+"/") {
			files[name] = nil
		}
		return err
	})
	return files, err
}
