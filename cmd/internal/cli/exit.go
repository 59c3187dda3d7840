package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/releases"
)

// Exit codes.
const (
	ExitDone    = 0
	ExitFailed  = 1
	ExitUsage   = 2
	ExitBlocked = 3
)

// exitError ends a verb with an exit code of its own; other errors end it with ExitFailed.
type exitError struct {
	error
	code int
}

func (c *exitError) Unwrap() error { return c.error }

// WithExitCode returns err with an exit code.
func WithExitCode(err error, code int) error { return &exitError{err, code} }

// errReported ends a verb with ExitFailed and prints nothing more.
var errReported = errors.New("already said")

// Fail returns err with the next step.
func Fail(err error, next string, args ...any) error { return edits.Fail(err, next, args...) }

// guessError is an error whose next step is a guess: that of a known cause takes its place.
type guessError struct{ error }

func (g guessError) Unwrap() error { return g.error }

func guess(err error, next string, args ...any) error {
	return edits.Fail(guessError{err}, next, args...)
}

// Blocked returns an error for a closed gate or a hold.
func Blocked(err error, next string, args ...any) error {
	return &exitError{edits.Fail(err, next, args...), ExitBlocked}
}

// ReportError prints err for people and returns the exit code.
func (a *App) ReportError(err error) int {
	if err == nil {
		if err = a.Stdout.writeError(); err == nil {
			return ExitDone
		}
		err = Fail(fmt.Errorf("print the answer: %w", err), "the work is done; only the output is incomplete")
	}
	if errors.Is(err, errReported) {
		return ExitFailed
	}
	shown, exit := new(edits.Error), &exitError{code: ExitFailed}
	if !errors.As(err, &shown) && errors.Is(err, context.Canceled) {
		shown.Next = "it was interrupted; running it again is safe"
	}
	_ = errors.As(err, &exit)
	next := shown.Next
	if exit.code == ExitFailed {
		at := a.findSite()
		hint := machineHint(err, at)
		if guessed := new(guessError); hint == "" && (next == "" || errors.As(err, guessed)) {
			hint = causeHint(err, at)
		}
		next = cmp.Or(hint, next)
	}
	a.ReportFaults(shown.Faults)
	a.Stderr.PrintText("sluice: ", strings.TrimSpace(err.Error()))
	if next != "" {
		a.Stderr.PrintLine(nextPrefix+"%s", CompleteNext(a, next))
	}
	return exit.code
}

// ReportFaults prints faults to standard error, beside the verb's output.
func (a *App) ReportFaults(faults []releases.Fault) {
	for _, f := range faults {
		a.Stderr.PrintLine("%s", f)
	}
}

// PrintNotes prints what a repository does not ask for to standard error, beside the verb's output.
func (a *App) PrintNotes(notes []string) {
	for _, note := range notes {
		a.Stderr.PrintLine("note: %s", note)
	}
}

// PrintFaults prints faults as the verb's output, a line each or in the form of -o.
func PrintFaults(a *App, faults []releases.Fault) error {
	if faults == nil {
		faults = []releases.Fault{}
	}
	done, err := a.PrintEncoded(faults)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if !done {
			a.Stdout.PrintLine("%s", f)
		}
	}
	if len(edits.Fatal(faults)) > 0 {
		return errReported
	}
	return nil
}

// CompleteNext returns a next step whose commands work when they are pasted.
func CompleteNext(a *App, next string) string {
	if a.Complete == nil {
		return next
	}
	return a.Complete(next)
}
