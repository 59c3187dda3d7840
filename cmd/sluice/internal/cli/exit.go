package cli

import (
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

// coded is an error that ends a verb with an exit code of its own; others end it with ExitFailed.
type coded struct {
	error
	code int
}

func (c *coded) Unwrap() error { return c.error }

// Ending is an error that ends a verb with an exit code.
func Ending(err error, code int) error { return &coded{err, code} }

// errSilent ends a verb with exit code 1 after it has printed its own answer.
var errSilent = errors.New("already said")

// Fail is an error with the next step.
func Fail(err error, next string, args ...any) error { return edits.Fail(err, next, args...) }

// Blocked says that a gate or a hold is closed.
func Blocked(err error, next string, args ...any) error {
	return &coded{edits.Fail(err, next, args...), ExitBlocked}
}

// Report prints err as people read it and gives the exit code.
func (a *App) Report(err error) int {
	if err == nil {
		if err = a.Stdout.failed(); err == nil {
			return ExitDone
		}
		err = Fail(fmt.Errorf("print the answer: %w", err), "the work is done; only the output is incomplete")
	}
	if errors.Is(err, errSilent) {
		return ExitFailed
	}
	said, end := new(edits.Error), &coded{code: ExitFailed}
	if !errors.As(err, &said) && errors.Is(err, context.Canceled) {
		said.Next = "it was interrupted; running it again is safe"
	}
	_ = errors.As(err, &end)
	a.SayFaults(said.Faults)
	a.Stderr.Line("sluice: %s", strings.TrimSpace(err.Error()))
	if said.Next != "" {
		a.Stderr.Line("next: %s", said.Next)
	}
	return end.code
}

// SayFaults says what is wrong with files, beside the answer.
func (a *App) SayFaults(faults []releases.Fault) {
	for _, f := range faults {
		a.Stderr.Line("%s", f)
	}
}

// PrintFaults prints all faults, a line each; without the -o forms, nothing else.
func PrintFaults(a *App, faults []releases.Fault) error {
	if faults == nil {
		faults = []releases.Fault{}
	}
	done, err := a.Encode(faults)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if !done {
			a.Stdout.Line("%s", f)
		}
	}
	if len(edits.Fatal(faults)) > 0 {
		return errSilent
	}
	return nil
}
