package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// step is one thing that a guide has its reader do.
type step struct {
	where   string
	file    string // file to write, with this content; empty: none
	content string
	typed   string   // a command
	prints  []string // expected output of the command, in this order; … matches anything
}

// guide FILE: follows a guide from beginning to end. Fenced blocks that name a file after their language are
// files; in other fenced blocks, lines that begin with $ are commands, followed by their output, in which
// times, commits and spans are ignored. Commands that change nothing are repeated until they print what the
// guide shows. Commands that end with & run until the end.
func guide(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: guide FILE")
	}
	text, err := os.ReadFile(filepath.Join(sourceDir, "..", "..", args[0]))
	ts.Check(err)
	steps := parseGuide(args[0], string(text))
	if len(steps) < 10 {
		ts.Fatalf("%s has only %d steps", args[0], len(steps))
	}
	for _, s := range steps {
		s.run(ts)
	}
}

func parseGuide(name, text string) (steps []step) {
	fence, info := false, ""
	for i, line := range strings.Split(text, "\n") {
		where := fmt.Sprintf("%s:%d", name, i+1)
		if rest, ok := strings.CutPrefix(line, "```"); ok {
			fence, info = !fence, rest
			if _, file, named := strings.Cut(info, " "); fence && named {
				steps = append(steps, step{where: where, file: file})
			}
			continue
		}
		last := len(steps) - 1
		switch typed, ok := strings.CutPrefix(line, "$ "); {
		case !fence:
		case strings.Contains(info, " "):
			steps[last].content += line + "\n"
		case info == "" && ok:
			steps = append(steps, step{where: where, typed: typed})
		case info == "" && last >= 0 && strings.TrimSpace(line) != "":
			steps[last].prints = append(steps[last].prints, line)
		}
	}
	return steps
}

// announcementTime is the time in the guide, which is replaced: the test cannot wait for it.
const announcementTime = "2026-12-01 10:00:00"

func (s step) run(ts *testscript.TestScript) {
	if s.file != "" {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(s.file)), 0o755))
		ts.Check(os.WriteFile(ts.MkAbs(s.file), []byte(s.content), 0o644))
		return
	}
	typed := s.typed
	if zone, err := time.LoadLocation("Europe/Berlin"); err == nil {
		at := time.Now().Add(12 * time.Second).In(zone)
		typed = strings.ReplaceAll(typed, announcementTime, at.Format(time.DateTime))
	}
	if rest, ok := strings.CutPrefix(typed, "export "); ok {
		for _, set := range strings.Fields(rest) {
			name, value, _ := strings.Cut(set, "=")
			ts.Setenv(name, os.Expand(value, scriptVariable(ts)))
		}
		return
	}
	if background, ok := strings.CutSuffix(typed, " &"); ok {
		s.startBackground(ts, background)
		return
	}
	for end := time.Now().Add(eventuallyTimeout); ; time.Sleep(200 * time.Millisecond) {
		err := ts.Exec("sh", "-c", typed)
		missing := s.missingLine(ts.ReadFile("stdout"))
		switch {
		case err == nil && missing == "":
			return
		case err != nil && !isReadOnly(typed):
			ts.Fatalf("%s: %s: %v", s.where, typed, err)
		case !isReadOnly(typed) || time.Now().After(end):
			ts.Fatalf("%s: %s: it does not print %q", s.where, typed, missing)
		}
	}
}

func scriptVariable(ts *testscript.TestScript) func(string) string {
	return func(name string) string {
		if name == "PWD" {
			return ts.MkAbs(".")
		}
		return ts.Getenv(name)
	}
}

// startBackground runs a command until the script ends.
func (s step) startBackground(ts *testscript.TestScript, typed string) {
	words := strings.Fields(os.Expand(typed, scriptVariable(ts)))
	program, err := exec.LookPath(words[0])
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) { // the script's, not the test's
		if at := filepath.Join(dir, words[0]); err == nil || program == "" {
			if _, missing := os.Stat(at); missing == nil {
				program = at
				break
			}
		}
	}
	if program == "" {
		ts.Fatalf("%s: %v", s.where, err)
	}
	var said bytes.Buffer
	c := exec.Command(program, words[1:]...) //nolint:gosec,noctx // the guide's; it is ended below
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), &said, &said
	for _, name := range []string{"HOME", "PATH", "SLUICE_REPO", "SLUICE_FLAGS_REPO", "SLUICE_SERVER",
		"XDG_CACHE_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(c.Start())
	ts.Defer(func() {
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			ts.Logf("%s: %v\n%s", typed, err, said.String())
		}
	})
}

// isReadOnly reports whether a command changes nothing, so that it can be repeated.
func isReadOnly(typed string) bool {
	verbs := []string{"sluice status", "sluice why", "sluice wait", "sluice log", "sluice rollout status",
		"sluice diff",
		"sluice announce show", "sluice announce list",
		"sluice flag show", "sluice flag list", "sluice flag eval", "sluice flag stale"}
	return slices.ContainsFunc(verbs, func(verb string) bool { return strings.HasPrefix(typed, verb) }) ||
		strings.Contains(typed, " log ")
}

// volatilePattern matches output that differs from run to run.
var volatilePattern = regexp.MustCompile(
	`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?|\b\d\d:\d\d(:\d\d)?\b|\b[0-9a-f]{10,40}\b|\b\d+m?s\b`)

func plainText(line string) string {
	return strings.Join(strings.Fields(volatilePattern.ReplaceAllString(line, "*")), " ")
}

// missingLine returns the first line that is not printed, in order; empty: all are.
func (s step) missingLine(printed string) string {
	lines := strings.Split(printed, "\n")
	for _, want := range s.prints {
		parts := strings.Split(plainText(want), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(strings.TrimSpace(parts[i]))
		}
		pattern := regexp.MustCompile("^" + strings.Join(parts, ".*"))
		i := slices.IndexFunc(lines, func(l string) bool { return pattern.MatchString(plainText(l)) })
		if i < 0 {
			return want
		}
		lines = lines[i+1:]
	}
	return ""
}
