package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/test/swarm"
)

// Hosts of the SSH client's configuration: a debug session, and an OpenSSH server. The first is the name of the cell.
const (
	sessionHost = "acme"
	directHost  = "direct"
)

// startLimit bounds the start of a program.
const startLimit = 2 * time.Minute

// support is a control plane with one cell of the built binary, cells of which there are the keys only, a person who
// may ask for debug access to all of them, and an OpenSSH server.
type support struct {
	dir, binary string
	key         ssh.Signer     // the person's
	members     []swarm.Member // the cells of which there are the keys only
	cells       string         // HOST:PORT for cells
	server      *exec.Cmd
	running     []*exec.Cmd     // the server, too
	people      *http.Transport // to the control plane, as a person with all rights
}

func newSupport(dir string) *support {
	p := &support{dir: filepath.Join(dir, "debug"), members: swarm.Members("bench", relayedCells, 1)}
	p.people = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.path("s"))
	}}
	return p
}

// startCell starts the control plane, and the agent of the cell.
func (p *support) startCell(ctx context.Context) (err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	if p.binary, err = buildBinary(ctx, p.dir); err != nil {
		return err
	}
	if p.key, err = p.makeKey("ada"); err != nil {
		return err
	}
	files := swarm.ReleaseFiles("1.0.0", 1)
	files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\npeople:\n  ada: {email: ada@example.com, keys: [\"" +
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.key.PublicKey()))) + "\"]}\n"
	files["channels/staging/channel.yaml"] = "apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"
	if _, err := swarm.CreateRepository(ctx, p.path("releases.git"), files, p.members,
		func(int) string { return "staging" }); err != nil {
		return err
	}
	if err := p.startServer(ctx); err != nil {
		return err
	}
	if err := p.run(ctx, "cell", "add", sessionHost, "--channel", "staging", "--token-file", "token"); err != nil {
		return err
	}
	return p.start(p.command(ctx, p.binary, "agent", "--join", "@token", "--dir", p.path(sessionHost),
		"--healthy-for", "0s", "--log", "error"))
}

func (p *support) path(name string) string { return filepath.Join(p.dir, name) }

// makeKey writes a private key, and returns its signer.
func (p *support) makeKey(name string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	if err := p.writeFile(name, pem.EncodeToMemory(block)); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

func (p *support) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = p.dir
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=ada",
		"GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"SSH_AUTH_SOCK=", "SLUICE_REPO="+p.path("releases.git"), "SLUICE_SERVER=unix://"+p.path("s"))
	return c
}

// run runs a verb of sluice to its end.
func (p *support) run(ctx context.Context, args ...string) error {
	out, err := p.command(ctx, p.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sluice %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// start starts a program that runs until stop.
func (p *support) start(c *exec.Cmd) error {
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	p.running = append(p.running, c)
	return nil
}

// stop ends all programs, the last that was started first.
func (p *support) stop() {
	for _, c := range slices.Backward(p.running) {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	}
	p.running = nil
}

func (p *support) startServer(ctx context.Context) error {
	p.server = p.command(ctx, p.binary, "serve", "--data", p.path("data"), "--listen", "unix://"+p.path("s"), "--cells",
		"127.0.0.1:0", "--poll", "200ms", "--log", "error")
	out, err := p.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.start(p.server); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for p.cells == "" && lines.Scan() {
		if at, found := strings.CutPrefix(lines.Text(), "listening for cells on "); found {
			p.cells, _, _ = strings.Cut(at, ",")
		}
	}
	if p.cells == "" {
		return errors.New("serve did not say where it listens for cells")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until serve ends
	return p.await(ctx, func() error { return p.ask(ctx, http.MethodGet, "/readyz", nil) })
}

// await tries until it succeeds.
func (p *support) await(ctx context.Context, try func() error) error {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil || ctx.Err() != nil || time.Since(begun) > startLimit {
			return err
		}
	}
}

// ask asks the control plane as a person with all rights.
func (p *support) ask(ctx context.Context, method, path string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	w, err := (&http.Client{Transport: p.people}).Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(w.Body, 1<<20))
	if err == nil && w.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %.300s", path, w.Status, text)
	}
	return err
}

