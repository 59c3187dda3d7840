package debugger

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/test/cluster"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "enclose" {
		code, err := process.RunEnclosed(os.Args[2], os.Args[4:])
		if err != nil {
			code = 99
		}
		os.Exit(code)
	}
	if len(os.Args) > 4 && os.Args[1] == "stdio" { // what sluice debug connect --stdio does once the cell is there
		conn, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			os.Exit(1)
		}
		go func() { _, _ = io.Copy(conn, os.Stdin) }()
		_, _ = io.Copy(os.Stdout, conn)
		os.Exit(0)
	}
	os.Exit(shared.RunTests(m))
}

var shared cluster.Shared

// fixture is a cell with a permitted request.
type fixture struct {
	stateDir string
	folder   debugfolder.Folder
	id       string
	key      ssh.Signer // the person's
	session  *session
	ended    chan ending // after serve
	failed   chan error
	conn     net.Conn // the person's end
}

func declared() diagnostics.List {
	return diagnostics.List{
		{Name: "greet", Description: "Says hello", Run: []string{"echo", "hello {who}"},
			Arguments: []diagnostics.Argument{{Name: "who", Type: diagnostics.Name}}},
		{Name: "hang", Description: "Hangs", Run: []string{"sleep", "600"}, Timeout: 300 * time.Millisecond},
		{Name: "flood", Description: "Writes a lot", Run: []string{"yes"}, Output: 10000},
	}
}

// newFixture permits a session of a scope. change changes the permission; nil: it is for half an hour.
func newFixture(t testing.TB, scope debug.Scope, change func(*debug.Permission)) *fixture {
	t.Helper()
	return newFixtureOf(t, scope, debugtest.NewSigner(t), change)
}

func newFixtureOf(t testing.TB, scope debug.Scope, key ssh.Signer, change func(*debug.Permission)) *fixture {
	t.Helper()
	state := t.TempDir()
	f := &fixture{stateDir: state, folder: debugfolder.Of(state), key: key, ended: make(chan ending, 1),
		failed: make(chan error, 1)}
	signed := debugtest.NewRequest(t, key, func(r *debug.Request) { r.Scope = scope })
	now, err := moment()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.folder.Keep(signed, "", now, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.id = signed.ID()
	p := debug.Permission{Made: now, For: 30 * time.Minute}
	if change != nil {
		change(&p)
	}
	if err := f.folder.Approve(f.id, p, time.Now()); err != nil {
		t.Fatal(err)
	}
	e, err := f.folder.Load(f.id)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.session = &session{id: f.id, request: e.Request, permission: *e.Permission, hostKey: debugtest.NewSigner(t),
		permit:   &folderPermit{folder: f.folder, id: f.id, onBegin: func() {}},
		record:   func() (recordFile, error) { return createRecord(f.folder.RecordPath(f.id)) },
		commands: declared, logs: func() diagnostics.Logs { return nil },
		programs: programs{enclose: []string{self, "enclose"}, id: f.id}, log: zerolog.Nop()}
	return f
}

// serve serves the session, and returns the person's end of the connection.
func (f *fixture) serve(t testing.TB) net.Conn {
	t.Helper()
	var near net.Conn
	f.conn, near = tcpPair(t)
	f.serveOn(t, func() (net.Conn, error) { return near, nil })
	return f.conn
}

// listen serves the session to who comes first to the address that is returned.
func (f *fixture) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(t, l.Accept)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func (f *fixture) serveOn(t testing.TB, accept func() (net.Conn, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		conn, err := accept()
		if err != nil {
			return
		}
		e, err := f.session.serve(ctx, conn)
		if err != nil {
			f.failed <- err
		} else {
			f.ended <- e
		}
	}()
}

// tcpPair returns both ends of a connection.
func tcpPair(t testing.TB) (one, other net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if one, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if other, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = one.Close(), other.Close() })
	return one, other
}

// connect serves the session and connects to it with a key.
func (f *fixture) connect(t testing.TB, key ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	config := &ssh.ClientConfig{User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(f.session.hostKey.PublicKey())}
	c, channels, requests, err := ssh.NewClientConn(f.serve(t), "acme", config)
	if err != nil {
		return nil, err
	}
	client := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client, nil
}

func (f *fixture) mustConnect(t testing.TB) *ssh.Client {
	t.Helper()
	c, err := f.connect(t, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// output runs a line and returns its output with what was said beside it, and its exit code.
func output(t *testing.T, c *ssh.Client, line string) (string, int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	out, err := s.CombinedOutput(line)
	code := 0
	if exit, ok := err.(*ssh.ExitError); ok {
		code = exit.ExitStatus()
	} else if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return string(out), code
}

// awaitEnding waits for the session's end, and returns it.
func (f *fixture) awaitEnding(t testing.TB) ending {
	t.Helper()
	select {
	case e := <-f.ended:
		return e
	case err := <-f.failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the session goes on")
	}
	return ending{}
}

// event is one line of a record.
type event struct {
	code, data string
}

// readRecord reads a record, which must be what the ending says.
func (f *fixture) readRecord(t *testing.T, e ending) []event {
	t.Helper()
	if hash, length, err := f.folder.HashRecord(f.id); err != nil || hash != e.hash || length != e.length {
		t.Errorf("the record has hash %s and %d bytes, not %s and %d (%v)", hash, length, e.hash, e.length, err)
	}
	text, err := os.ReadFile(f.folder.RecordPath(f.id))
	if err != nil {
		t.Fatal(err)
	}
	return parseRecord(t, string(text))
}

func parseRecord(t *testing.T, text string) (events []event) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i == 0 {
			continue
		}
		var parts []any
		if err := json.Unmarshal([]byte(line), &parts); err != nil || len(parts) != 3 {
			t.Fatalf("line %d: %.200s (%v)", i, line, err)
		}
		events = append(events, event{parts[1].(string), parts[2].(string)})
	}
	return events
}

// joined returns the data of all events with a code.
func joined(events []event, code string) string {
	var all strings.Builder
	for _, e := range events {
		if e.code == code {
			all.WriteString(e.data)
		}
	}
	return all.String()
}

// awaitPid waits for a file with a process's id.
func awaitPid(t testing.TB, name string) int {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if text, err := os.ReadFile(name); err == nil && strings.HasSuffix(string(text), "\n") {
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	t.Fatalf("%s does not come", filepath.Base(name))
	return 0
}

// awaitEnd waits for a process that was killed, and that does not end by itself: it needs a core to end on.
func awaitEnd(t testing.TB, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); isAlive(pid); time.Sleep(5 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Errorf("%d is alive", pid)
			return
		}
	}
}

// isAlive reports whether a process runs. A zombie does not.
func isAlive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
