package signin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"golang.org/x/net/html"
)

// patience is how long anything may take on a busy machine.
const patience = 2 * time.Minute

// program returns the path of sluice, built for the tests; $SLUICE names another.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("SLUICE"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "sluice-signin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-o", path, "./cmd/sluice")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return path, nil
})

// site is a control plane where people sign in.
type site struct {
	address string // https://127.0.0.1:PORT
	env     []string
	dir     string
	browser *http.Client
}

// access gives roles by a group, and by the address of a user of each provider.
const access = `access:
  groups: {managers: [operator, approver]}
  emails: {test-user2@zitadel.ch: [operator], ada@example.com: [admin]}
`

// freeAddress returns an address of loopback where nothing listens, for the provider has to know it beforehand.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startSite makes a release repository and serves it.
func startSite(t *testing.T, address string, provider ...string) *site {
	t.Helper()
	s := &site{address: "https://" + address, dir: t.TempDir()}
	s.env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+filepath.Join(s.dir, "config"),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@example.com", "SLUICE_TOKEN=", "SLUICE_SERVER=", "SLUICE_REPO=")
	s.run(t, "sluice", "init", "--bare", "releases.git")
	s.run(t, "git", "clone", "-q", "releases.git", "work")
	file := filepath.Join(s.dir, "work", "sluice.yaml")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, access...), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "secret"), []byte("secret-of-the-client\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, "git", "-C", "work", "commit", "-qam", "say who has access")
	s.run(t, "git", "-C", "work", "push", "-q")
	pins := s.serve(t, append([]string{"serve", "--repo", "releases.git", "--data", "data", "--listen", s.address,
		"--oidc-client-secret-file", "secret", "--poll", "1s", "--log", "warn"}, provider...)...)
	s.env = append(s.env, "SLUICE_SERVER_PIN="+strings.Join(pins, " "))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the certificate that serve made
	return s
}

func (s *site) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if args[0] == "sluice" {
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		args[0] = path
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// run runs a command that must succeed, and returns what it prints.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(t.Context(), t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// serve starts sluice serve until the test ends, and returns the pins of its keys.
func (s *site) serve(t *testing.T, args ...string) (pins []string) {
	t.Helper()
	cmd := s.command(context.Background(), t, append([]string{"sluice"}, args...)...)
	log := &bytes.Buffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("serve: %s", log)
		}
	})
	for lines := bufio.NewScanner(out); len(pins) < 2 && lines.Scan(); {
		if _, pin, ok := strings.Cut(lines.Text(), " key "); ok {
			pins = append(pins, pin)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return pins
}

// get asks the control plane as the browser does.
func (s *site) get(t *testing.T, path string) (int, string) {
	t.Helper()
	w, err := s.browser.Get(s.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(body)
}

// visit opens an address, fills in the forms that come, and returns the last page.
func (s *site) visit(t *testing.T, at string, fields map[string]string) (final *url.URL, page string) {
	t.Helper()
	w, err := s.browser.Get(at)
	for range 10 {
		if err != nil {
			t.Fatal(err)
		}
		body, readErr := io.ReadAll(w.Body)
		_ = w.Body.Close()
		if readErr != nil || w.StatusCode >= 400 {
			t.Fatalf("%s: %s %s", w.Request.URL, w.Status, body)
		}
		action, form := firstForm(t, body, fields)
		switch {
		case form == nil:
			return w.Request.URL, string(body)
		default:
			to, parseErr := w.Request.URL.Parse(action)
			if parseErr != nil {
				t.Fatal(parseErr)
			}
			w, err = s.browser.PostForm(to.String(), form)
		}
	}
	t.Fatalf("%s: too many pages", at)
	return nil, ""
}

// firstForm returns where the first form of a page goes, with its fields filled in; nil: there is none.
func firstForm(t *testing.T, page []byte, fields map[string]string) (action string, form url.Values) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	attribute := func(n *html.Node, name string) string {
		for _, a := range n.Attr {
			if a.Key == name {
				return a.Val
			}
		}
		return ""
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" && n.Data != "input" {
			continue
		}
		if n.Data == "form" {
			if form != nil {
				break
			}
			action, form = attribute(n, "action"), url.Values{}
			continue
		}
		if name := attribute(n, "name"); form != nil && name != "" {
			value := attribute(n, "value")
			if given, ok := fields[name]; ok {
				value = given
			}
			form.Set(name, value)
		}
	}
	return action, form
}

