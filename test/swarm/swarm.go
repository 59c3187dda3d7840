// Package swarm is thousands of light cells in one process: load for benchmarks, and honest peers for the acceptance
// tests of a fleet. It is for tests and benchmarks only.
//
// A cell of it has its own Ed25519 key, connects by mutual TLS and looks at the control plane's pins, asks by poll,
// long-poll or stream, and reports as an agent does: it acknowledges an assignment, begins it once that is acknowledged
// in turn, and is healthy on it a while later, or fails, goes back to its last good and remembers the failure (R13,
// R14). Its events travel in sequence, one batch in flight, until they are acknowledged (R35). It applies nothing:
// how long an apply takes and whether it fails is made up, from a seed. What was acknowledged to it is counted, so that
// a test can hold that none of it is lost (invariant 8).
//
// It speaks HTTP/1.1 itself, with as little memory and time as that takes: about two goroutines and 40 KiB a cell on a
// stream. A Swarm's methods may be called from any goroutine.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// Mode is how cells learn what is desired of them.
type Mode int

// Stream is one answer that goes on (SSE), LongPoll a question that waits, Poll one that does not.
const (
	Stream Mode = iota
	LongPoll
	Poll
)

// Options of a Swarm. Plane and Members are required.
type Options struct {
	Plane   ControlPlane
	Members []Member
	Mode    Mode
	Resume  []Snapshot // cells that lived before go on from what they had, under a new boot; nil: all are new

	Seed        uint64             // of applies' lengths and failures
	Apply       [2]time.Duration   // an apply takes from the first to the second; zero: no time
	Fails       map[string]float64 // by release: the share of cells that it fails on
	Fetch       bool               // fetch a release's bytes before it is begun, and hold them against their digest
	ReportEvery time.Duration      // default 30 s
	Idle        time.Duration      // how long the connection for reports is kept when there is nothing to report; default 5 s
	Spread      time.Duration      // over which cells begin; zero: all at once
	Dialing     int                // handshakes at once, where the control plane is not to be tried; zero: no bound
	Silent      bool               // cells listen, and report nothing
	Reporting   int                // connections for reports at once, besides those that cells listen on; default 4096: a process may have about 19,900

	RetryCap  time.Duration // between tries to reach the control plane; default 30 s
	DeniedCap time.Duration // after a 401; default 5 min

	OnDesired func(cell int, d *cells.Desired, at time.Time) // called by the cell's goroutine with each new answer; nil: nobody
}

// Swarm is the cells. Make it with New, run it with Run.
type Swarm struct {
	opts        Options
	dialer      *Dialer
	cells       []*cell
	reportSlots chan struct{} // one for each connection for reports
	counts      counters

	lastError atomic.Pointer[error] // the newest; nil: none so far
}

type counters struct {
	connects, connected, told, polls, unchanged, reports, acknowledged, events, refused, failed atomic.Int64
}

// Counts are sums over all cells.
type Counts struct {
	Connects     int64 // connections made
	Connected    int64 // cells that have a stream, or whose last question was answered, now
	Told         int64 // answers that said something new
	Polls        int64 // questions answered
	Unchanged    int64 // of these, with 304
	Reports      int64 // sent
	Acknowledged int64 // of these, acknowledged
	Events       int64 // acknowledged
	Refused      int64 // answers of 4xx and 5xx
	Failed       int64 // connections and exchanges that broke
}

// New makes the cells, their certificates included. Nothing is connected yet.
func New(o Options) (*Swarm, error) {
	if len(o.Members) == 0 || len(o.Plane.Addresses) == 0 {
		return nil, errors.New("swarm.Options: Plane and Members are required")
	}
	for d, length := range map[*time.Duration]time.Duration{&o.ReportEvery: 30 * time.Second, &o.Idle: 5 * time.Second, &o.RetryCap: 30 * time.Second, &o.DeniedCap: 5 * time.Minute} {
		if *d <= 0 {
			*d = length
		}
	}
	dialer, err := NewDialer(o.Plane, o.Members)
	if err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	if o.Reporting <= 0 {
		o.Reporting = 4096
	}
	if o.Dialing > 0 {
		dialer.slots = make(chan struct{}, o.Dialing)
	}
	s := &Swarm{opts: o, dialer: dialer, reportSlots: make(chan struct{}, o.Reporting)}
	if o.Resume != nil && len(o.Resume) != len(o.Members) {
		return nil, fmt.Errorf("swarm.Options: %d words to go on from, and %d members", len(o.Resume), len(o.Members))
	}
	for i, m := range o.Members {
		c := newCell(s, i, m)
		if o.Resume != nil {
			c.agent.resume(o.Resume[i])
		}
		s.cells = append(s.cells, c)
	}
	return s, nil
}

// Run lets all cells live until ctx ends.
func (s *Swarm) Run(ctx context.Context) {
	var all sync.WaitGroup
	for i, c := range s.cells {
		all.Go(func() {
			_ = backoff.Sleep(ctx, s.opts.Spread*time.Duration(i)/time.Duration(len(s.cells)))
			if !s.opts.Silent {
				all.Go(func() { c.runReporter(ctx) })
			}
			c.followDesired(ctx)
		})
	}
	all.Wait()
}

// Counts gives the sums as they are now.
func (s *Swarm) Counts() Counts {
	c := &s.counts
	return Counts{
		c.connects.Load(), c.connected.Load(), c.told.Load(), c.polls.Load(), c.unchanged.Load(),
		c.reports.Load(), c.acknowledged.Load(), c.events.Load(), c.refused.Load(), c.failed.Load(),
	}
}

// LastError is the newest thing that went wrong on a connection; nil: nothing did.
func (s *Swarm) LastError() error {
	if err := s.lastError.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Swarm) countFailure(err error) {
	s.counts.failed.Add(1)
	s.lastError.Store(&err)
}

func (s *Swarm) countRefusal(status int, body []byte) {
	s.counts.refused.Add(1)
	err := fmt.Errorf("the answer is %d: %.300s", status, body)
	s.lastError.Store(&err)
}

// Snapshot is what is known of one cell, at the cell.
type Snapshot struct {
	Name         string
	Boot         string
	Desired      *cells.Desired // the newest answer; nil: none yet
	ETag         string
	State        cells.State
	Running      *cells.Assignment
	Failures     []cells.Failure
	Began        []cells.Assignment // every assignment that was begun, in order
	Confirmed    int64              // events up to this number were acknowledged
	Last         int64              // number of the newest event
	Pending      []cells.Event      // those that are not confirmed
	Acknowledged *cells.Report      // the newest report that was acknowledged, without its events; nil: none
}

// Snapshots gives each cell's, in the order of Options.Members.
func (s *Swarm) Snapshots() []Snapshot {
	words := make([]Snapshot, len(s.cells))
	for i, c := range s.cells {
		words[i] = c.snapshot()
	}
	return words
}

// Await waits until what ok says holds for every cell. The error tells how many it did not hold for, and of one of them.
func (s *Swarm) Await(ctx context.Context, ok func(Snapshot) bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		missing, one := 0, Snapshot{}
		for _, c := range s.cells {
			if w := c.snapshot(); !ok(w) {
				missing, one = missing+1, w
			}
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if one.Desired == nil {
				one.Desired = &cells.Desired{}
			}
			return fmt.Errorf("%d of %d cells are not as awaited, %s for one: state %s, running %+v, assigned %+v, hold %+v; newest trouble: %v: %w",
				missing, len(s.cells), one.Name, one.State, one.Running, one.Desired.Assignment, one.Desired.Hold, s.LastError(), context.Cause(ctx))
		}
	}
}
