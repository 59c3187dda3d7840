// Package debugcmd has the vendor's verbs of debug access: a person asks a cell's owner for it, connects once the owner
// has approved, and verifies the record afterwards.
//
// It reads private keys from files and agents, and never prints or keeps one. What a cell is, it takes from git, never
// from the control plane.
package debugcmd

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/debugapi"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/words"
)

// Verb is sluice debug.
func Verb(a *cli.App) *cobra.Command {
	cmd := cli.Group("debug", "Ask a cell's owner for access, to debug the cell together",
		`A request is signed by your SSH key, which sluice.yaml lists for you. The cell's owner sees it in the
cell, and permits one session there, or denies it; no one else can. The session is SSH from end to
end: the control plane passes on what it can't read. docs/debug.md says more.`,
		repos.Complete(a, requestVerb(a), repos.CellNames), repos.Complete(a, ConnectVerb(a), repos.CellNames),
		listVerb(a), repos.Complete(a, showVerb(a), repos.CellNames),
		repos.Complete(a, withdrawVerb(a), repos.CellNames), repos.Complete(a, verifyVerb(a), repos.CellNames))
	cmd.GroupID = cli.GroupLook
	return cmd
}

// requireServer makes sure that there is a control plane to ask.
func requireServer(a *cli.App, cmd *cobra.Command) error {
	if a.Server == "" {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	if a.Server == "" {
		return cli.UsageError(cmd, "--server is missing: the control plane passes requests and sessions on")
	}
	return nil
}

func requestPath(cell, id string) string {
	return "/v1/cells/" + url.PathEscape(cell) + "/debug/" + url.PathEscape(id)
}

// requestFlags are the flags of sluice debug request.
type requestFlags struct {
	request debug.Request
	scope   string
	person  string
	key     string
	expires time.Duration
}

func requestVerb(a *cli.App) *cobra.Command {
	var o requestFlags
	cmd := &cobra.Command{Use: "request CELL --case CASE --reason WHY", Args: cli.ArgumentCount(1, 1, "CELL"),
		Short: "Ask a cell's owner for a session",
		Long: `The scope says what you could do: read runs the commands that the release declares in
diagnostics.yaml, exec:NAME one of them, logs reads the logs of what the cell runs, and shell is a
terminal.

You sign with a key that sluice.yaml lists for you, and that key alone opens the session. A cell with
a root of trust takes it only if release signers name the key, too (sluice trust support).`,
		Example: `  sluice debug request acme --case 4711 --reason "It hangs" --server https://sluice.example
  sluice debug request acme --case 4711 --reason "Workspaces don't start" --scope shell --key ~/.ssh/id_ed25519`}
	f := cmd.Flags()
	f.StringVar(&o.request.Case, "case", "", "`CASE`: your name of the problem, such as a ticket's number")
	f.StringVar(&o.request.Reason, "reason", "", "what has to be found out, in one line for the cell's owner")
	f.StringVar(&o.scope, "scope", string(debug.Read), "`SCOPE`: read, exec:NAME, logs or shell")
	cli.AddDurationFlag(f, &o.request.For, "for", 30*time.Minute, "how long the session may last")
	cli.AddDurationFlag(f, &o.expires, "expires", 8*time.Hour, "how long the request waits for the owner, at most 24h")
	f.StringVar(&o.person, "as", "",
		"ask as this `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	f.StringVar(&o.key, "key", "", "`FILE` with the private SSH key to sign with (default: git's user.signingKey, else "+
		"your key in the SSH agent)")
	client.AddServerFlag(a, cmd)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case strings.TrimSpace(o.request.Case) == "":
			return cli.UsageError(cmd, "--case is missing")
		case strings.TrimSpace(o.request.Reason) == "":
			return cli.UsageError(cmd, "--reason is missing")
		}
		o.request.Scope = debug.Scope(o.scope)
		if err := o.request.Scope.Validate(); err != nil {
			return cli.UsageError(cmd, "--%w", err)
		}
		return requireServer(a, cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		signed, vouched, err := sign(a, cmd, args[0], o)
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		if vouched.fault != nil {
			a.Stderr.PrintLine("note: cell %s refuses the request if it has a root of trust: %s", args[0], vouched.fault)
		}
		var s debugging.RequestStatus
		path := "/v1/cells/" + url.PathEscape(args[0]) + "/debug"
		err = client.CallServer(cmd.Context(), a, http.MethodPost, path, signed, &s)
		if err == nil {
			err = checkSubject(s, args[0], signed.ID())
		}
		var asked debug.Request
		if err == nil {
			asked, err = signed.Open()
		}
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		s.Key = asked.Fingerprint() // the owner compares it: the control plane must not name another key (D4)
		return a.PrintResult(s, func() {
			a.Stdout.PrintLine("asked: request %s to cell %s, with key %s", s.ID, s.Cell, s.Key)
			a.Stdout.PrintLine("the owner sees it by sluice cell debug show %s in the cell; tell them the key", s.ID)
			if vouched.asked && vouched.fault == nil {
				a.Stdout.PrintLine("release signers vouch for the key, as the cell sees, too, if it has a root of trust")
			}
			a.Stdout.PrintLine("then: sluice debug connect %s %s", s.Cell, s.ID)
		})
	}
	return cmd
}

// sign makes the request and signs it with a key of the person's in sluice.yaml.
func sign(a *cli.App, cmd *cobra.Command, cell string, o requestFlags) (
	signed debug.SignedRequest, vouched vouching, err error) {

	ctx := cmd.Context()
	s, err := repos.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	if err != nil {
		return signed, vouched, err
	}
	if s.Desired.Cells[cell] == nil {
		return signed, vouched, cli.Fail(fmt.Errorf("there is no cell %s", cell), "sluice cell list names all")
	}
	by := edits.Person{}
	if o.person == "" {
		if by.Person, err = repos.FindAuthor(ctx, a); err != nil {
			return signed, vouched, err
		}
	}
	person, err := s.People().FindApprover(o.person, by)
	if err != nil {
		return signed, vouched, err
	}
	key, err := repos.FindSigner(ctx, a, o.key, s.People()[person].Keys)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return signed, vouched, cli.Fail(err, "name the file of your private key: --key FILE")
	case err != nil:
		return signed, vouched, err
	case key == nil:
		return signed, vouched, cli.Fail(fmt.Errorf("no key of %s in sluice.yaml is here", person),
			"name the file of your private key (--key FILE), or load it into the SSH agent (ssh-add)")
	}
	r := o.request
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return signed, vouched, fmt.Errorf("make a nonce: %w", err)
	}
	now := time.Now()
	r.Cell, r.Person, r.Nonce, r.Made, r.Expires = cell, person, hex.EncodeToString(nonce), now, now.Add(o.expires)
	if signed, err = debug.Sign(r, rsaAsSHA2(key.Key)); err != nil {
		return signed, vouched, err
	}
	if r, err = debugging.Check(signed, cell, s.Desired.Pipeline.People, now); err == nil {
		vouched = readVouching(s.Desired, &r, now)
	}
	return signed, vouched, err
}

