package debugger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
)

func TestDeclaredCommands(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Read, nil)
	c := f.mustConnect(t)
	for line, want := range map[string]struct {
		text string
		code int
	}{
		"greet who=world":     {"hello world", 0},
		"help":                {"greet who=NAME", 0},
		"greet who=$(id)":     {"use letters", codeUsage},
		"greet who=a; id":     {"use letters", codeUsage},
		"id":                  {"declares no command", codeUsage},
		"hang":                {"for more than 300ms, and was killed", codeEnded},
		"flood":               {"more than 10000 bytes, and was killed", codeEnded},
		"sh -c id":            {"declares no command", codeUsage},
		"greet who=world\nid": {"write NAME=VALUE", codeUsage},
	} {
		if out, code := output(t, c, line); !strings.Contains(out, want.text) || code != want.code {
			t.Errorf("%q: %.300q (%d)", line, out, code)
		}
	}
	_ = c.Close()
	e := f.awaitEnding(t)
	if e.why != errLeft.Error() {
		t.Errorf("it ended because %s", e.why)
	}
	events := f.readRecord(t, e)
	if out := joined(events, "o"); !strings.Contains(out, "hello world\n") {
		t.Errorf("the record lacks what was shown: %.300q", out)
	}
	m := joined(events, "m")
	if !strings.Contains(m, "greet who=world") || !strings.Contains(m, "ended: the person left") {
		t.Errorf("the record lacks the commands: %q", m)
	}
}

func TestScopeOfOneCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "exec:greet", nil)
	c := f.mustConnect(t)
	if out, code := output(t, c, "greet who=world"); code != 0 || out != "hello world\n" {
		t.Errorf("%q (%d)", out, code)
	}
	if out, code := output(t, c, "flood"); code != codeRefused || !strings.Contains(out, "may run greet only") {
		t.Errorf("%q (%d)", out, code)
	}
	if out, _ := output(t, c, "help"); strings.Contains(out, "flood") {
		t.Errorf("help shows what may not run: %q", out)
	}
}

// The prompt of a session for declared commands runs them, and nothing else.
func TestPrompt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Read, nil)
	c := f.mustConnect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 30, 100, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Stdin, s.Stdout = strings.NewReader("greet who=world\rid\rexit\r"), &out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("%v: %q", err, out.String())
	}
	if !strings.Contains(out.String(), "acme> ") || !strings.Contains(out.String(), "hello world\r\n") {
		t.Errorf("%q", out.String())
	}
}

// D1, D3, D4: without the key of the request nothing begins, and the permission stays; it serves one session.
func TestD1OnlyTheRequestsKeyAndOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Read, nil)
	if _, err := f.connect(t, debugtest.NewSigner(t)); err == nil {
		t.Fatal("another key was accepted")
	}
	if err := <-f.failed; !errors.Is(err, errNotBegun) {
		t.Error(err)
	}
	if e, err := f.folder.Load(f.id); err != nil || e.Begun != nil {
		t.Fatalf("a stranger used the permission: %v", err)
	}
	_ = f.mustConnect(t).Close()
	f.awaitEnding(t)
	f.session.permit = &folderPermit{folder: f.folder, id: f.id, onBegin: func() {}}
	if c, err := f.connect(t, f.key); err == nil {
		if _, err := c.NewSession(); err == nil {
			t.Error("a second session began")
		}
	}
	if err := <-f.failed; !errors.Is(err, debugfolder.ErrUsed) {
		t.Error(err)
	}
}

// Nothing but session channels is served.
func TestD5NothingIsForwarded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	c := f.mustConnect(t)
	if _, err := c.Dial("tcp", "127.0.0.1:22"); err == nil {
		t.Error("a connection was forwarded")
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("the agent listens (D5)")
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if s.Setenv("LD_PRELOAD", "x") == nil || s.RequestSubsystem("sftp") == nil {
		t.Error("the environment, or sftp, was accepted")
	}
	for _, name := range []string{"auth-agent-req@openssh.com", "x11-req"} {
		if ok, err := s.SendRequest(name, true, nil); ok || err != nil {
			t.Errorf("%s: %v (%v)", name, ok, err)
		}
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("a second channel was opened at once")
	}
}

