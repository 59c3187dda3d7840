package debugcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/term"

	"github.com/sluice-cd/sluice/cells"
	debugclient "github.com/sluice-cd/sluice/cells/debug/client"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/internal/words"
)

// connectFlags are the flags of sluice debug connect.
type connectFlags struct {
	key        string
	stdio      bool
	knownHosts string
	save       string
	cellKey    string
}

// ConnectVerb is sluice debug connect.
func ConnectVerb(a *cli.App) *cobra.Command {
	var o connectFlags
	cmd := &cobra.Command{Use: "connect CELL [ID] [-- COMMAND [ARGUMENT]...]", Args: cobra.MinimumNArgs(1),
		Short: "Open the session that a cell's owner permitted",
		Long: `It waits for the owner's permission, and for the cell. Without an ID it is the newest request for
the cell that a key of yours signed. Without a command there is a shell, or a prompt for the declared
commands or for logs: help lists them. With the scope logs, logs NAME reads one: --follow, --since 10m,
--tail 200, and for pods --previous and --container NAME.

The session is SSH between you and the cell. The cell's host key is compared with the cell's key in
the release repository, so nothing in between can read or change it, but who has the engine's key: it
writes that key there. With --cell-key the key has to be the one that the cell's owner sees. With
--stdio it is the ProxyCommand of your own SSH client; docs/debug.md has the lines for ~/.ssh/config.

The cell records what you see and what you type, also passwords that are not shown.`,
		Example: `  sluice debug connect acme --server https://sluice.example
  sluice debug connect acme 1f2e3d4c5b6a79881f2e3d4c5b6a7988 --server https://sluice.example -- help
  sluice debug connect acme --server https://sluice.example -- logs web --follow`}
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "`FILE` with the private SSH key that signed the request (default: your key in the SSH "+
		"agent, or git's user.signingKey)")
	f.BoolVar(&o.stdio, "stdio", false, "connect standard input and output: for ProxyCommand of ssh")
	f.StringVar(&o.knownHosts, "known-hosts", "", "`FILE` of this verb's own to write the session's host key to, once the "+
		"cell has vouched for it; ssh reads it by UserKnownHostsFile, with HostKeyAlias CELL")
	f.StringVar(&o.save, "save", "", "new `FILE` for the session's record, once the session has ended and the record is "+
		"compared with the cell's seal")
	f.StringVar(&o.cellKey, "cell-key", "", "`SHA256:FINGERPRINT` of the cell's key, as sluice cell debug approve printed it to "+
		"the owner: then not even who has the engine's key can pose as the cell")
	client.AddServerFlag(a, cmd)
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if _, err := os.Lstat(o.save); o.save != "" && (o.stdio || err == nil) {
			return cli.UsageError(cmd, "--save needs a new file, and a session that this verb runs itself, without --stdio")
		}
		if o.stdio && (o.knownHosts == "" || commandIn(cmd, args) != "") {
			return cli.UsageError(cmd, "--stdio needs --known-hosts FILE, and takes no command: ssh has it")
		}
		if n := len(positional(cmd, args)); n == 0 || n > 2 {
			return cli.UsageError(cmd, "name CELL and perhaps ID; a command comes after --")
		}
		return requireServer(a, cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		code, err := connect(a, cmd, args, o)
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		if code != 0 {
			err := fmt.Errorf("%sthe command ended with exit code %d", cli.CommandPrefix(cmd), code)
			return cli.WithExitCode(err, code)
		}
		return nil
	}
	return cmd
}

// positional returns the arguments before --.
func positional(cmd *cobra.Command, args []string) []string {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return args[:at]
	}
	return args
}

// commandIn returns the command after --.
func commandIn(cmd *cobra.Command, args []string) string {
	return strings.Join(args[len(positional(cmd, args)):], " ")
}

