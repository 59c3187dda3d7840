// Package kubelet plays a node's kubelet for tests of what the API server asks kubelets: Execs runs what is executed in
// pods, as processes of this machine, and Logs has what a test says that containers wrote.
//
// Commands run as the test's user, without isolation, so tests run only what they made themselves. Each leads a session
// of processes, and has a terminal of its own if one is asked for, as container runtimes do it. As there, what outlives
// its connection goes on. An Execs is for one test; its methods may be called at once.
package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/sluice-cd/sluice/test/cluster"
)

// Serve has the API server ask a handler for what concerns the pods of some nodes.
func Serve(t testing.TB, c *cluster.Cluster, h http.Handler, nodes ...string) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	patch := `{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],` +
		`"daemonEndpoints":{"kubeletEndpoint":{"Port":` + port + `}}}}`
	for _, node := range nodes {
		c.Run(t, "", "patch", node, "--subresource=status", "--type=strategic", "-p", patch)
	}
}

// Execs serves kubelets' exec.
type Execs struct {
	// Dir is where commands run.
	Dir string

	mu      sync.Mutex
	before  func(container string, command []string) error
	streams map[httpstream.Connection]bool
}

// NewExecs serves what is executed in the pods of all nodes.
func NewExecs(t testing.TB, c *cluster.Cluster) *Execs {
	t.Helper()
	e := &Execs{Dir: t.TempDir(), streams: map[httpstream.Connection]bool{}}
	Serve(t, c, e, strings.Fields(c.Run(t, "", "get", "nodes", "-o", "name"))...)
	return e
}

// Before has a function called before each command. Its error is the runtime's, and the command does not run.
func (e *Execs) Before(do func(container string, command []string) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.before = do
}

// Cut cuts all connections, as a kubelet that is started again does.
func (e *Execs) Cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		_ = c.Close()
	}
}

func (e *Execs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(r.URL.Path, "/") // /exec/NAMESPACE/POD/CONTAINER
	if len(part) != 5 || part[1] != "exec" {
		http.NotFound(w, r)
		return
	}
	q := r.URL.Query()
	tty := q.Get("tty") == "1"
	wanted := map[string]bool{"error": true, "stdin": q.Get("input") == "1", "stdout": q.Get("output") == "1",
		"stderr": q.Get("error") == "1" && !tty, "resize": tty}
	conn, streams, err := e.accept(w, r, wanted)
	if err != nil {
		return // the other end was told, or is gone
	}
	defer func() {
		e.mu.Lock()
		delete(e.streams, conn)
		e.mu.Unlock()
		_ = conn.Close()
	}()
	e.mu.Lock()
	before := e.before
	e.mu.Unlock()
	if before != nil {
		err = before(part[4], q["command"])
	}
	if err == nil {
		err = e.run(q["command"], streams)
	}
	_ = json.NewEncoder(streams["error"]).Encode(status(err))
}

// accept takes the connection over, and returns its streams once they are there.
func (e *Execs) accept(w http.ResponseWriter, r *http.Request, wanted map[string]bool) (
	httpstream.Connection, map[string]httpstream.Stream, error,
) {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return nil, nil, err
	}
	came := make(chan httpstream.Stream, len(wanted))
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			came <- s
		}()
		return nil
	})
	if conn == nil {
		return nil, nil, errors.New("no connection")
	}
	e.mu.Lock()
	e.streams[conn] = true
	e.mu.Unlock()
	n := 0
	for _, is := range wanted {
		if is {
			n++
		}
	}
	streams := map[string]httpstream.Stream{}
	for len(streams) < n {
		select {
		case s := <-came:
			streams[s.Headers().Get("streamType")] = s
		case <-conn.CloseChan():
			return nil, nil, errors.New("the connection was closed")
		}
	}
	return conn, streams, nil
}

// run runs a command to its end.
func (e *Execs) run(command []string, streams map[string]httpstream.Stream) error {
	c := exec.Command(command[0], command[1:]...) //nolint:gosec // a test's
	c.Dir, c.Env = e.Dir, []string{"PATH=" + os.Getenv("PATH")}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if streams["resize"] != nil {
		return runInTerminal(c, streams)
	}
	if s := streams["stdin"]; s != nil {
		in, err := c.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(in, s)
			_ = in.Close()
		}()
	}
	c.Stdout, c.Stderr = streams["stdout"], streams["stderr"]
	if streams["stderr"] == nil {
		c.Stderr = io.Discard
	}
	return c.Run()
}

func runInTerminal(c *exec.Cmd, streams map[string]httpstream.Stream) error {
	// A test that was started in the background ignores ^C, and what it starts would: what is caught is not inherited.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	terminal, err := pty.Start(c)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards isClosed
	isClosed := false
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		isClosed = true
		_ = terminal.Close()
	}()
	go func() {
		for d := json.NewDecoder(streams["resize"]); ; {
			var size struct{ Width, Height uint16 }
			if d.Decode(&size) != nil {
				return
			}
			mu.Lock()
			if !isClosed {
				_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
			}
			mu.Unlock()
		}
	}()
	go func() { _, _ = io.Copy(terminal, streams["stdin"]) }()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = io.Copy(streams["stdout"], terminal)
	}()
	err = c.Wait()
	select { // a process that was left may hold the terminal open
	case <-shown:
	case <-time.After(time.Second):
	}
	return err
}

// status returns what a kubelet says of a command that ended.
func status(err error) any {
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return map[string]any{"status": "Success"}
	case ended:
		code := exit.ExitCode()
		if code < 0 {
			code = 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
		}
		return map[string]any{"status": "Failure", "reason": "NonZeroExitCode", "message": err.Error(),
			"details": map[string]any{"causes": []any{map[string]any{"reason": "ExitCode",
				"message": fmt.Sprint(code)}}}}
	}
	return map[string]any{"status": "Failure", "reason": "InternalError",
		"message": "Internal error occurred: error executing command in container: " + err.Error()}
}