// D2: whatever ends a session, what it started is dead then, in whatever session of processes it is.
func TestD2SessionEndsWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(f *fixture)
		want error
	}{
		"stop":   {func(f *fixture) { _ = f.folder.Stop(f.id) }, debugfolder.ErrStopped},
		"expiry": {func(f *fixture) { f.session.permit.(*shortPermit).isOver.Store(true) }, errTimeUp},
		"client": {func(f *fixture) { _ = f.conn.Close() }, errLeft},
	} {
		for _, terminal := range []bool{false, true} {
			t.Run(fmt.Sprint(name, terminal), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, debug.Shell, nil)
				if c.want == errTimeUp {
					f.session.permit = &shortPermit{permit: f.session.permit}
				}
				client := f.mustConnect(t)
				s, err := client.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				if terminal {
					if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
						t.Fatal(err)
					}
				}
				dir := t.TempDir()
				script := `trap "" HUP TERM; (setsid sh -c 'trap "" HUP TERM; echo $$ >` + dir + `/deep; exec sleep 600' &) ; ` +
					`echo $$ >` + dir + `/shell; while :; do sleep 1; done`
				if err := s.Start(script); err != nil {
					t.Fatal(err)
				}
				pids := []int{awaitPid(t, filepath.Join(dir, "deep")), awaitPid(t, filepath.Join(dir, "shell"))}
				c.end(f)
				e := f.awaitEnding(t)
				if e.why != c.want.Error() {
					t.Errorf("it ended because %s", e.why)
				}
				for _, pid := range pids {
					awaitEnd(t, pid)
				}
				if _, _, err := client.SendRequest("x", true, nil); err == nil {
					t.Error("the connection is served")
				}
				f.readRecord(t, e)
			})
		}
	}
}

// D2: a session ends in time also if the person killed or stopped what encloses their shell, and a process that nothing
// names holds the output open. What has the session's variable is dead.
func TestD2SessionEndsThoughItsEncloserDoesNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal, environment string
		isFound             bool
	}{
		"killed":            {"KILL", "env", true},
		"stopped":           {"STOP", "env", true},
		"killed, not named": {"KILL", "env -i", false},
	} {
		for _, terminal := range []bool{false, true} {
			t.Run(fmt.Sprint(name, terminal), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, debug.Shell, nil)
				s, err := f.mustConnect(t).NewSession()
				if err != nil {
					t.Fatal(err)
				}
				if terminal {
					if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
						t.Fatal(err)
					}
				}
				file := filepath.Join(t.TempDir(), "deep")
				script := `(setsid ` + c.environment + ` sh -c 'trap "" HUP TERM; echo $$ >` + file + `; exec sleep 600' &); ` +
					`while ! [ -s ` + file + ` ]; do sleep 0.01; done; kill -` + c.signal + ` $PPID; sleep 600`
				if err := s.Start(script); err != nil {
					t.Fatal(err)
				}
				pid := awaitPid(t, file)
				t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
				if c.signal == "KILL" { // the shell died with its encloser
					if err := s.Wait(); err == nil {
						t.Error("the command succeeded")
					}
				}
				if err := f.folder.Stop(f.id); err != nil {
					t.Fatal(err)
				}
				if e := f.awaitEnding(t); e.why != debugfolder.ErrStopped.Error() {
					t.Errorf("it ended because %s", e.why)
				}
				if c.isFound {
					awaitEnd(t, pid)
				}
			})
		}
	}
}

// openShell opens a shell, or the prompt, with a terminal of 30 rows and 100 columns.
func openShell(t *testing.T, c *ssh.Client) (s *ssh.Session, in io.Writer, out io.Reader) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 30, 100, nil); err != nil {
		t.Fatal(err)
	}
	if in, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if out, err = s.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	return s, in, out
}

// ^C in a shell ends what runs there, and not the shell.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	s, in, out := openShell(t, f.mustConnect(t))
	lines := bufio.NewScanner(out)
	defer time.AfterFunc(time.Minute, func() { _ = s.Close() }).Stop()
	for _, step := range []struct{ input, want string }{
		// One program prints and sleeps: bash itself loses a ^C that comes before it has started the next one.
		{"sh -c 'echo read\"\"y; exec sleep 600'\n", "ready"}, {"\x03", "^C"}, {"echo ali\"\"ve\n", "alive"},
	} {
		_, _ = io.WriteString(in, step.input)
		for !strings.Contains(lines.Text(), step.want) {
			if !lines.Scan() {
				t.Fatalf("%q does not come (%v)", step.want, lines.Err())
			}
		}
	}
}

// shortPermit is a permission that is over when the test says so.
type shortPermit struct {
	permit
	isOver atomic.Bool
}

