package debugger

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// newLogsFixture permits to read one file, which is returned, and pods.
func newLogsFixture(t *testing.T, change func(*debug.Permission)) (*fixture, string) {
	t.Helper()
	f := newFixture(t, debug.Logs, change)
	name := filepath.Join(t.TempDir(), "access.log")
	f.session.logs = func() diagnostics.Logs {
		return diagnostics.Logs{{Name: "access", File: name},
			{Name: "deployment/web", Pods: &diagnostics.Pods{Workload: "deployment/web"}}}
	}
	return f, name
}

func appendLine(t *testing.T, name, line string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// The scope logs reads what was permitted and nothing else; what a terminal would obey is shown.
func TestLogs(t *testing.T) {
	t.Parallel()
	f, name := newLogsFixture(t, nil)
	appendLine(t, name, "oldest")
	appendLine(t, name, "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J")
	appendLine(t, name, "newest")
	c := f.mustConnect(t)
	for line, want := range map[string]struct {
		text string
		code int
	}{
		"logs":                       {"access\n    reads: the file " + name, 0},
		"help":                       {"reads: the pods of deployment/web", 0},
		"logs access":                {"oldest\nred \\x1b]0;title\\x07 \\x9b2J\nnewest\n", 0},
		"logs access --tail 1":       {"newest\n", 0},
		"logs --tail=1 access":       {"newest\n", 0},
		"logs web":                   {"this cell is no cluster", codeRefused},
		"logs ../shadow":             {"no log", codeUsage},
		"logs /etc/passwd":           {"no log", codeUsage},
		"logs access --tail 1;id":    {"write logs NAME", codeUsage},
		"logs access --since 10m":    {"use --tail", codeUsage},
		"logs access --container=x":  {"for logs of pods", codeUsage},
		"logs access --tail 1000000": {"1 to 10000", codeUsage},
		"id":                         {"reads logs and nothing else", codeUsage},
		"greet who=world":            {"reads logs and nothing else", codeUsage},
		"sh -c id":                   {"reads logs and nothing else", codeUsage},
	} {
		out, code := output(t, c, line)
		if !strings.Contains(out, want.text) || code != want.code {
			t.Errorf("%q: %.300q (%d)", line, out, code)
		}
		if strings.HasSuffix(line, "1") && out != "newest\n" {
			t.Errorf("%q: %q", line, out)
		}
	}
	_ = c.Close()
	if out := joined(f.readRecord(t, f.awaitEnding(t)), "o"); !strings.Contains(out, "newest\n") {
		t.Errorf("the record lacks what was read: %.300q", out)
	}
}

// A log is followed until the person types ^C, and again; the session goes on, and its end ends what follows (D2).
func TestD2LogsFollow(t *testing.T) {
	t.Parallel()
	f, name := newLogsFixture(t, nil)
	appendLine(t, name, "first")
	_, in, terminal := openShell(t, f.mustConnect(t))
	out := bufio.NewReader(terminal)
	expect := func(text string) {
		t.Helper()
		seen := ""
		for !strings.HasSuffix(seen, text) {
			b, err := out.ReadByte()
			if err != nil {
				t.Fatalf("%q instead of %q: %v", seen, text, err)
			}
			seen += string(b)
		}
	}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(in, text); err != nil {
			t.Fatal(err)
		}
	}
	expect("acme> ")
	for _, line := range []string{"second", "third"} {
		say("logs access --follow --tail 1\r")
		expect("\n") // the echo of the line
		appendLine(t, name, line)
		expect(line + "\r\n")
		say("\x03\x03") // the second one empties the prompt's line
		expect("acme> ")
	}
	say("logs access --follow --tail 1\r")
	expect("third\r\n")
	if err := f.folder.Stop(f.id); err != nil {
		t.Fatal(err)
	}
	if e := f.awaitEnding(t); e.why != debugfolder.ErrStopped.Error() {
		t.Error(e.why)
	}
}

