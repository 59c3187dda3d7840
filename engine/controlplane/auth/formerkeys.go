package auth

import (
	"context"
	"sync"
	"time"
)

// Facts keeps small values by name, durably. SetFact replaces a value if it still is before.
type Facts interface {
	Fact(ctx context.Context, name string) (string, error)
	SetFact(ctx context.Context, name, before, value string) error
}

// noteInterval is how often a cell's former key is noted: its agent asks every few minutes.
const noteInterval = time.Minute

// formerKeyFact is the name of the fact that says when a former key of a cell was refused.
func formerKeyFact(cell string) string { return "former-key/" + cell }

// formerKeys notes, for people, that a machine asks with a key that its cell had before: it was restored from a
// snapshot that is older than the last change of the key, or is a copy.
type formerKeys struct {
	facts Facts // nil: nothing is noted

	mu    sync.Mutex
	noted map[string]time.Time // by cell
}

// note notes that a cell's former key was refused, and reports whether it is time to say so in the log.
func (f *formerKeys) note(ctx context.Context, cell string, now time.Time) (due bool, err error) {
	f.mu.Lock()
	if due = now.Sub(f.noted[cell]) >= noteInterval; due {
		f.noted[cell] = now
	}
	f.mu.Unlock()
	if !due || f.facts == nil {
		return due, nil
	}
	before, err := f.facts.Fact(ctx, formerKeyFact(cell))
	if err == nil {
		err = f.facts.SetFact(ctx, formerKeyFact(cell), before, now.UTC().Format(time.RFC3339))
	}
	return due, err
}

// FormerKeyRefused returns when a former key of a cell was last refused, as the store has it; zero: never.
func FormerKeyRefused(ctx context.Context, facts Facts, cell string) (time.Time, error) {
	if facts == nil {
		return time.Time{}, nil
	}
	text, err := facts.Fact(ctx, formerKeyFact(cell))
	if err != nil || text == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, text)
}