func (p *shortPermit) left() time.Duration {
	if p.isOver.Load() {
		return 0
	}
	return p.permit.left()
}

// fullDisk is a file whose disk is full after some bytes.
type fullDisk struct {
	recordFile
	left int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return d.recordFile.Write(p)
}

// moveToSmallDisk moves the cell's state to a disk of 256 KiB. root may mount one, and CI runs as root.
func (f *fixture) moveToSmallDisk(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal("no disk can be mounted here: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := os.CopyFS(dir, os.DirFS(f.stateDir)); err != nil {
		t.Fatal(err)
	}
	f.stateDir, f.folder = dir, debugfolder.Of(dir)
	f.session.permit = &folderPermit{folder: f.folder, id: f.id, onBegin: func() {}}
}

// D6: a session whose record can't be written ends, and what was not recorded did not leave.
func TestD6UnrecordableSessionEnds(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*testing.T, *fixture){
		"a write fails": func(_ *testing.T, f *fixture) {
			f.session.record = func() (recordFile, error) {
				file, err := createRecord(f.folder.RecordPath(f.id))
				return &fullDisk{file, 100_000}, err
			}
		},
		"the disk is full": func(t *testing.T, f *fixture) { f.moveToSmallDisk(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, debug.Shell, nil)
			fill(t, f)
			s, err := f.mustConnect(t).NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, _ := s.Output("yes sluice")
			e := f.awaitEnding(t)
			if !strings.Contains(e.why, "no space left") {
				t.Errorf("it ended because %s", e.why)
			}
			if recorded := joined(f.readRecord(t, e), "o"); !strings.HasPrefix(recorded, string(out)) || len(out) == 0 {
				t.Errorf("%d bytes left the cell, and %d were recorded", len(out), len(recorded))
			}
		})
	}
}

// D6: a session whose record can't be begun does not begin, and the permission stays.
func TestD6UnrecordableSessionDoesNotBegin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	f.session.record = func() (recordFile, error) { return nil, os.ErrPermission }
	if c, err := f.connect(t, f.key); err == nil {
		if _, err := c.NewSession(); err == nil {
			t.Error("a session began that can't be recorded")
		}
	}
	if err := <-f.failed; !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	if e, err := f.folder.Load(f.id); err != nil || e.Begun != nil {
		t.Errorf("the permission was used (%v)", err)
	}
}

func TestPerCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Read, func(p *debug.Permission) { p.PerCommand = true })
	c := f.mustConnect(t)
	for number, allow := range []bool{true, false} {
		answered := make(chan error, 1)
		go func() {
			for {
				if p, err := f.folder.Pending(f.id); err != nil || p != nil {
					answered <- errors.Join(err, f.folder.Answer(f.id, number+1, allow))
					return
				}
				time.Sleep(5 * time.Millisecond) // between two looks
			}
		}()
		out, code := output(t, c, "greet who=world")
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if ran := strings.Contains(out, "hello world"); ran != allow || (code == 0) != allow {
			t.Errorf("the owner's answer is %v: %q (%d)", allow, out, code)
		}
	}
}

// A shell has a terminal of the person's size; a storm of resizes and 10 MB pasted do no harm.
func TestShell(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	c := f.mustConnect(t)
	s, in, out := openShell(t, c)
	lines := bufio.NewScanner(out)
	await := func(want string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("%q does not come (%v)", want, lines.Err())
	}
	_, _ = io.WriteString(in, "stty size; echo id=$SLUICE_DEBUG; tty\n")
	await("30 100")
	await("id=" + f.id)
	await("/dev/pts/")
	_, _ = io.WriteString(in, "stty raw -echo; echo rea\"\"dy; head -c 10000000 >/dev/null; stty sane; echo all-\"\"here\n")
	await("ready")
	for i := range 20_000 {
		if err := s.WindowChange(10+i%50, 20+i%100); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = in.Write(bytes.Repeat([]byte("0123456789"), 1_000_000))
	await("all-here")
	_, _ = io.WriteString(in, "stty size; exit 7\n")
	await("59 119")
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("got %v", err)
	}
	_ = c.Close()
	events := f.readRecord(t, f.awaitEnding(t))
	if n := len(joined(events, "i")); n < 10_000_000 {
		t.Errorf("%d bytes of input were recorded", n)
	}
	resizes := 0
	for _, e := range events {
		if e.code == "r" {
			resizes++
		}
	}
	if resizes > 1000 {
		t.Errorf("%d resizes were recorded", resizes)
	}
}
