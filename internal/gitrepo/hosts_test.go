package gitrepo

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sluice-cd/sluice/releases"
)

func newKey(t testing.TB) (ed25519.PrivateKey, ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func pemBytes(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

// startHTTPHost serves a folder of repositories as git http-backend does, over TLS, to one user. broken, if set, is the
// status with which it responds to every push after having carried it out.
func startHTTPHost(t *testing.T, root string, broken *atomic.Int32) (url, ca string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: root, InheritEnv: []string{"PATH"},
		Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=engine",
			"GIT_CONFIG_NOSYSTEM=1", "HOME=" + t.TempDir()}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, password, _ := q.BasicAuth(); user != "engine" || password != "secret" {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if status := broken.Load(); status != 0 && strings.HasSuffix(q.URL.Path, "/git-receive-pack") {
			backend.ServeHTTP(httptest.NewRecorder(), q)
			http.Error(w, "bad gateway", int(status))
			return
		}
		backend.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemBytes(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, ca
}

func TestOverHTTPS(t *testing.T) {
	bare, work := newSharedRepository(t)
	gitIn(t, bare, "config", "http.receivepack", "true")
	broken := new(atomic.Int32)
	url, ca := startHTTPHost(t, filepath.Dir(bare), broken)
	web := Web{Username: "engine", Password: "secret", CAFile: ca}
	r := openRepo(t, url+"/shared.git", func(o *Options) { o.Web = web })
	roundTrip(t, r, bare, work)

	t.Run("no password", func(t *testing.T) {
		r := openRepo(t, url+"/shared.git", func(o *Options) { o.Web = Web{CAFile: ca} })
		if _, err := r.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown certificate", func(t *testing.T) {
		r := openRepo(t, url+"/shared.git", func(o *Options) { o.Web = Web{Username: "engine", Password: "secret"} })
		if _, err := r.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no repository", func(t *testing.T) {
		r := openRepo(t, url+"/none.git", func(o *Options) { o.Web = web })
		if _, err := r.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("password without TLS", func(t *testing.T) {
		_, err := Open(t.Context(), "http://u:secret@git.example/r.git", Options{Mirror: t.TempDir() + "/m"})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("read only", func(t *testing.T) {
		gitIn(t, bare, "config", "http.receivepack", "false")
		defer gitIn(t, bare, "config", "http.receivepack", "true")
		var refused *releases.RefusedError
		if _, err := r.Push(t.Context(), mustFetch(t, r), headDraft("x")); !errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
	})
	// Fault 5: the push was carried out, but the response was lost: neither landed nor refused, and the next fetch
	// tells.
	t.Run("answer lost", func(t *testing.T) {
		base := mustFetch(t, r)
		broken.Store(http.StatusBadGateway)
		_, err := r.Push(t.Context(), base, headDraft("lost"))
		broken.Store(0)
		var refused *releases.RefusedError
		if err == nil || errors.Is(err, releases.ErrMoved) || errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
		list := mustChanges(t, r, base, mustFetch(t, r))
		if len(list) != 1 || list[0].Message != "promote lost\n" {
			t.Errorf("the branch has %+v", list)
		}
	})
}

// roundTrip clones, pushes, loses a race, and fetches again, from any kind of host.
func roundTrip(t *testing.T, r *Repo, bare, work string) {
	t.Helper()
	base := mustFetch(t, r)
	compareWithGit(t, r, bare, base)
	d := headDraft("over the wire")
	d[0].Tags = map[string]string{"sluice/x/1": base}
	tip := mustPush(t, r, base, d...)[0]
	if got := gitIn(t, bare, "rev-parse", "main"); got != tip {
		t.Fatalf("the branch is at %s, want %s", got, tip)
	}
	gitIn(t, work, "pull", "-q", "origin", "main")
	writeFiles(t, work, map[string]string{"releases/3.0.0/release.yaml": "3"})
	person := commitAll(t, work, "overtakes")
	gitIn(t, work, "push", "-q", "origin", "main")
	if _, err := r.Push(t.Context(), tip, headDraft("late")); !errors.Is(err, releases.ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if got := mustFetch(t, r); got != person {
		t.Fatalf("fetched %s, want %s", got, person)
	}
	if got := mustFetch(t, r); got != person {
		t.Fatalf("fetched %s, want %s", got, person)
	}
	compareWithGit(t, r, bare, person)
	writeHook(t, bare, "pre-receive", "cat >/dev/null; echo 'closed today' >&2; exit 1")
	var refused *releases.RefusedError
	if _, err := r.Push(t.Context(), person, headDraft("x")); !errors.As(err, &refused) ||
		!strings.Contains(refused.Reason, "closed today") {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(filepath.Join(bare, "hooks/pre-receive")); err != nil {
		t.Fatal(err)
	}
	mustFsck(t, bare)
	mustFsck(t, r.mirror.dir)
}

// startSSHHost starts an SSH server that accepts one key, and runs only the two commands that git asks for.
func startSSHHost(t *testing.T, client ssh.PublicKey) (address string, hostKey ssh.PublicKey) {
	t.Helper()
	private, public := newKey(t)
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions,
		error) {
		if string(key.Marshal()) != string(client.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(c, config)
		}
	}()
	return l.Addr().String(), public
}

func serveSSH(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		for q := range requests {
			if q.Type != "exec" || len(q.Payload) < 4 {
				_ = q.Reply(false, nil)
				continue
			}
			line := string(q.Payload[4:])
			_ = q.Reply(true, nil)
			cmd := exec.Command("sh", "-c", "git "+strings.TrimPrefix(line, "git-"))
			in, _ := cmd.StdinPipe()
			cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
			status := make([]byte, 4)
			if err := cmd.Start(); err == nil {
				go func() { _, _ = io.Copy(in, ch); _ = in.Close() }()
				_ = cmd.Wait()
			}
			binary.BigEndian.PutUint32(status, uint32(cmd.ProcessState.ExitCode()))
			_, _ = ch.SendRequest("exit-status", false, status)
			_ = ch.Close()
		}
	}
}

func TestOverSSH(t *testing.T) {
	bare, work := newSharedRepository(t)
	key, line := testKey(t, "engine")
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	address, hostKey := startSSHHost(t, public)
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(knownhosts.Line([]string{knownhosts.Normalize(address)}, hostKey)+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("ssh://git@%s%s", address, bare)
	noAgent := filepath.Join(t.TempDir(), "none")

	t.Run("key file", func(t *testing.T) {
		roundTrip(t, openRepo(t, url, func(o *Options) { o.SSH = SSH{Key: key, Agent: noAgent, KnownHosts: known} }),
			bare, work)
	})
	t.Run("agent", func(t *testing.T) {
		pem, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := ssh.ParseRawPrivateKey(pem)
		if err != nil {
			t.Fatal(err)
		}
		ring := agent.NewKeyring()
		if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
			}
		}()
		mustFetch(t, openRepo(t, url, func(o *Options) { o.SSH = SSH{Agent: l.Addr().String(), KnownHosts: known} }))
	})
	for name, c := range map[string]struct {
		ssh  SSH
		url  string
		want string
	}{
		"unknown host":   {SSH{Key: key, Agent: noAgent, KnownHosts: os.DevNull}, url, "ssh-keyscan"},
		"no known_hosts": {SSH{Key: key, Agent: noAgent, KnownHosts: known + ".none"}, url, "ssh-keyscan"},
		"another key":    {SSH{Agent: noAgent, KnownHosts: known}, url, "unable to authenticate"},
		"no repository": {SSH{Key: key, Agent: noAgent, KnownHosts: known}, url + "x",
			"does not appear to be a git repository"},
		"quoted for sh": {SSH{Key: key, Agent: noAgent, KnownHosts: known}, url + "';touch '" + noAgent,
			"does not appear to be a git repository"},
		"changed hostkey": {SSH{Key: key, Agent: noAgent, KnownHosts: otherHostKey(t, address)}, url,
			"another host key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openRepo(t, c.url, func(o *Options) { o.SSH = c.ssh }).Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := os.Stat(noAgent); err == nil {
		t.Error("the path was run by the shell")
	}
}

func otherHostKey(t *testing.T, address string) string {
	t.Helper()
	_, other := newKey(t)
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(knownhosts.Line([]string{knownhosts.Normalize(address)}, other)+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
