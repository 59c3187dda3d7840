package debugger

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
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
func TestLogsFollow(t *testing.T) {
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
