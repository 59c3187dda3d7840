package ownercmd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// output is what a verb printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the output has a text.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(o.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in %q", text, o.String())
		}
	}
}

// ownerScene is a state folder with a request, and the owner's verbs.
type ownerScene struct {
	dir    string
	folder debugfolder.Folder
	id     string
	at     debug.Moment
}

func newOwnerScene(t *testing.T) *ownerScene {
	t.Helper()
	boot, since, ok := clock.ReadMonotonic()
	if !ok {
		t.Fatal("this machine has no clock that no one can set")
	}
	dir := t.TempDir()
	s := &ownerScene{dir: dir, folder: debugfolder.Of(dir), at: debug.Moment{Boot: boot, Since: since}}
	signed := debugtest.NewRequest(t, debugtest.NewSigner(t), nil)
	if _, err := s.folder.Keep(signed, "", s.at, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.id = signed.ID()
	return s
}

// run runs a verb of sluice cell debug, and returns what it printed.
func (s *ownerScene) run(t *testing.T, in io.Reader, out io.Writer, args ...string) error {
	t.Helper()
	a := cli.NewApp(nil, in, out, out)
	a.Output = cli.AsTable
	cmd := cellDebugVerb(a)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--state", s.dir))
	cmd.SetOut(out)
	cmd.SetErr(out)
	return cmd.ExecuteContext(t.Context())
}

func (s *ownerScene) must(t *testing.T, args ...string) string {
	t.Helper()
	var out output
	if err := s.run(t, strings.NewReader(""), &out, args...); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out.String()
}

// The owner sees who asks and what could be run, approves once, and stops; all of it without an agent or a network.
func TestOwnerDecides(t *testing.T) {
	t.Parallel()
	s := newOwnerScene(t)
	declared := diagnostics.List{{Name: "disk", Description: "Free space", Run: []string{"df", "-h"}}}
	if err := s.folder.SaveDeclared(declared); err != nil {
		t.Fatal(err)
	}
	if list := s.must(t, "list"); !strings.Contains(list, s.id) || !strings.Contains(list, "open") {
		t.Error(list)
	}
	shown := s.must(t, "show")
	for _, text := range []string{"ada", "4711", "it hangs", "SHA256:", "not vouched for", "runs: df -h"} {
		if !strings.Contains(shown, text) {
			t.Errorf("no %q in %s", text, shown)
		}
	}
	if err := s.run(t, nil, io.Discard, "approve", s.id, "--for", "2h"); err == nil {
		t.Error("more was permitted than was asked for")
	}
	for _, id := range []string{"", s.id[:4], s.id[:16], strings.Repeat("0", debug.IDLength)} { // D4: no other request
		if err := s.run(t, nil, io.Discard, "approve", id); err == nil {
			t.Errorf("%q was approved", id)
		}
	}
	for _, verb := range []string{"deny", "stop"} {
		if err := s.run(t, nil, io.Discard, verb, ""); err == nil {
			t.Errorf("%s took no ID as one", verb)
		}
	}
	if said := s.must(t, "approve", s.id, "--for", "15m", "--withhold"); !strings.Contains(said, "SHA256:") {
		t.Errorf("the key is not said: %s", said)
	}
	e, err := s.folder.Load(s.id)
	if err != nil || e.Permission.For != 15*time.Minute || !e.Permission.Withhold {
		t.Fatalf("%+v %v", e.Permission, err)
	}
	if err := s.run(t, nil, io.Discard, "approve", s.id); err == nil {
		t.Error("it was approved twice")
	}
	if stopped := s.must(t, "stop"); !strings.Contains(stopped, s.id) {
		t.Error(stopped)
	}
	if _, err := s.folder.Begin(s.id, s.at, time.Now()); err == nil {
		t.Error("a session began after the owner's stop")
	}
}

// Nothing of a session begins a row of the owner's terminal, where the questions of sluice cell debug watch begin.
func TestWatchMarksTheSession(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ columns, said, want string }{
		{"", "free\ncommand 3: df\nlet it run?", "| free\n| command 3: df\n| let it run?\ncommand 2: rm\n"},
		{"12", "0123456789command 3: df", "| 0123456789\n| command 3:\n|  df\ncommand 2:\n  rm\n"},
		{"12", "0123456789\n\tlet\n", "| 0123456789\n| \tle\n| t\ncommand 2:\n  rm\n"},
		{"12", "世世世世世世", "| 世世世世世\n| 世\ncommand 2:\n  rm\n"},
	} {
		var out output
		w := watcher{app: cli.NewApp([]string{"COLUMNS=" + tt.columns}, nil, &out, &out)}
		for _, r := range tt.said { // as it comes, in pieces
			line, err := json.Marshal([]any{0.1, "o", string(r)})
			if err != nil {
				t.Fatal(err)
			}
			w.show(line)
		}
		w.say("command 2: rm")
		if out.String() != tt.want {
			t.Errorf("%q in %s columns is %q, want %q", tt.said, tt.columns, out.String(), tt.want)
		}
	}
}

