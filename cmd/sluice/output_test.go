package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// fullDisk accepts room bytes and no more.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.room, len(b))
	d.room -= n
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// Help fits the terminal: what flags are for is wrapped beside their names, or below them.
func TestHelpOfFlagsFits(t *testing.T) {
	const columns = 60
	for _, args := range [][]string{{"help", "freeze"}, {"hotfix", "--help"}} {
		var help bytes.Buffer
		if code := run(context.Background(), args, append(os.Environ(), fmt.Sprintf("COLUMNS=%d", columns)), nil,
			&help, &help); code != cli.ExitDone {
			t.Fatalf("%v: exit code %d: %s", args, code, help.String())
		}
		_, flags, _ := strings.Cut(help.String(), "\nFlags:\n")
		flags, _, _ = strings.Cut(flags, "\nGlobal Flags:\n")
		if !strings.Contains(flags, "--dry-run") {
			t.Fatalf("%v: %s", args, help.String())
		}
		for line := range strings.Lines(flags) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%v: a line has %d columns: %s", args, n, line)
			}
		}
	}
}

// All help fits the terminal but for examples, which are copied, and words that are wider than the terminal. On a wide
// one, paragraphs get 100 columns.
func TestHelpFits(t *testing.T) {
	for _, columns := range []int{60, 80, 100, 200} {
		var help bytes.Buffer
		env := append(os.Environ(), fmt.Sprintf("COLUMNS=%d", columns))
		forEachCommand(root(cli.NewApp(env, nil, &help, &help)), func(cmd *cobra.Command) {
			help.Reset()
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			examples := false
			for line := range strings.Lines(help.String()) {
				line = strings.TrimSuffix(line, "\n")
				examples = line == "Examples:" || examples && line != ""
				n := utf8.RuneCountInString(line)
				if n > columns && !examples && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%s on %d columns: a line has %d: %s", cmd.CommandPath(), columns, n, line)
				}
				if n > 100 && !strings.HasPrefix(line, " ") {
					t.Errorf("%s on %d columns: prose has %d: %s", cmd.CommandPath(), columns, n, line)
				}
			}
		})
	}
}

func forEachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, child := range cmd.Commands() {
		forEachCommand(child, do)
	}
}

// Output that is cut short is a failure, in every form.
func TestAnswerThatCannotBeWrittenFails(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"version", "-o", "json"}, {"completion", "bash"}} {
		for _, room := range []int{0, 3} {
			var said bytes.Buffer
			if code := run(context.Background(), args, os.Environ(), nil, &fullDisk{room},
				&said); code != cli.ExitFailed {
				t.Errorf("%v: exit code %d, want %d", args, code, cli.ExitFailed)
			}
			if !strings.Contains(said.String(), "no space left on device") {
				t.Errorf("%v: said %q", args, said.String())
			}
		}
	}
}
