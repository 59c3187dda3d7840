package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// A stepper is an error that knows what a person can do next.
type stepper interface {
	error
	NextStep() (next string, faults []releases.Fault) // empty: none; faults are shown with the error
}

// stepError is the stepper of this package.
type stepError struct {
	error
	next string
}

func (e *stepError) Unwrap() error                        { return e.error }
func (e *stepError) NextStep() (string, []releases.Fault) { return e.next, nil }

// Fail returns err with the next step.
func Fail(err error, next string, args ...any) error {
	return &stepError{err, fmt.Sprintf(next, args...)}
}

// NextStep returns the next step of an error, and faults that are to be shown with it; empty: it has none.
func NextStep(err error) (next string, faults []releases.Fault) {
	var known stepper
	if errors.As(err, &known) {
		return known.NextStep()
	}
	return "", nil
}

// guessError is an error whose next step is a guess: that of a known cause takes its place.
type guessError struct{ error }

func (g guessError) Unwrap() error { return g.error }

// Guess returns err with the next step that helps most often; where the cause is known, that of the cause is shown.
func Guess(err error, next string, args ...any) error { return Fail(guessError{err}, next, args...) }

// Blocked returns an error for a closed gate or a hold.
func Blocked(err error, next string, args ...any) error {
	return &exitError{Fail(err, next, args...), ExitBlocked}
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
	next, faults := NextStep(err)
	var known stepper
	if !errors.As(err, &known) && errors.Is(err, context.Canceled) {
		next = "it was interrupted; running it again is safe"
	}
	exit := &exitError{code: ExitFailed}
	_ = errors.As(err, &exit)
	if exit.code == ExitFailed {
		at := a.findSite()
		hint := a.machineHint(err, at)
		if guessed := new(guessError); hint == "" && (next == "" || errors.As(err, guessed)) {
			hint = a.causeHint(err, at)
		}
		next = cmp.Or(hint, next)
	}
	a.ReportFaults(faults)
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
	if slices.ContainsFunc(faults, func(f releases.Fault) bool { return !f.Warning }) {
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