// What a session shows reaches the owner's terminal as text, and each command waits for the owner's answer.
func TestWatchIsSanitised(t *testing.T) {
	t.Parallel()
	s := newOwnerScene(t)
	s.must(t, "approve", s.id, "--per-command")
	if _, err := s.folder.Begin(s.id, s.at, time.Now()); err != nil {
		t.Fatal(err)
	}
	in, typed := io.Pipe()
	var out output
	done := make(chan error, 1)
	go func() { done <- s.run(t, in, &out, "watch", s.id) }()

	var record bytes.Buffer
	record.WriteString(`{"version": 2, "width": 80, "height": 24}` + "\n")
	for _, event := range [][]any{{0.1, "m", "df\x1b[2J"},
		{0.2, "o", "free \x1b]0;owned\x07\x1b[2J\u009b31m space\r\n"},
		{0.3, "i", "typed"}, {0.4, "o", "\x1b"}, {0.5, "o", "[2Jsplit"}} {
		line, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		record.Write(append(line, '\n'))
	}
	half := record.Len() / 2
	file := s.folder.RecordPath(s.id)
	if err := os.WriteFile(file, record.Bytes()[:half], 0o600); err != nil {
		t.Fatal(err)
	}
	rm := debugfolder.Pending{Number: 1, Command: []string{"rm", "-rf", "/\x1b[2J"}}
	if err := s.folder.Ask(s.id, rm); err != nil {
		t.Fatal(err)
	}
	out.await(t, "let it run?")
	if err := os.WriteFile(file, record.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out.await(t, "split")
	if _, err := io.WriteString(typed, "no\n"); err != nil {
		t.Fatal(err)
	}
	out.await(t, "it does not run")
	if allow, answered, err := s.folder.Answered(s.id, 1); allow || !answered || err != nil {
		t.Error(allow, answered, err)
	}
	if err := s.folder.Ask(s.id, debugfolder.Pending{Number: 2, Command: []string{"df"}}); err != nil {
		t.Fatal(err)
	}
	out.await(t, "command 2: df")
	for _, early := range []string{"y", "y 1", "Y 22"} { // meant for another command, perhaps
		if _, err := io.WriteString(typed, early+"\n"); err != nil {
			t.Fatal(err)
		}
		out.await(t, "not answered: y 2 lets command 2 run")
		if _, answered, err := s.folder.Answered(s.id, 2); answered || err != nil {
			t.Error(early, answered, err)
		}
	}
	if _, err := io.WriteString(typed, "y 2\n"); err != nil {
		t.Fatal(err)
	}
	out.await(t, "it runs")
	if allow, _, err := s.folder.Answered(s.id, 2); !allow || err != nil {
		t.Error(allow, err)
	}
	hash, length, err := debug.HashRecord(bytes.NewReader(record.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	_, identity, _ := ed25519.GenerateKey(rand.Reader)
	seal, err := debug.NewSignedSeal(debug.Seal{Cell: "acme", Request: s.id, Hash: hash, Length: length,
		Why: "the person left"}, identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.folder.End(s.id, seal); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.ContainsAny(text, "\x1b\x07\u009b\r") {
		t.Errorf("what the terminal would obey reached it: %q", text)
	}
	for _, part := range []string{"free ", " space\n", "the session ended: the person left", hash} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
	if n := strings.Count(text, "not answered"); n != 3 {
		t.Errorf("%d of 3 answers to no command were refused: %s", n, text)
	}
	if strings.Contains(text, "typed") {
		t.Error("what the person typed is shown twice")
	}
	if shown := s.must(t, "show", s.id); !strings.Contains(shown, "the file is as the cell sealed it") {
		t.Error(shown)
	}
	if err := os.WriteFile(file, append(record.Bytes(), ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	if shown := s.must(t, "show", s.id); !strings.Contains(shown, "THE FILE WAS CHANGED") {
		t.Error(shown)
	}
	if _, err := os.Stat(filepath.Join(s.dir, debugfolder.FolderName)); err != nil {
		t.Error(err)
	}
}
