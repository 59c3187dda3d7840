package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// explained matches what a document says about a command, after two spaces.
var explained = regexp.MustCompile(`\s{2,}.*$`)

// quickstart FILE HEADING: runs the first block below a heading of a document, as one shell would, on a port of its
// own. The line that builds the program is left out. It prints what the last line prints.
func quickstart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: quickstart FILE HEADING")
	}
	text, err := os.ReadFile(filepath.Join(sourceDir, "..", "..", args[0]))
	ts.Check(err)
	_, below, _ := strings.Cut(string(text), "\n## "+args[1]+"\n")
	_, block, _ := strings.Cut(below, "```\n")
	block, _, _ = strings.Cut(block, "```")
	var lines []string
	for line := range strings.Lines(block) {
		if line = explained.ReplaceAllString(strings.TrimSpace(line), ""); !strings.HasPrefix(line, "make ") {
			lines = append(lines, line)
		}
	}
	if len(lines) < 5 || len(lines) > 7 { // and make
		ts.Fatalf("the block has %d lines, want at most 8 with the one that builds: %q", len(lines)+1, lines)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	address := l.Addr().String()
	ts.Check(l.Close())
	script := strings.ReplaceAll(strings.Join(lines, "\n"), "127.0.0.1:7600", address)
	script = strings.ReplaceAll(script, "sluice serve ", "sluice serve --listen "+address+" ")
	c := exec.Command("sh", "-ec", script+" >last.out") //nolint:gosec,noctx // the document's; it is ended below
	c.Dir, c.SysProcAttr = ts.MkAbs("."), &syscall.SysProcAttr{Setpgid: true}
	for _, name := range []string{"HOME", "PATH", "XDG_CACHE_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL",
		"GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "TMPDIR"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	var said strings.Builder
	c.Stderr = &said
	ts.Check(c.Start())
	ts.Defer(func() { // the background programs are in the shell's group
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGINT)
		time.Sleep(time.Second)
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	})
	err = c.Wait()
	printed := ts.ReadFile("last.out")
	if err != nil {
		ts.Fatalf("%v\n%s\n%s", err, said.String(), printed)
	}
	fmt.Fprint(ts.Stdout(), printed)
}