// rsaAsSHA2 has RSA keys sign over SHA-512: signatures over SHA-1 count for nothing.
func rsaAsSHA2(key ssh.Signer) ssh.Signer {
	if key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key
	}
	if by, ok := key.(ssh.AlgorithmSigner); ok {
		if limited, err := ssh.NewSignerWithAlgorithms(by, []string{ssh.KeyAlgoRSASHA512}); err == nil {
			return limited
		}
	}
	return key
}

func listVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "list [CELL]", Args: cli.ArgumentCount(0, 1, "CELL"),
		Short:   "Requests of the last 90 days, and what became of them",
		Example: `  sluice debug list acme --server https://sluice.example`}
	client.AddServerFlag(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := requireServer(a, cmd); err != nil {
			return err
		}
		all, err := listRequests(cmd.Context(), a, strings.Join(args, ""))
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return a.PrintResult(debugapi.RequestList{Requests: all}, func() { printList(a, all) })
	}
	return cmd
}

func printList(a *cli.App, all []debugging.RequestStatus) {
	if len(all) == 0 {
		a.Stdout.PrintLine("no one asked for debug access in the last 90 days")
		return
	}
	var rows [][]cli.Field
	for _, s := range all {
		rows = append(rows, []cli.Field{cli.Text(s.ID), cli.Text(s.Cell), cli.Text(s.State), cli.Text(s.Person),
			cli.Text(s.Case), cli.Text(s.Scope), cli.Text(words.FormatTime(s.Made)), cli.Text(s.Why)})
	}
	a.Stdout.PrintTable([]string{"ID", "CELL", "STATE", "PERSON", "CASE", "SCOPE", "ASKED", "WHY"}, rows)
}

