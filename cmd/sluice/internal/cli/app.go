// Package cli is what the verbs of sluice share: streams and output forms, errors with a next step and exit codes, the
// repositories and the store as the command line names them, questions to a control plane, and commits in the caller's name.
//
// It knows no verb. An App serves one run of the command, in one goroutine; only its logger may be used by several.
package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// App is what every verb has: the streams, the environment, and the flags that all share. One app serves one run.
type App struct {
	Env    []string
	Stdin  io.Reader
	Stdout Printer
	Stderr Printer

	Repo     string // --repo
	Branch   string // --branch; empty: the repository's HEAD, or main
	Data     string // --data
	Database string // --database; empty: the store is in data
	Output   string // -o: AsTable, AsJSON or AsYAML
	Server   string // --server, where a verb has it

	FlagsRepo   string // --flags-repo, where a verb has it
	flagsBranch string // --flags-branch
}

// NewApp is for one run, with that environment and those streams.
func NewApp(env []string, stdin io.Reader, stdout, stderr io.Writer) *App {
	a := &App{Env: env, Stdin: stdin}
	a.Stdout, a.Stderr = newPrinter(stdout, a.Getenv), newPrinter(stderr, a.Getenv)
	return a
}

// Getenv looks in the environment that run was given; the last of equal names counts.
func (a *App) Getenv(name string) string {
	for _, e := range slices.Backward(a.Env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// Logger writes to standard error, warnings and worse: in words on a terminal, as JSON lines elsewhere.
func (a *App) Logger() zerolog.Logger {
	var w io.Writer = a.Stderr.Writer
	if a.Stderr.Terminal {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !a.Stderr.colours, TimeFormat: "15:04:05"}
	}
	return zerolog.New(w).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

const (
	GroupAuthor = "author"
	GroupDecide = "decide"
	GroupFlags  = "flags"
	GroupLook   = "look"
	GroupRun    = "run"
	GroupCells  = "cells"
)

// ReadFile reads a file, or standard input for -, up to one byte more than most.
func (a *App) ReadFile(file string, most int64) ([]byte, error) {
	in := a.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, most+1))
}

// ReadSmallFile reads a small file: a key, a list.
func ReadSmallFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// StateDir is the agent's folder as far as it is named.
func (a *App) StateDir(flag, dir string) string {
	if dir != "" {
		dir = filepath.Join(dir, ".agent")
	}
	return cmp.Or(flag, a.Getenv("SLUICE_STATE"), dir)
}

// ExecutablePath is this program, for child processes.
func ExecutablePath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return self, nil
}

// WithoutGitEnv is env without what git tells its hooks: where they are, and that refs must not change.
func WithoutGitEnv(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "GIT_") {
			out = append(out, e)
		}
	}
	return out
}