// request asks a cell's owner for a session with a shell, and returns the request's ID.
func (p *support) request(ctx context.Context, cell string) (string, error) {
	nonce, now := make([]byte, 16), time.Now()
	_, _ = rand.Read(nonce) // it never fails
	signed, err := debug.Sign(debug.Request{Cell: cell, Case: "4711", Reason: "How fast it is", Person: "ada",
		Scope: debug.Shell, For: time.Hour, Nonce: hex.EncodeToString(nonce), Made: now,
		Expires: now.Add(time.Hour)}, p.key)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(signed)
	if err != nil {
		return "", err
	}
	return signed.ID(), p.ask(ctx, http.MethodPost, "/v1/cells/"+cell+"/debug", body)
}

// openSession opens a debug session, and a connection to an OpenSSH server. Both stay open, and ssh uses them.
func (p *support) openSession(ctx context.Context) error {
	id, err := p.request(ctx, sessionHost)
	if err != nil {
		return err
	}
	if err := p.await(ctx, func() error { // the cell hears of the request
		return p.run(ctx, "cell", "debug", "approve", id, "--dir", p.path(sessionHost))
	}); err != nil {
		return err
	}
	if err := p.await(ctx, func() error { // the person's command reads the cell's key there
		return p.command(ctx, "git", "--git-dir", p.path("releases.git"), "cat-file", "-e",
			"main:cells/"+sessionHost+"/identity.yaml").Run()
	}); err != nil {
		return fmt.Errorf("%s is not registered in the release repository: %w", sessionHost, err)
	}
	port, err := p.startOpenSSH(ctx)
	if err != nil {
		return err
	}
	who, err := user.Current()
	if err != nil {
		return err
	}
	// OpenSSH 9.5 sends keystrokes at fixed intervals, unless told otherwise; older ones know of no such option.
	config := fmt.Sprintf(`Host *
    IgnoreUnknown ObscureKeystrokeTiming
    ObscureKeystrokeTiming no
    BatchMode yes
    EscapeChar none
    IdentityFile %[1]s/ada
    IdentitiesOnly yes
    StrictHostKeyChecking yes
    UserKnownHostsFile %[1]s/known-%%n
    ControlPath %[1]s/%%n.mux
Host %[2]s
    HostKeyAlias %[2]s
    HostName 127.0.0.1
    Port %[3]d
    User %[4]s
Host %[5]s
    HostKeyAlias %[5]s
    ProxyCommand %[6]s debug connect %[5]s %[7]s --stdio --key %[1]s/ada --known-hosts %[1]s/known-%[5]s
`, p.dir, directHost, port, who.Username, sessionHost, p.binary, id)
	if err := p.writeFile("config", []byte(config)); err != nil {
		return err
	}
	for _, host := range []string{sessionHost, directHost} {
		log := p.path(host + ".log") // not what OpenSSH says when there is no terminal here
		if err := p.start(p.ssh(ctx, "-E", log, "-MN", host)); err != nil {
			return err
		}
		if err := p.await(ctx, func() error { return p.ssh(ctx, "-O", "check", host).Run() }); err != nil {
			said, _ := os.ReadFile(log)
			return fmt.Errorf("connect to %s: %w: %s", host, err, said)
		}
	}
	return nil
}

// ssh returns a run of OpenSSH's client, which uses the host's connection if one is open.
func (p *support) ssh(ctx context.Context, args ...string) *exec.Cmd {
	return p.command(ctx, "ssh", append([]string{"-F", p.path("config")}, args...)...)
}

// startOpenSSH starts an OpenSSH server on loopback that lets the person in, and returns its port.
func (p *support) startOpenSSH(ctx context.Context) (port int, err error) {
	program, err := exec.LookPath("sshd") // it wants to be started by its whole path
	if err != nil {
		return 0, err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // as Debian's service has it
			return 0, err
		}
	}
	host, err := p.makeKey("host")
	if err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, err
	}
	for name, text := range map[string]string{
		"authorized":          string(ssh.MarshalAuthorizedKey(p.key.PublicKey())),
		"known-" + directHost: knownhosts.Line([]string{directHost}, host.PublicKey()) + "\n",
		"sshd_config": fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel FATAL
`, port, p.dir),
	} {
		if err := p.writeFile(name, []byte(text)); err != nil {
			return 0, err
		}
	}
	if err := p.start(p.command(ctx, program, "-D", "-e", "-f", p.path("sshd_config"))); err != nil {
		return 0, err
	}
	return port, p.await(ctx, func() error {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