func showVerb(a *cli.App) *cobra.Command {
	var record string
	cmd := &cobra.Command{Use: "show CELL ID", Args: cli.ArgumentCount(2, 2, "CELL ID"),
		Short: "Show a request, and what became of it",
		Example: `  sluice debug show acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 --server https://sluice.example
  sluice debug show acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 --record record.cast`}
	cmd.Flags().StringVar(&record, "record", "",
		"new `FILE` for the session's record, once it is compared with the cell's seal; asciinema play plays it")
	client.AddServerFlag(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := requireServer(a, cmd); err != nil {
			return err
		}
		s, err := loadRequest(cmd.Context(), a, args[0], args[1])
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		if record != "" {
			if err := fetchRecord(a, cmd, s, record); err != nil {
				return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
			}
		}
		return a.PrintResult(s, func() { printStatus(a, s) })
	}
	return cmd
}

func printStatus(a *cli.App, s debugging.RequestStatus) {
	p := a.Stdout
	p.PrintLine("request %s to cell %s: %s", s.ID, s.Cell, s.State)
	p.PrintLine("  who      %s, by key %s, sent by %s", s.Person, s.Key, s.By)
	p.PrintLine("  case     %s", s.Case)
	p.PrintLine("  reason   %s", s.Reason)
	p.PrintLine("  wants    to %s, for %s", debug.Scope(s.Scope).Describe(), s.For)
	p.PrintLine("  expires  %s", words.FormatTime(s.Expires))
	if !s.Until.IsZero() {
		p.PrintLine("  live     until %s at the latest", words.FormatTime(s.Until))
	}
	if s.Why != "" {
		p.PrintLine("  why      %s", s.Why)
	}
	if s.Hash != "" {
		where := "the control plane does not have it"
		switch {
		case s.Stored:
			where = "the control plane has it"
		case s.Withheld:
			where = "the cell's owner keeps it"
		}
		p.PrintLine("  record   %s of %d bytes; %s", s.Hash, s.Length, where)
	}
}

func withdrawVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "withdraw CELL ID", Args: cli.ArgumentCount(2, 2, "CELL ID"),
		Short:   "Take a request back",
		Example: `  sluice debug withdraw acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 --server https://sluice.example`}
	client.AddServerFlag(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := requireServer(a, cmd); err != nil {
			return err
		}
		var s debugging.RequestStatus
		err := client.CallServer(cmd.Context(), a, http.MethodDelete, requestPath(args[0], args[1]), nil, &s)
		if err == nil {
			err = checkSubject(s, args[0], args[1])
		}
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return a.PrintResult(s, func() { a.Stdout.PrintLine("withdrawn: request %s to cell %s", s.ID, s.Cell) })
	}
	return cmd
}

// verified is what sluice debug verify prints.
type verified struct {
	Cell   string `json:"cell"`
	Hash   string `json:"hash"`
	Length int64  `json:"length"`
	Ended  string `json:"ended"` // why the session ended
}

