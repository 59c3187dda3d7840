package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitBlocked = 3
)

// failure is an error that ends a verb: what went wrong, what to do next, and the exit code.
type failure struct {
	err  error
	next string // without "next: "; empty: nothing useful to say
	code int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errSilent ends a verb with exit code 1 after it has printed its own answer.
var errSilent = errors.New("already said")

// usage is a wrong command line for cmd.
func usage(cmd *cobra.Command, format string, args ...any) error {
	path := strings.TrimPrefix(cmd.CommandPath()+" ", "sluice ")
	next := "sluice help " + path
	if path != "" {
		next = cmd.UseLine() + "    (sluice help " + strings.TrimSpace(path) + " tells more)"
	}
	return &failure{err: fmt.Errorf("%s"+format, append([]any{verb(cmd)}, args...)...), next: strings.TrimSpace(next), code: exitUsage}
}

// verb is cmd's name as errors begin with it.
func verb(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return ""
	}
	return strings.TrimPrefix(cmd.CommandPath(), "sluice ") + ": "
}

// fail is an error with the next step.
func fail(err error, next string, args ...any) error {
	return &failure{err: err, next: fmt.Sprintf(next, args...), code: exitFailed}
}

// blocked says that a gate or a hold is closed.
func blocked(err error, next string, args ...any) error {
	return &failure{err: err, next: fmt.Sprintf(next, args...), code: exitBlocked}
}

// report prints err as people read it and gives the exit code.
func (a *app) report(err error) int {
	if err == nil {
		if err = a.stdout.failed(); err == nil {
			return exitDone
		}
		err = fail(fmt.Errorf("print the answer: %w", err), "what was to be done is done; only the answer is not complete")
	}
	if errors.Is(err, errSilent) {
		return exitFailed
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitFailed}
		if errors.Is(err, context.Canceled) {
			f.next = "it was interrupted; running it again is safe"
		}
	}
	a.stderr.line("sluice: %s", strings.TrimSpace(err.Error()))
	if f.next != "" {
		a.stderr.line("next: %s", f.next)
	}
	return f.code
}

// arguments gives cobra a check of how many arguments there are; max < 0: any number.
func arguments(least, most int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd, "%s is missing", want)
		case most == 0 && len(args) > 0:
			return usage(cmd, "takes no arguments, got %q", args[0])
		case most >= 0 && len(args) > most:
			return usage(cmd, "too many arguments from %q on, wants %s", args[most], want)
		}
		return nil
	}
}
