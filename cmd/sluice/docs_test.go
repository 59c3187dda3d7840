package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// documentFiles returns the files in which every command must be valid. The design, the rules and the faults
// are left out: they also speak of what is planned.
func documentFiles(t *testing.T) []string {
	t.Helper()
	root := filepath.Join(sourceDir, "..", "..")
	files := []string{filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md", "fixtures/*/README.md"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	return slices.DeleteFunc(files, func(f string) bool {
		return slices.Contains([]string{"design.md", "rules.md", "faults.md"}, filepath.Base(f))
	})
}

// command is one command line of a document.
type command struct {
	where string // file:line
	text  string
	whole bool // in a block, as it is typed; else mentioned in a sentence
}

var mentioned = regexp.MustCompile("`(sluice [^`]+)`")

// findCommands returns the commands of a document: in fenced blocks, the lines that begin with sluice or $
// sluice, joined where a backslash ends them; elsewhere, the text in backticks.
func findCommands(name, text string) []command {
	var found []command
	fenced := false
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		where := fmt.Sprintf("%s:%d", name, i+1)
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			typed, prompt := strings.CutPrefix(line, "$ ")
			if !strings.HasPrefix(typed, "sluice ") && !prompt {
				continue
			}
			for strings.HasSuffix(typed, `\`) && i+1 < len(lines) {
				i++
				typed = strings.TrimSuffix(typed, `\`) + strings.TrimSpace(lines[i])
			}
			found = append(found, command{where, typed, true})
		default:
			for _, m := range mentioned.FindAllStringSubmatch(line, -1) {
				found = append(found, command{where, m[1], false})
			}
		}
	}
	return found
}

// splitCommandLine splits a command line as a shell does, as far as documents need: with quotes, and ending at
// a comment, a pipe, a redirection, or two spaces, after which documents explain.
func splitCommandLine(line string) []string {
	var out []string
	var word strings.Builder
	quote, begun := rune(0), false
	end := func() {
		if begun {
			out = append(out, word.String())
			word.Reset()
			begun = false
		}
	}
	for i, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, begun = r, true
		case r == ' ':
			if strings.HasPrefix(line[i:], "  ") {
				end()
				return out
			}
			end()
		case strings.ContainsRune("|><;&#", r) && !begun:
			return out
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return out
}

// TestDocumentedCommands checks that each command in the documents, and in the verbs' own examples, is valid:
// verb, flags and, in a block, arguments.
func TestDocumentedCommands(t *testing.T) {
	var all []command
	for _, file := range documentFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, findCommands(filepath.Base(file), string(text))...)
	}
	for _, verb := range allVerbs(root(cli.NewApp(nil, nil, io.Discard, io.Discard))) {
		for line := range strings.Lines(verb.Example) {
			all = append(all, command{verb.CommandPath() + " --help", strings.TrimSpace(line), true})
		}
	}
	checked := 0
	for _, c := range all {
		args := splitCommandLine(c.text)
		if len(args) < 2 || args[0] != "sluice" {
			continue
		}
		checked++
		if err := checkCommandLine(args[1:], c.whole); err != nil {
			t.Errorf("%s: %s: %v", c.where, c.text, err)
		}
	}
	if checked < 30 {
		t.Errorf("only %d commands were found: the documents have more", checked)
	}
}

func allVerbs(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, below := range root.Commands() {
		all = append(all, allVerbs(below)...)
	}
	return all
}

var placeholder = regexp.MustCompile(`[\[\]|…]`)

// checkCommandLine returns what is wrong with a command line. Of a synopsis with brackets, only the verb is
// checked.
func checkCommandLine(args []string, whole bool) error {
	top := root(cli.NewApp(nil, nil, io.Discard, io.Discard))
	top.InitDefaultCompletionCmd()
	top.InitDefaultHelpCmd()
	verb, rest, err := top.Find(args)
	if err != nil {
		return err
	}
	if verb == top {
		return fmt.Errorf("there is no such verb")
	}
	if slices.ContainsFunc(rest, placeholder.MatchString) {
		return nil
	}
	if err := verb.ParseFlags(rest); err != nil {
		return err
	}
	if whole && verb.Args != nil {
		return verb.Args(verb, verb.Flags().Args())
	}
	return nil
}

func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		`sluice hold x --reason "just trying"`:         `sluice,hold,x,--reason,just trying`,
		`sluice init releases      a repository`:       `sluice,init,releases`,
		`sluice plan -o json | jq .`:                   `sluice,plan,-o,json`,
		`sluice status --watch # until it is stopped`:  `sluice,status,--watch`,
		`sluice agent --health "a | b" --dir x > file`: `sluice,agent,--health,a | b,--dir,x`,
	} {
		if got := strings.Join(splitCommandLine(line), ","); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

// tour FILE: runs, in order, the commands of a document that use what the demo left; each must succeed.
func tour(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tour FILE")
	}
	text, err := os.ReadFile(filepath.Join(sourceDir, "..", "..", args[0]))
	ts.Check(err)
	ran := 0
	for _, c := range findCommands(args[0], string(bytes.ReplaceAll(text, []byte("\r"), nil))) {
		if !c.whole || !strings.Contains(c.text, " .demo/") {
			continue
		}
		ran++
		if err := ts.Exec("sh", "-c", c.text); err != nil {
			ts.Fatalf("%s: %s: %v", c.where, c.text, err)
		}
	}
	if ran == 0 {
		ts.Fatalf("%s has no command that looks at what the demo left", args[0])
	}
}