func verifyVerb(a *cli.App) *cobra.Command {
	var sealFile string
	cmd := &cobra.Command{Use: "verify CELL ID FILE", Args: cli.ArgumentCount(3, 3, "CELL ID FILE"),
		Short: "Compare a session's record with the seal that the cell signed",
		Long: `FILE is the record, as the control plane or the cell's owner has it. The seal is read from the control
plane or, with --seal, from the owner's seal.json; the cell's key is read from the release
repository. So neither the control plane nor whoever kept the file can have changed a byte.`,
		Example: `  sluice debug verify acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 record.cast --server https://sluice.example
  sluice debug verify acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 record.cast --seal seal.json`}
	cmd.Flags().StringVar(&sealFile, "seal", "", "`FILE` with the seal")
	client.AddServerFlag(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := verify(a, cmd, args[0], args[1], args[2], sealFile)
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return a.PrintResult(v, func() {
			a.Stdout.PrintLine("the record is as cell %s sealed it: %s of %d bytes", v.Cell, v.Hash, v.Length)
			a.Stdout.PrintLine("the session ended: %s", v.Ended)
		})
	}
	return cmd
}

func verify(a *cli.App, cmd *cobra.Command, cell, id, file, sealFile string) (verified, error) {
	signed, err := readSeal(a, cmd, cell, id, sealFile)
	if err != nil {
		return verified{}, err
	}
	seal, err := openSealOf(a, cmd, signed, cell, id)
	if err != nil {
		return verified{}, err
	}
	record, err := os.Open(file) //nolint:gosec // the caller names it
	if err != nil {
		return verified{}, err
	}
	defer func() { _ = record.Close() }()
	hash, length, err := debug.HashRecord(bufio.NewReader(record))
	if err != nil {
		return verified{}, err
	}
	if hash != seal.Hash || length != seal.Length {
		return verified{}, fmt.Errorf("%s is not the record that cell %s sealed: it has the hash %s and %d bytes, and "+
			"the seal says %s and %d", file, cell, hash, length, seal.Hash, seal.Length)
	}
	return verified{cell, hash, length, seal.Why}, nil
}

func readSeal(a *cli.App, cmd *cobra.Command, cell, id, file string) (signed debug.SignedSeal, err error) {
	if file != "" {
		text, err := cli.ReadSmallFile(file)
		if err == nil {
			err = json.Unmarshal(text, &signed)
		}
		return signed, err
	}
	if err := requireServer(a, cmd); err != nil {
		return signed, err
	}
	s, err := loadRequest(cmd.Context(), a, cell, id)
	if err != nil {
		return signed, err
	}
	if s.Seal == nil {
		return signed, cli.Fail(errors.New("the control plane has no seal of that session"),
			"ask the cell's owner for seal.json, and name it with --seal")
	}
	return *s.Seal, nil
}

// cellKeys returns the keys of a cell, as the release repository has them.
func cellKeys(a *cli.App, cmd *cobra.Command, cell string) (keys []ed25519.PublicKey, err error) {
	s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
	if err != nil {
		return nil, err
	}
	c := s.Desired.Cells[cell]
	if c == nil {
		return nil, cli.Fail(fmt.Errorf("there is no cell %s", cell), "sluice cell list names all")
	}
	for _, text := range []string{c.Identity.PublicKey, c.Identity.Previous} {
		if key, err := identity.ParseKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, cli.Fail(fmt.Errorf("cell %s has no key in the release repository", cell),
			"it gets one when its agent registers: sluice cell show %s", cell)
	}
	return keys, nil
}

// openSealOf returns the seal of a request's session, if the cell's key in the release repository signed it.
func openSealOf(a *cli.App, cmd *cobra.Command, signed debug.SignedSeal, cell, id string) (seal debug.Seal, err error) {
	keys, err := cellKeys(a, cmd, cell)
	if err != nil {
		return seal, err
	}
	for _, key := range keys {
		if seal, err = signed.Open(key); err == nil {
			break
		}
	}
	if err == nil && (seal.Cell != cell || seal.Request != id) {
		err = fmt.Errorf("the seal is that of request %s of cell %s", seal.Request, seal.Cell)
	}
	return seal, err
}
