package podshell_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/kubernetes/podshell"
	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/cluster/kubelet"
)

var shared cluster.Shared

func TestMain(m *testing.M) { os.Exit(shared.RunTests(m)) }

const pods = `
apiVersion: v1
kind: Pod
metadata: {name: queue-0}
spec: {containers: [{name: main, image: "shop/queue:1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers: [{name: prepare, image: shop/prepare}]
  containers: [{name: main, image: shop/web}, {name: proxy, image: shop/proxy}]
`

// fixture is a cluster with pods, whose commands run here.
type fixture struct {
	cluster   *cluster.Cluster
	namespace string
	execs     *kubelet.Execs
	config    *rest.Config
	pod       debug.Pod // queue-0
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	c := shared.Get(t)
	f := &fixture{cluster: c, namespace: c.Namespace(t), execs: kubelet.NewExecs(t, c)}
	f.makePods(t)
	var err error
	if f.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if f.pod, _, err = f.shells(t).Find(t.Context(), debug.Pod{Namespace: f.namespace, Name: "queue-0"}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) makePods(t *testing.T) {
	t.Helper()
	f.cluster.Run(t, pods, "-n", f.namespace, "apply", "-f", "-")
	f.cluster.Run(t, "", "-n", f.namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=2m")
}

func (f *fixture) shells(t *testing.T) *podshell.Shells {
	t.Helper()
	s, err := podshell.New(f.config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// id is a request's, as no other test has it.
func id(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%x", t.Name()+strconv.Itoa(os.Getpid()))
}

// sink collects what a shell writes.
type sink struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func await(t *testing.T, isSo func() (what string, _ bool)) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // between two looks
		what, ok := isSo()
		if ok {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// awaitPids waits until so many commands wrote their process's ID into a file, each in a line.
func awaitPids(t *testing.T, file string, n int) (pids []int) {
	t.Helper()
	await(t, func() (string, bool) {
		text, _ := os.ReadFile(file)
		pids = nil
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return fmt.Sprintf("%d lines in %s", n, file), len(pids) == n
	})
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pids
}

// awaitEnd waits for a process that was killed, and that does not end by itself.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	await(t, func() (string, bool) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return fmt.Sprintf("the end of %d", pid), err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// noWebSockets passes on to the API server all but WebSockets, as old proxies do.
func noWebSockets(t *testing.T, config *rest.Config) *rest.Config {
	t.Helper()
	to, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProxy(t, config, to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			http.Error(w, "no WebSockets here", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL}
}

// newProxy passes on to an API server.
func newProxy(t *testing.T, config *rest.Config, to *url.URL) http.Handler {
	t.Helper()
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"} // which alone has upgrades
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
}

// Lines and shells run in the container, with their exit codes, by WebSocket and by SPDY, with a terminal and without.
func TestRun(t *testing.T) {
	f := newFixture(t)
	plain := f.config
	for by, config := range map[string]*rest.Config{"websocket": plain, "spdy": noWebSockets(t, plain)} {
		f.config = config
		for name, c := range map[string]struct {
			line, in, terminal string
			out                []string
			err                string
			code               int
		}{
			"line":  {"echo $SLUICE_DEBUG; cat; echo wrong >&2; exit 7", "typed", "", []string{id(t) + "\ntyped"}, "wrong\n", 7},
			"shell": {"", "echo one\necho $((1 + 1))\nexit 3\n", "", []string{"one\n2\n"}, "", 3},
			"terminal": {"stty size; echo $TERM; tty >/dev/null && read -r x && echo \"got $x\"", "typed\n", "xterm",
				[]string{"25 101\r\n", "xterm\r\n", "got typed\r\n"}, "", 0},
			"quotes": {`printf '%s|' "a  b" '$x' \'`, "", "", []string{`a  b|$x|'|`}, "", 0},
		} {
			var out, errs sink
			what := debug.PodShell{Request: id(t), Line: c.line, In: strings.NewReader(c.in), Out: &out, Err: &errs,
				Terminal: c.terminal}
			if c.terminal != "" {
				sizes := make(chan debug.TerminalSize, 1)
				sizes <- debug.TerminalSize{Columns: 101, Rows: 25}
				what.Sizes = sizes
				what.Line = "while [ \"$(stty size)\" != '25 101' ]; do :; done; " + c.line // it is set meanwhile
			}
			code, err := f.shells(t).Run(t.Context(), f.pod, what)
			ok := err == nil && code == c.code && errs.String() == c.err
			for _, want := range c.out {
				ok = ok && strings.Contains(out.String(), want)
			}
			if !ok {
				t.Errorf("%s, %s: %q, %q (%d, %v)", by, name, out.String(), errs.String(), code, err)
			}
		}
	}
}

// D2: what ends a session kills all that it started: in other sessions of processes, with signals ignored, and without
// its environment as long as it stays in the shell's session; also if the connection, or what was to kill it, is gone.
func TestD2EndsWhole(t *testing.T) {
	f := newFixture(t)
	for name, end := range map[string]func(cancel context.CancelFunc, guard int){
		"stop":         func(cancel context.CancelFunc, _ int) { cancel() },
		"connections":  func(context.CancelFunc, int) { f.execs.Cut() },
		"killed guard": func(_ context.CancelFunc, guard int) { _ = syscall.Kill(guard, syscall.SIGKILL) },
		"stop, guard hung": func(cancel context.CancelFunc, guard int) {
			_ = syscall.Kill(guard, syscall.SIGSTOP)
			cancel()
		},
	} {
		for _, terminal := range []string{"", "xterm"} {
			t.Run(name+terminal, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "pids")
				hold := `trap "" HUP TERM; echo $$ >>` + file + `; while :; do sleep 1; done`
				line := `(setsid sh -c '` + hold + `' &); (env -i PATH="$PATH" sh -c '` + hold + `' &); ` + hold
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				never, _ := io.Pipe()
				var out sink
				type result struct {
					code int
					err  error
				}
				done := make(chan result, 1)
				shells := f.shells(t)
				go func() {
					code, err := shells.Run(ctx, f.pod, debug.PodShell{Request: id(t), Line: line, In: never, Out: &out,
						Err: &out, Terminal: terminal, Sizes: make(chan debug.TerminalSize)})
					done <- result{code, err}
				}()
				pids := awaitPids(t, file, 3)
				end(cancel, findGuard(t, id(t)))
				var got result
				select {
				case got = <-done:
				case <-time.After(time.Minute):
					t.Fatal("it goes on")
				}
				if got.err == nil {
					t.Errorf("it ended with %d, and %q", got.code, out.String())
				}
				if name == "killed guard" || name == "stop, guard hung" { // as its caller does then
					if !errors.Is(got.err, debug.ErrMayGoOn) {
						t.Error(got.err)
					}
					if err := shells.End(t.Context(), f.pod, id(t)); err != nil {
						t.Error(err)
					}
				}
				for _, pid := range pids {
					awaitEnd(t, pid)
				}
			})
		}
	}
}

// findGuard returns the process that is to end what a request's shell started.
func findGuard(t *testing.T, request string) (pid int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		text, _ := os.ReadFile(name) // it may be gone
		words := strings.Split(string(text), "\x00")
		if len(words) > 4 && words[0] == "sh" && strings.HasPrefix(words[2], "mark=") && words[4] == request {
			if pid, err = strconv.Atoi(filepath.Base(filepath.Dir(name))); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("nothing waits in the container to end the shell")
	return 0
}

// What a shell left in the background when it ended is ended too.
func TestLeavesNothing(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(t.TempDir(), "pids")
	line := `(setsid sh -c 'echo $$ >` + file + `; exec sleep 600' >/dev/null 2>&1 </dev/null &); ` +
		`while ! [ -s ` + file + ` ]; do sleep 0.01; done; exit 4`
	code, err := f.shells(t).Run(t.Context(), f.pod, debug.PodShell{Request: id(t), Line: line,
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	if code != 4 || err != nil {
		t.Error(code, err)
	}
	awaitEnd(t, awaitPids(t, file, 1)[0])
}

// A pod that was made anew under its name is another: before the shell begins, and while it does.
func TestOnlyThePodThatWasPermitted(t *testing.T) {
	f := newFixture(t)
	anew := func() {
		f.cluster.Run(t, "", "-n", f.namespace, "delete", "pod", "queue-0", "--force")
		f.cluster.Run(t, pods, "-n", f.namespace, "apply", "-f", "-")
	}
	ran := filepath.Join(t.TempDir(), "ran")
	what := debug.PodShell{Request: id(t), Line: "touch " + ran, In: strings.NewReader(""), Out: io.Discard,
		Err: io.Discard}
	var once sync.Once
	f.execs.Before(func(string, []string) error {
		once.Do(anew)
		return nil
	})
	for _, when := range []string{"meanwhile", "before"} {
		_, err := f.shells(t).Run(t.Context(), f.pod, what)
		if err == nil || !strings.Contains(err.Error(), "made anew since the owner permitted") {
			t.Errorf("%s: %v", when, err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: it ran in another pod", when)
		}
	}
	if err := f.shells(t).End(t.Context(), f.pod, id(t)); err != nil {
		t.Errorf("of a pod that is gone, something is left: %v", err)
	}
}

// What can't be is said, with what to do.
func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.execs.Before(func(container string, _ []string) error {
		return map[string]error{
			"main":  errors.New(`exec: "sh": executable file not found in $PATH: unknown`),
			"proxy": errors.New("container proxy is in CONTAINER_EXITED state"),
		}[container]
	})
	web := debug.Pod{Namespace: f.namespace, Name: "web", Container: "proxy"}
	web, _, err := f.shells(t).Find(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	stranger := rest.CopyConfig(f.config)
	stranger.Impersonate = rest.ImpersonationConfig{UserName: "reader"}
	f.cluster.Run(t, "", "-n", f.namespace, "create", "role", "reader", "--verb=get", "--resource=pods")
	f.cluster.Run(t, "", "-n", f.namespace, "create", "rolebinding", "reader", "--role=reader", "--user=reader")
	for name, c := range map[string]struct {
		config *rest.Config
		pod    debug.Pod
		want   string
	}{
		"no shell":   {f.config, f.pod, "the container's image has no sh"},
		"not there":  {f.config, web, "CONTAINER_EXITED"},
		"no right":   {stranger, f.pod, "sluice agent manifest --shells"},
		"no right 2": {noWebSockets(t, stranger), f.pod, "sluice agent manifest --shells"},
	} {
		shells, err := podshell.New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		_, err = shells.Run(t.Context(), c.pod, debug.PodShell{Request: id(t), In: strings.NewReader("")})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "may go on") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The rights of the manifest are enough.
func TestRightsOfTheManifest(t *testing.T) {
	f := newFixture(t)
	f.cluster.Run(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: agent}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get, list]}
  - {apiGroups: [""], resources: [pods/exec], verbs: [get, create]}
`, "-n", f.namespace, "apply", "-f", "-")
	f.cluster.Run(t, "", "-n", f.namespace, "create", "rolebinding", "agent", "--role=agent", "--user=agent")
	agent := rest.CopyConfig(f.config)
	agent.Impersonate = rest.ImpersonationConfig{UserName: "agent"}
	for _, config := range []*rest.Config{agent, noWebSockets(t, agent)} {
		f.config = config
		code, err := f.shells(t).Run(t.Context(), f.pod, debug.PodShell{Request: id(t), Line: "exit 5",
			In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
		if code != 5 || err != nil {
			t.Error(code, err)
		}
	}
}

// A pod whose sh is no shell, and an API server that never answers, hold nothing up.
func TestStrangePods(t *testing.T) {
	f := newFixture(t)
	bin := t.TempDir()
	fake := "#!/bin/sh\necho ready; echo done; read -r x; read -r x\n"
	if err := os.WriteFile(filepath.Join(bin, "sh"), []byte(fake), 0o755); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var out sink
	_, err := f.shells(t).Run(t.Context(), f.pod, debug.PodShell{Request: id(t), In: strings.NewReader("secret"),
		Out: &out, Err: &out})
	if err == nil || out.String() != "" {
		t.Errorf("%q (%v)", out.String(), err)
	}
}

func TestSilentServer(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	came := make(chan net.Conn, 4)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			came <- conn
		}
	}()
	to, err := url.Parse(f.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := noExec(t, f.config, to, l.Addr().String())
	f.config = &rest.Config{Host: proxy}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	shells := f.shells(t)
	go func() {
		_, err := shells.Run(ctx, f.pod, debug.PodShell{Request: id(t), In: strings.NewReader("")})
		done <- err
	}()
	conn := <-came
	defer func() { _ = conn.Close() }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for the server")
	}
}

// noExec passes on what is no exec to the API server, and that to an address.
func noExec(t *testing.T, config *rest.Config, to *url.URL, exec string) string {
	t.Helper()
	proxy := newProxy(t, config, to)
	silent := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: exec})
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/exec") {
			silent.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestFind(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct{ container, image, err string }{
		"queue-0": {"", "shop/queue:1", ""},
		"web":     {"proxy", "shop/proxy", ""},
		"web ":    {"", "", "has several containers: name one of main, proxy, prepare"},
		"web  ":   {"none", "", "has no container none: name one of"},
		"none":    {"", "", "not found"},
	} {
		found, image, err := f.shells(t).Find(t.Context(), debug.Pod{Namespace: f.namespace,
			Name: strings.TrimSpace(name), Container: c.container})
		if image != c.image || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %+v, %s (%v)", name, found, image, err)
		}
		if err == nil && (found.UID == "" || found.Container == "") {
			t.Errorf("%+v", found)
		}
	}
}