// connect opens the session, and returns the exit code of what ran.
func connect(a *cli.App, cmd *cobra.Command, args []string, o connectFlags) (int, error) {
	ctx := cmd.Context()
	find, err := keyFinder(a, cmd, o.key)
	if err != nil {
		return 0, err
	}
	s, err := findRequest(ctx, a, positional(cmd, args), find)
	if err != nil {
		return 0, err
	}
	if err := checkOpen(s); err != nil {
		return 0, err
	}
	keys, err := cellKeys(a, cmd, s.Cell)
	if err == nil {
		keys, err = withFingerprint(keys, s.Cell, o.cellKey)
	}
	if err != nil {
		return 0, err
	}
	base, transport, header, err := client.UpgradeTransport(a)
	if err != nil {
		return 0, err
	}
	waiting, end := context.WithCancelCause(ctx)
	defer end(nil)
	to := debugclient.Options{Transport: transport, Server: base, Header: header, Cell: s.Cell, Request: s.ID,
		Keys:   keys,
		OnWait: waitFor(waiting, a, s, end)}
	if o.stdio {
		return 0, because(waiting, connectStdio(ctx, waiting, a, to, o.knownHosts))
	}
	signer, err := find(s)
	switch {
	case err != nil:
		return 0, err
	case signer == nil:
		return 0, cli.Fail(fmt.Errorf("the key that signed the request (%s) is not here", s.Key), loadKey)
	}
	c, err := debugclient.Connect(waiting, to, rsaAsSHA2(signer.Key))
	if err != nil {
		return 0, because(waiting, err)
	}
	defer func() { _ = c.Close() }()
	code, err := runSession(ctx, a, c, commandIn(cmd, args))
	if o.save != "" {
		_ = c.Close() // else the session lasts
		err = errors.Join(err, saveRecord(ctx, a, cmd, s, o.save))
	}
	return code, err
}

// checkOpen says why no session of a request can begin any more; nil: one can.
func checkOpen(s debugging.RequestStatus) error {
	if slices.Contains([]string{debugging.Sent, cells.DebugOpen, cells.DebugPermitted, cells.DebugLive}, s.State) {
		return nil
	}
	why := ""
	if s.Why != "" {
		why = ": " + s.Why
	}
	return cli.Fail(fmt.Errorf("request %s is %s%s", s.ID, s.State, why),
		"sluice debug request %s asks for another session", s.Cell)
}

// waitFor returns what tells the person, once, that the cell is waited for, and ends the wait when the request is over.
func waitFor(ctx context.Context, a *cli.App, s debugging.RequestStatus, end context.CancelCauseFunc) func(error) {
	said := ""
	return func(why error) {
		if now, err := loadRequest(ctx, a, s.Cell, s.ID); err == nil { // else the next dial says what is wrong
			if over := checkOpen(now); over != nil {
				end(over)
				return
			}
		}
		if text := why.Error(); text != said {
			said = text
			a.Stderr.PrintLine("waiting for cell %s until %s: %s", s.Cell, words.FormatTime(s.Expires), text)
		}
	}
}

// because returns why a wait ended, instead of the last error of it.
func because(wait context.Context, err error) error {
	if cause := context.Cause(wait); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// connectStdio connects standard input and output with the cell.
func connectStdio(ctx, waiting context.Context, a *cli.App, to debugclient.Options, knownHosts string) error {
	conn, key, err := debugclient.Dial(waiting, to)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := writeKnownHosts(knownHosts, knownhosts.Line([]string{to.Cell}, key)); err != nil {
		return fmt.Errorf("write the session's host key: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(conn, a.Stdin) // ssh ended, or the connection did
		_ = conn.Close()
	}()
	_, _ = io.Copy(a.Stdout.Writer, conn) // ssh knows whether the session was whole
	return nil
}

// runSession runs a command, or a shell, and returns its exit code.
func runSession(ctx context.Context, a *cli.App, c *ssh.Client, command string) (int, error) {
	s, err := c.NewSession()
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	in, err := s.StdinPipe()
	if err != nil {
		return 0, err
	}
	s.Stdout, s.Stderr = a.Stdout.Writer, a.Stderr.Writer
	if file, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) && command == "" {
		restore, err := useTerminal(ctx, a, s, file)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	if command == "" {
		err = s.Shell()
	} else {
		err = s.Start(command)
	}
	if err != nil {
		return 0, err
	}
	go func() {
		_, _ = io.Copy(in, a.Stdin) // until the person is done
		_ = in.Close()
	}()
	err = s.Wait()
	var exit *ssh.ExitError
	var lost *ssh.ExitMissingError
	switch {
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	case errors.As(err, &lost):
		return 0, cli.Fail(errors.New("the session was cut"), "sluice debug show says why, once the cell has said so")
	}
	return 0, err
}

// useTerminal gives the session this terminal, whose keys go to the cell unchanged until restore is called.
func useTerminal(ctx context.Context, a *cli.App, s *ssh.Session, in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	width, height, err := term.GetSize(fd)
	if err != nil {
		width, height = 80, 24
	}
	name := a.Getenv("TERM")
	if err := s.RequestPty(name, height, width, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("ask for a terminal: %w", err)
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		defer signal.Stop(resized)
		for {
			select {
			case <-ctx.Done():
				return
			case <-resized:
			}
			if width, height, err := term.GetSize(fd); err == nil {
				_ = s.WindowChange(height, width) // an error means that the session ended
			}
		}
	}()
	return func() {
		cancel()
		_ = term.Restore(fd, before)
	}, nil
}
