// Package cli has what all verbs share: streams and output forms, errors with a next step and exit codes, the root of
// the tree of verbs, and checks of the command line.
//
// The package does no verb's work, and knows nothing of the engine: the program for cells alone has it too. An App
// serves one run of the command, in one goroutine; only its logger may be used by several.
package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// App holds what every verb needs for one run: the streams, the environment, and the shared flags.
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

	DryRun      bool                         // --dry-run, where a verb has it
	Complete    func(nextStep string) string // see NextSteps; nil: next steps are complete
	Misdirected error                        // why there was no help to show
	Hints       Hints                        // of the verbs that this command has; the zero value: none

	FlagsRepo   string // --flags-repo, where a verb has it
	FlagsBranch string // --flags-branch
}

// NewApp returns an App for one run.
func NewApp(env []string, stdin io.Reader, stdout, stderr io.Writer) *App {
	a := &App{Env: env, Stdin: stdin}
	a.Stdout, a.Stderr = newPrinter(stdout, a.Getenv), newPrinter(stderr, a.Getenv)
	return a
}

// CollectLazily makes the garbage collector lazy, for a command that ends soon: collecting takes a quarter of its time
// otherwise. What the environment says for Go's runtime counts instead.
func CollectLazily(a *App) {
	if a.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// Getenv returns a variable of the environment that the run was given; of equal names, the last counts.
func (a *App) Getenv(name string) string {
	for _, e := range slices.Backward(a.Env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// Logger returns a logger to standard error for warnings and worse: in words on a terminal, as JSON lines
// elsewhere.
func (a *App) Logger() zerolog.Logger {
	var w io.Writer = a.Stderr.Writer
	if a.Stderr.Terminal {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !a.Stderr.colours, TimeFormat: "15:04:05",
			FormatMessage: func(message any) string { // fields are in quotes
				text, _ := message.(string)
				return string(a.Stderr.Paint(Bold, text))
			}}
	}
	w = cleanLog{w}
	return zerolog.New(w).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

// cleanLog passes a log's lines on, in JSON, as they are safe to show (R54).
type cleanLog struct{ to io.Writer }

func (l cleanLog) Write(line []byte) (int, error) {
	_, err := l.to.Write(cleantext.LogLine(line))
	return len(line), err
}

const (
	GroupAuthor = "author"
	GroupDecide = "decide"
	GroupFlags  = "flags"
	GroupLook   = "look"
	GroupRun    = "run"
	GroupCells  = "cells"
)

// ReadFile reads up to most+1 bytes of a file, or of standard input for -.
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

// ReadSmallFile reads a small file, such as a key or a list.
func ReadSmallFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// AgeKeyVariable names the file with age keys where no flag does; sops reads it too.
const AgeKeyVariable = "SOPS_AGE_KEY_FILE"

// ReadOwnValues reads the values of parameters that a cell's owner sets.
func ReadOwnValues(file string) (map[string]any, error) {
	data, err := ReadSmallFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --values: %w", err)
	}
	doc, faults := manifest.Decode[map[string]any](file, data)
	if len(faults) > 0 {
		return nil, Fail(errors.New(faults[0].String()), "--values is a YAML mapping of parameters to values")
	}
	return doc.Value, nil
}

// StateDir returns the agent's state folder, from --state, the environment or --dir; empty: none is named.
func (a *App) StateDir(flag, dir string) string {
	if dir != "" {
		dir = filepath.Join(dir, ".agent")
	}
	return cmp.Or(flag, a.Getenv("SLUICE_STATE"), dir)
}

// CacheDir returns the folder of a kind of thing that can be made again: in the user's cache or, without one, in
// --data; empty if there is neither. The folder may be missing.
func CacheDir(a *App, kind string) string {
	cache := a.Getenv("XDG_CACHE_HOME")
	home := a.Getenv("HOME")
	switch {
	case cache != "":
		return filepath.Join(cache, "sluice", kind)
	case home != "":
		return filepath.Join(home, ".cache", "sluice", kind)
	case a.Data != "":
		return filepath.Join(a.Data, kind)
	}
	return ""
}

// ExecutablePath returns the path of this program, for child processes.
func ExecutablePath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return self, nil
}

// WithoutGitEnv returns env without the variables that git sets for its hooks, which locate the repository and
// forbid changes of refs.
func WithoutGitEnv(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "GIT_") {
			out = append(out, e)
		}
	}
	return out
}
