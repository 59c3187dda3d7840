package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// TestMain makes the test binary act as sluice: scripts run it, and so do the children that it starts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main})
}

// TestScripts runs testdata/script/*.txtar: what a person types, and what is printed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"eventually": eventually,
			"sshkey":     sshkey,
			"fixture":    fixture,
			"setdigest":  setdigest,
			"tour":       tour,
			"guide":      guide,
			"quickstart": quickstart,
			"listener":   listener,
			"printed":    printed,
			"mailserver": mailserver,
			"narrow":     narrow,
			"form":       form,
		},
	})
}

// setup gives a script its own home and author, and nothing of the developer's.
func setup(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
	env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	env.Setenv("NO_COLOR", "1")
	fixtures, err := filepath.Abs("../../fixtures")
	if err != nil {
		return err
	}
	env.Setenv("FIXTURES", fixtures)
	for name, value := range map[string]string{"NAME": "Kim", "EMAIL": "kim@example.com"} {
		env.Setenv("GIT_AUTHOR_"+name, value)
		env.Setenv("GIT_COMMITTER_"+name, value)
	}
	return nil
}

// narrow WIDTH EXCEPT COMMAND…: on a terminal of that width, the command prints no wider line but those that match.
func narrow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: narrow WIDTH EXCEPT COMMAND…")
	}
	width, err := strconv.Atoi(args[0])
	ts.Check(err)
	except := regexp.MustCompile(args[1])
	ts.Setenv("COLUMNS", args[0])
	ts.Check(ts.Exec(args[2], args[3:]...))
	ts.Setenv("COLUMNS", "")
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !except.MatchString(line) {
			ts.Fatalf("%v on %d columns: a line has %d: %s", args[2:], width, n, line)
		}
	}
}

// exits CODE COMMAND…: the command ends with exactly this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := new(exec.ExitError)
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// eventuallyTimeout bounds how long a script waits. It is no assertion about speed.
const eventuallyTimeout = 4 * time.Minute

// eventually PATTERN COMMAND…: the command is repeated until it succeeds and prints the pattern.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN COMMAND…")
	}
	pattern, err := regexp.Compile("(?s)" + args[0])
	ts.Check(err)
	pause := 50 * time.Millisecond
	for end := time.Now().Add(eventuallyTimeout); ; time.Sleep(pause) {
		pause = min(2*pause, time.Second)
		err := ts.Exec(args[1], args[2:]...)
		said := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(said) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s never printed %q; at last %v: %s", strings.Join(args[1:], " "), args[0], err, said)
		}
	}
}

// sshkey FILE [VARIABLE]: makes a private SSH key, and sets the variable to the public key.
func sshkey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: sshkey FILE [VARIABLE]")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
	if len(args) == 2 {
		key, err := ssh.NewPublicKey(public)
		ts.Check(err)
		ts.Setenv(args[1], strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
}

// listener VARIABLE FILE: sets the variable to the URL of a server that appends what is posted to it to the file.
func listener(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: listener VARIABLE FILE")
	}
	file := ts.MkAbs(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		f, openErr := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err = errors.Join(err, openErr); err == nil {
			_, err = f.Write(append(body, '\n'))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// printed FILE: writes the commands that the last command printed, which are indented, to a file: as one pastes them.
func printed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: printed FILE")
	}
	var commands strings.Builder
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			commands.WriteString(command)
		}
	}
	if commands.Len() == 0 {
		ts.Fatalf("the last command printed no command")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(commands.String()), 0o600))
}

// fixture NAME DIR: copies a folder of fixtures.
func fixture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fixture NAME DIR")
	}
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(filepath.Join(sourceDir, "..", "..", "fixtures", args[0]))))
}

// setdigest VARIABLE: sets the variable to the first digest that the last command printed.
func setdigest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: setdigest VARIABLE")
	}
	found := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(ts.ReadFile("stdout"))
	if found == "" {
		ts.Fatalf("the last command printed no digest")
	}
	ts.Setenv(args[0], found)
}

// sourceDir is this package's folder, where go test starts the binary.
var sourceDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()