// The owner is asked for each read, if the permission is so.
func TestLogsPerCommand(t *testing.T) {
	t.Parallel()
	f, name := newLogsFixture(t, func(p *debug.Permission) { p.PerCommand = true })
	appendLine(t, name, "one line")
	c := f.mustConnect(t)
	go func() {
		for t.Context().Err() == nil {
			if p, err := f.folder.Pending(f.id); err == nil && p != nil {
				_ = f.folder.Answer(f.id, p.Number, strings.Join(p.Command, " ") == "logs access")
			}
			time.Sleep(5 * time.Millisecond) // between two looks
		}
	}()
	if out, code := output(t, c, "logs access"); code != 0 || !strings.Contains(out, "one line\n") {
		t.Errorf("%q (%d)", out, code)
	}
	if out, code := output(t, c, "logs access --tail 5"); code != codeRefused || strings.Contains(out, "one line") {
		t.Errorf("%q (%d)", out, code)
	}
}

// What is read has a limit.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	f, name := newLogsFixture(t, nil)
	line := strings.Repeat("x", 4<<10) + "\n"
	if err := os.WriteFile(name, []byte(strings.Repeat(line, 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := output(t, f.mustConnect(t), "logs access --tail 10000")
	if code != codeEnded || !strings.Contains(out, "wrote more than 16777216 bytes") || len(out) > 17<<20 {
		t.Errorf("%d bytes (%d): %.200q", len(out), code, out[max(0, len(out)-200):])
	}
}

// A file that is followed is followed by its name: what is put in its place, or emptied, is read on.
func TestLogFileIsFollowedByName(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "access.log")
	appendLine(t, name, "too old")
	appendLine(t, name, "last")
	from, to := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &logFile{open: func() (*os.File, error) { return openLog(nil, name) }, out: to, say: func(string) {}}
	done := make(chan error, 1)
	go func() {
		err := l.read(ctx, 1, true)
		_ = to.Close()
		done <- err
	}()
	lines := bufio.NewScanner(from)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, "last"},
		{func() error { appendLine(t, name, "next"); return nil }, "next"},
		{func() error { // as logrotate does
			appendLine(t, name, "before")
			return os.Rename(name, name+".1")
		}, "before"},
		{func() error { appendLine(t, name, "after"); return nil }, "after"},
		{func() error {
			err := os.Truncate(name, 0)
			appendLine(t, name, "x")
			return err
		}, "x"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || lines.Text() != step.want {
			t.Fatalf("%q instead of %q", lines.Text(), step.want)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// No link leads to another file than the one that was permitted, and nothing but a regular file is read.
func TestLogFileIsTheOneThatWasNamed(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	appendLine(t, filepath.Join(dir, "secret"), "secret")
	for _, link := range [][2]string{{filepath.Join(dir, "secret"), "link"}, {dir, "folder"}, {"nowhere", "dangling"},
		{"loop", "loop"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"link": errLinked.Error(), "folder/secret": errLinked.Error(),
		"dangling": errLinked.Error(), "loop": errLinked.Error(), "loop/secret": errLinked.Error(),
		"pipe": "no regular file", "secret/x": "not a directory", "none": "no such file", ".": "no regular file"} {
		f, err := openLog(nil, dir+"/"+name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = f.Close()
		}
	}
	f, err := openLog(nil, filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// A file is opened with the rights of the user that the owner chose, and the agent keeps its own.
func TestLogFileIsOpenedAsTheUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to open files as another user")
	}
	dir, err := os.MkdirTemp("/var/tmp", "sluice-log-") // whose folders all may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mine, theirs, groups := dir+"/mine", dir+"/theirs", dir+"/groups"
	for _, name := range []string{mine, theirs, groups} {
		appendLine(t, name, "x")
	}
	//nolint:gosec // for them
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(theirs, 4711, 4711), os.Chown(groups, 0, 4712),
		os.Chmod(groups, 0o640)); err != nil {
		t.Fatal(err)
	}
	user := &process.User{ID: 4711, Group: 4711, Groups: []uint32{4712}}
	for range 20 { // on other threads, too
		if f, err := openLog(user, mine); !errors.Is(err, os.ErrPermission) {
			t.Fatal(f, err)
		}
		for _, name := range []string{theirs, groups} {
			f, err := openLog(user, name)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
		f, err := openLog(nil, mine)
		if err != nil {
			t.Fatal("the agent lost its rights", err)
		}
		_ = f.Close()
	}
}
