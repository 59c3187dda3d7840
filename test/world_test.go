package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// world is a release repository with a control plane and cells, each a process of the built binary.
type world struct {
	t      testing.TB
	dir    string
	repo   string // bare
	clone  string // a person's
	server *process
	agents map[string]*process // by cell
}

// The policies of a world: dedicated takes releases that soaked in staging for a second.
const (
	stagingPolicy   = "apiVersion: sluice/v1\nkind: Channel\nsettleWithin: 1h\n"
	dedicatedPolicy = "apiVersion: sluice/v1\nkind: Channel\nafter: [staging]\nsettleWithin: 1h\ngates:\n" +
		"- soak: {for: 1s, cells: 1}\n"
)

// newWorld makes the repository: staging with the cell eu-1, dedicated with acme, as altered by change. It starts
// nothing.
func newWorld(t testing.TB, change func(files map[string]string)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-") // short, since the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, repo: filepath.Join(dir, "repo.git"), clone: filepath.Join(dir, "clone"),
		agents: map[string]*process{}}
	files := map[string]string{
		".gitattributes":                  "releases/** -text -filter -ident\n",
		"sluice.yaml":                     "apiVersion: sluice/v1\nkind: Pipeline\n",
		"channels/staging/channel.yaml":   stagingPolicy,
		"channels/dedicated/channel.yaml": dedicatedPolicy,
		"cells/eu-1/cell.yaml":            "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n",
		"cells/acme/cell.yaml":            "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n",
	}
	if change != nil {
		change(files)
	}
	content := map[string][]byte{}
	for name, text := range files {
		content[name] = []byte(text)
	}
	_, err = gitrepo.Init(t.Context(), w.repo, gitrepo.InitOptions{
		Bare: true, Files: content, Message: "begin", Author: releases.Person{Name: "ada", Email: "ada@example.com"},
		When: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	git(t, dir, "clone", "-q", w.repo, w.clone)
	// pushes are noticed without polls
	w.server = w.process("serve", "serve", "--repo", w.repo, "--data", w.path("data"), "--listen", w.socket(),
		"--poll", "1h")
	return w
}

// startWorld makes a world with an agent for each of the two cells, and starts all.
func startWorld(t testing.TB, change func(files map[string]string)) *world {
	t.Helper()
	w := newWorld(t, change)
	w.addAgent("eu-1")
	w.addAgent("acme")
	w.startAll()
	return w
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

func (w *world) socket() string { return "unix://" + w.path("s") }

// healthCommand fails if the manifests contain the word broken.
const healthCommand = `! grep -q broken "$SLUICE_DIR/manifests.yaml" || { echo it is broken; exit 1; }`

// addAgent adds a cell's agent with more arguments; it starts nothing.
func (w *world) addAgent(name string, more ...string) *process {
	w.agents[name] = w.process(name, append([]string{
		"agent", "--cell", name, "--server", w.socket(), "--dir", w.path("cells", name), "--health", healthCommand,
		"--health-timeout", "300ms",
		"--healthy-for", "0s", "--health-every", "200ms", "--report-every", "200ms", "--heal-every", "300ms",
	}, more...)...)
	return w.agents[name]
}

// installedManifests returns the manifests that a cell runs; empty: none.
func (w *world) installedManifests(cell string) string {
	text, err := os.ReadFile(w.path("cells", cell, "current", "manifests.yaml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Error(err)
	}
	return string(text)
}

// pushFiles writes files in the person's clone, removes those without content, commits and pushes.
func (w *world) pushFiles(message string, files map[string]string) {
	w.t.Helper()
	git(w.t, w.clone, "pull", "-q", "--rebase", "origin", "main")
	for name, text := range files {
		file := filepath.Join(w.clone, filepath.FromSlash(name))
		if text == "" {
			if err := os.RemoveAll(file); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // a test's
			w.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // a test's
			w.t.Fatal(err)
		}
	}
	git(w.t, w.clone, "add", "-A")
	git(w.t, w.clone, "commit", "-qm", message)
	for range 50 {
		if _, err := tryGit(w.t.Context(), w.clone, "push", "-q", "origin", "HEAD:main"); err == nil {
			return
		}
		git(w.t, w.clone, "pull", "-q", "--rebase", "origin", "main")
	}
	w.t.Fatalf("%q never landed", message)
}

// cutRelease commits a release of one ConfigMap that contains note.
func (w *world) cutRelease(version, note string) {
	w.t.Helper()
	files := map[string]string{}
	for name, data := range releaseFiles(version) {
		files[name] = string(data)
	}
	files["releases/"+version+
		"/app.yaml"] += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\ndata: {note: " + note + "}\n"
	w.pushFiles("cut "+version, files)
}

// readCommitted returns a file at the branch's tip; empty: there is none.
func (w *world) readCommitted(name string) string {
	text, err := tryGit(w.t.Context(), w.repo, "show", "main:"+name)
	if err != nil {
		return ""
	}
	return text
}

// headRelease returns the release that a channel's head.yaml names.
func (w *world) headRelease(channel string) string {
	first, _, _ := strings.Cut(w.readCommitted("channels/"+channel+"/head.yaml"), "\n")
	return strings.TrimPrefix(first, "release: ")
}

// headSubjects returns the subjects of the commits that moved a channel's head, oldest first.
func (w *world) headSubjects(channel string) []string {
	w.t.Helper()
	log := git(w.t, w.repo, "log", "--reverse", "--format=%s", "main", "--", "channels/"+channel+"/head.yaml")
	return strings.Split(strings.TrimSpace(log), "\n")
}

func (w *world) request(method, path string, body []byte, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(w.t.Context(), method, "http://sluice"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header
	}
	return socketClient(w.path("s")).Do(request)
}

// socketClient returns a client whose every request goes to a Unix socket.
func socketClient(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &http.Client{Timeout: 10 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
}

// getJSON decodes a JSON response, or stores the bytes if into is a *[]byte.
func (w *world) getJSON(path string, into any) error {
	response, err := w.request(http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	if text, ok := into.(*[]byte); ok {
		*text = body
		return nil
	}
	return json.Unmarshal(body, into)
}

// status returns the control plane's status; empty while it does not answer.
func (w *world) status() (s view.Status) {
	_ = w.getJSON("/v1/status", &s)
	return s
}

func (w *world) cellStatus(name string) (c view.CellStatus) {
	for _, c := range w.status().Cells {
		if c.Name == name {
			return c
		}
	}
	return c
}

func (w *world) awaitFirstRead() {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		return "the control plane never read the repository", w.status().Commit != ""
	})
}

// awaitRelease waits until a cell is healthy on a release, and has its manifests.
func (w *world) awaitRelease(cell, version string) {
	w.t.Helper()
	w.eventually(w.isHealthyOn(cell, version))
}

// isHealthyOn returns a condition for eventually: a cell is healthy on a release, and has its manifests.
func (w *world) isHealthyOn(cell, version string) func() (string, bool) {
	return func() (string, bool) {
		c := w.cellStatus(cell)
		ok := c.Release == version && c.State == "healthy" &&
			strings.Contains(w.installedManifests(cell), "version: "+version)
		return fmt.Sprintf("%s is not healthy on %s: %+v", cell, version, c), ok
	}
}

// eventually waits until ok holds. When it gives up it prints what is wrong, and the logs.
func (w *world) eventually(ok func() (string, bool)) {
	w.t.Helper()
	if wrong, done := w.await(ok); !done {
		w.t.Fatalf("still: %s\n%s", wrong, w.describe())
	}
}

// await waits until ok holds, and reports whether it did. On a busy machine it waits for as long as what is wrong goes
// on changing, up to a quarter of an hour; it gives up after four minutes without a change. Asking takes at most a
// fifth of the time, so that a costly question does not slow down what it asks about.
func (w *world) await(ok func() (string, bool)) (wrong string, done bool) {
	const patience, most = 4 * time.Minute, 15 * time.Minute
	began := time.Now()
	for changed := began; time.Since(changed) < patience && time.Since(began) < most; {
		asked := time.Now()
		now, done := ok()
		if done {
			return "", true
		}
		if now != wrong {
			wrong, changed = now, time.Now()
		}
		time.Sleep(max(20*time.Millisecond, 4*time.Since(asked)))
	}
	return wrong, false
}

// describe returns the end of the branch's history, and of every process's log.
func (w *world) describe() string {
	var b strings.Builder
	log, err := tryGit(context.WithoutCancel(w.t.Context()), w.repo, "log", "-5", "--oneline", "main")
	fmt.Fprintln(&b, log, err)
	logs, _ := filepath.Glob(w.path("*.log"))
	for _, name := range logs {
		text, _ := os.ReadFile(name)
		text = text[max(0, len(text)-3000):]
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(name), text)
	}
	return b.String()
}

func (w *world) processLog(name string) string {
	text, err := os.ReadFile(w.path(name + ".log"))
	if err != nil {
		w.t.Error(err)
	}
	return string(text)
}

func (w *world) runSluice(args ...string) (string, error) {
	c := exec.CommandContext(w.t.Context(), os.Getenv(binaryVariable), args...) //nolint:gosec // ours
	c.Env = w.env()
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("sluice %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (w *world) env() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=ada@example.com", "SLUICE_SERVER=" + w.socket(),
		"SLUICE_REPO=" + w.repo,
	}
}

// process is a process of a world, which may be started and killed repeatedly. One goroutine uses it.
type process struct {
	w    *world
	name string
	args []string

	prefix      []string      // command that runs it, such as nsenter; none: no prefix
	environment []string      // environment
	cmd         *exec.Cmd     // nil: not running
	done        chan struct{} // closed when it has ended
}

func (w *world) process(name string, args ...string) *process {
	p := &process{w: w, name: name, args: args}
	w.t.Cleanup(p.kill)
	return p
}

// start runs the process until it is stopped or killed; if it ends by itself the test fails.
func (p *process) start() *process {
	p.w.t.Helper()
	if p.cmd != nil {
		p.w.t.Fatalf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.w.path(p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.w.t.Fatal(err)
	}
	defer log.Close()
	program := binaryVariable
	if p.args[0] == "agent" || p.args[0] == "node" { // as cells run them
		program = agentVariable
	}
	line := append(append(slices.Clone(p.prefix), os.Getenv(program)), p.args...)
	p.cmd = exec.Command(line[0], line[1:]...) //nolint:gosec,noctx // ours; killed in the end
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(p.w.env(), p.environment...), log, log
	if err := p.cmd.Start(); err != nil {
		p.w.t.Fatal(err)
	}
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return p
}

// kill ends the process at once, as a power loss would.
func (p *process) kill() { p.signalAndWait(syscall.SIGKILL) }

// killIfAlive kills the process unless it has ended by itself, and reports whether it had to.
func (p *process) killIfAlive() bool {
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.w.t.Errorf("%s: %s\n%s", p.name, p.cmd.ProcessState, p.w.describe())
		}
		p.cmd = nil
		p.reportRaces()
		return false
	default:
		p.kill()
		return true
	}
}

// stop asks the process to end.
func (p *process) stop() { p.signalAndWait(syscall.SIGTERM) }

func (p *process) signalAndWait(how syscall.Signal) {
	if p.cmd == nil {
		return
	}
	select {
	case <-p.done:
		p.w.t.Errorf("%s ended by itself: %s\n%s", p.name, p.cmd.ProcessState, p.w.describe())
	default:
		_ = p.cmd.Process.Signal(how)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); how == syscall.SIGTERM && code != 0 {
		p.w.t.Errorf("%s, asked to stop: %s\n%s", p.name, p.cmd.ProcessState, p.w.describe())
	}
	p.cmd = nil
	p.reportRaces()
}

// reportRaces fails the test if the race detector wrote to the log.
func (p *process) reportRaces() {
	text, err := os.ReadFile(p.w.path(p.name + ".log"))
	if err == nil && bytes.Contains(text, []byte("WARNING: DATA RACE")) {
		p.w.t.Errorf("%s: a data race\n%s", p.name, text)
	}
}

func (w *world) startAll() {
	w.t.Helper()
	w.server.start()
	for _, a := range w.agents {
		a.start()
	}
}

// stopAll stops the cells, then the control plane.
func (w *world) stopAll() {
	var all sync.WaitGroup
	for _, a := range w.agents {
		all.Go(a.stop)
	}
	all.Wait()
	w.server.stop()
}
