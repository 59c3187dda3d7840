// Package infrastructure reads which infrastructure update a cell has executed, from the infrastructure itself or from
// what somebody keeps of it, and follows it.
//
// A Reader does the I/O, and a Follower calls it again and again. Nothing here judges: what counts as executed is said
// by cells.ActualInfrastructure. A Follower may be asked at once, and Run by one goroutine.
package infrastructure

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

// State is what was read.
type State = cells.ActualInfrastructure

// Reader reads the actual infrastructure of one cell.
type Reader interface {
	Source() cells.InfrastructureSource
	// Read returns number, status, change set and drift. The error is shown to the vendor's people, so it holds neither
	// secrets nor paths of the cell's machine.
	Read(ctx context.Context) (State, error)
}

const (
	readTimeout = 30 * time.Second
	longestWait = 5 * time.Minute // between reads that fail
	maxFault    = 1 << 10         // bytes, as reports bound it
)

// Follower keeps what a Reader read last. When a read fails, what is known from before stays, with the fault.
type Follower struct {
	reader  Reader
	every   time.Duration
	changed func(State)

	mu   sync.Mutex
	last State
}

// NewFollower returns a Follower that reads nothing before Run. changed is called with each State that says something
// else than the one before.
func NewFollower(r Reader, every time.Duration, changed func(State)) *Follower {
	return &Follower{reader: r, every: every, changed: changed,
		last: State{Source: r.Source(), Fault: "the agent has just started"}}
}

// Last returns what is known.
func (f *Follower) Last() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// Run reads until ctx ends: again after a while, and less and less often while reads fail.
func (f *Follower) Run(ctx context.Context) {
	for failures := 0; ; {
		limited, cancel := context.WithTimeout(ctx, readTimeout)
		read, err := f.reader.Read(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		before := f.Last()
		now := next(before, read, err, f.reader.Source(), time.Now())
		f.mu.Lock()
		f.last = now
		f.mu.Unlock()
		if now.Differs(&before) {
			f.changed(now)
		}
		pause := f.every
		if failures++; err == nil {
			failures = 0
		} else {
			pause = backoff.Exponential(f.every, max(f.every, longestWait), failures-1)
		}
		if backoff.Sleep(ctx, backoff.Spread(pause)) != nil {
			return
		}
	}
}

// next returns what is known after a read.
func next(before, read State, err error, source cells.InfrastructureSource, at time.Time) State {
	if err != nil {
		before.Fault = words.Clip(words.OneLine(err.Error()), maxFault)
		return before
	}
	read.Source, read.At, read.Fault = source, at.UTC().Truncate(time.Second), ""
	return read
}