// signInWithBrowser signs somebody in, and checks who that is then.
func (s *site) signInWithBrowser(t *testing.T, fields map[string]string, want ...string) {
	t.Helper()
	if status, said := s.get(t, "/v1/me"); status != http.StatusUnauthorized {
		t.Fatalf("before: %d %s", status, said)
	}
	deadline := time.Now().Add(patience)
	for { // serve may still be reading the repository
		status, _ := s.get(t, "/readyz")
		if status == http.StatusOK || time.Now().After(deadline) {
			break
		}
	}
	at, page := s.visit(t, s.address+"/auth/login?return=/v1/status", fields)
	if at.Path != "/auth/callback" || !strings.Contains(page, `url=/v1/status`) {
		t.Fatalf("ended at %s: %s", at, page)
	}
	status, said := s.get(t, "/v1/me")
	for _, part := range want {
		if status != http.StatusOK || !strings.Contains(said, part) {
			t.Errorf("%d %s lacks %s", status, said, part)
		}
	}
	again, err := s.browser.Get(at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Body.Close()
	if again.StatusCode != http.StatusBadRequest {
		t.Errorf("the same answer again: %s", again.Status)
	}
}

// signInByDevice runs sluice login, signs out again, and checks what works in between.
func (s *site) signInByDevice(t *testing.T, fields map[string]string, want string) {
	t.Helper()
	login := s.command(t.Context(), t, "sluice", "login", "--server", s.address)
	login.Env = append(login.Env, "SLUICE_TOKEN=of-a-pipeline") // which is not the session that begins and ends here
	said, err := login.StderrPipe()
	stdout := &bytes.Buffer{}
	login.Stdout = stdout
	if err == nil {
		err = login.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var at, text string
	for lines := bufio.NewScanner(said); at == "" && lines.Scan(); {
		text += lines.Text() + "\n"
		if m := regexp.MustCompile(`^or open (\S+),`).FindStringSubmatch(lines.Text()); m != nil {
			at = m[1]
		}
	}
	if at == "" {
		t.Fatalf("sluice login says %s", text)
	}
	s.visit(t, at, fields)
	if err := login.Wait(); err != nil || !strings.Contains(stdout.String(), want) {
		t.Fatalf("sluice login: %v\n%s", err, stdout)
	}
	if info, err := os.Stat(filepath.Join(s.dir, "config", "sluice", "sessions")); err != nil ||
		info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of sessions: %v %v", info, err)
	}
	s.run(t, "sluice", "status", "--server", s.address)
	files, err := filepath.Glob(filepath.Join(s.dir, "config", "sluice", "sessions", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("sessions are kept in %v: %v", files, err)
	}
	kept, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	logout := s.command(t.Context(), t, "sluice", "logout", "--server", s.address)
	logout.Env = login.Env
	if out, err := logout.CombinedOutput(); err != nil {
		t.Fatalf("sluice logout: %v %s", err, out)
	}
	if err := os.WriteFile(files[0], kept, 0o600); err != nil { // a copy of it is of no use either
		t.Fatal(err)
	}
	out, err := s.command(t.Context(), t, "sluice", "status", "--server", s.address).CombinedOutput()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || !strings.Contains(string(out), "sluice login") {
		t.Errorf("after sluice logout: %v %s", err, out)
	}
}

func TestZitadelsProvider(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	issuer := "http://localhost:" + port + "/"
	storage.RegisterClients(storage.WebClient("web", "secret-of-the-client", "https://"+address+"/auth/callback"))
	provider := httptest.NewUnstartedServer(exampleop.SetupServer(issuer,
		storage.NewStorage(storage.NewUserStore(issuer)),
		slog.New(slog.DiscardHandler), false))
	provider.Listener.Close()
	provider.Listener = listener
	provider.Start()
	t.Cleanup(provider.Close)
	user := map[string]string{"username": "test-user2", "password": "verysecure"}

	s := startSite(t, address, "--oidc-issuer", issuer, "--oidc-client-id", "web")
	s.signInWithBrowser(t, user, `"name":"test-user2@zitadel.ch"`, `"roles":["operator"]`)
	s.signInWithChromium(t, user, `"roles":["operator"]`)

	provider.CloseClientConnections()
	provider.Close()
	if status, said := s.get(t, "/v1/status"); status != http.StatusOK {
		t.Errorf("while the provider is down: %d %s", status, said)
	}
}

// install installs a program if it is missing: on Debian, as root.
func install(t *testing.T, program string, packages ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	for _, args := range [][]string{{"update", "-q"},
		append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)} {
		run := exec.CommandContext(t.Context(), "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"},
			args...)...)
		run.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("this test needs %s, and it can't be installed here: %v\n%s", program, err, out)
		}
	}
}

func TestOIDCProviderForNode(t *testing.T) {
	t.Parallel()
	js := t.TempDir()
	if err := os.CopyFS(js, os.DirFS("js")); err != nil {
		t.Fatal(err)
	}
	install(t, "npm", "nodejs", "npm")
	packages := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	packages.Dir = js
	if out, err := packages.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	address := freeAddress(t)
	node := exec.CommandContext(t.Context(), "node", "provider.mjs", "https://"+address+"/auth/callback")
	node.Dir, node.Stderr = js, os.Stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err == nil {
		err = node.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = node.Wait()
	})
	issuer, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	issuer = strings.TrimSpace(issuer)
	s := startSite(t, address, "--oidc-issuer", issuer, "--oidc-client-id", "sluice", "--oidc-prompt", "consent")
	user := map[string]string{"login": "ada", "password": "x"}
	s.signInWithBrowser(t, user, `"name":"ada@example.com"`, `"roles":["operator","approver","admin"]`, issuer)
	s.signInByDevice(t, user, "signed in as ada@example.com with operator,approver,admin")

	// An administrator ends the browser's session.
	_, said := s.get(t, "/v1/sessions")
	var all struct {
		Sessions []struct{ ID, Kind string }
	}
	if err := json.Unmarshal([]byte(said), &all); err != nil || len(all.Sessions) != 1 ||
		all.Sessions[0].Kind != "browser" {
		t.Fatalf("%v: %s", err, said)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete,
		s.address+"/v1/sessions/"+all.Sessions[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if status, said := s.get(t, "/v1/me"); w.StatusCode != http.StatusNoContent || status != http.StatusUnauthorized {
		t.Errorf("%s, afterwards %d %s", w.Status, status, said)
	}
}
