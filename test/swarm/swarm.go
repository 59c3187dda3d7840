// Package swarm simulates thousands of light cells in one process: load for benchmarks, and protocol-conforming peers
// for the acceptance tests of a fleet. It is for tests and benchmarks only.
//
// Each cell has its own Ed25519 key, connects by mutual TLS, checks the control plane's pins, asks by poll, long-poll
// or stream, and reports as an agent does: it acknowledges an assignment, begins it once the acknowledgement is
// confirmed, and is healthy on it a while later, or fails, goes back to its last good assignment and remembers the
// failure (R13, R14). A cell sends its events in sequence, one batch at a time, until they are acknowledged (R35). A
// cell never applies anything: the length and result of an apply follow from a seed. Each cell counts what was
// acknowledged, so that a test can check that none of it is lost (invariant 8).
//
// The package speaks HTTP/1.1 itself, with little memory and time: about two goroutines and 40 KiB for a cell on a
// stream. A Swarm's methods may be called from any goroutine.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// Mode is how cells ask for what is desired.
type Mode int

// Stream is one endless response (SSE), LongPoll a request that waits for a change, Poll a request that does not wait.
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
	// state of an earlier swarm's cells, which restart with a new boot ID; nil: all cells are new
	Resume []Snapshot

	Seed        uint64             // determines lengths and failures of applies
	Apply       [2]time.Duration   // shortest and longest apply; zero: no time
	Fails       map[string]float64 // by release: the share of cells on which it fails
	Fetch       bool               // fetch a release's bytes before beginning it, and check the digest
	ReportEvery time.Duration      // default 30 s
	Idle        time.Duration      // after which an unused connection for reports is closed; default 5 s
	Spread      time.Duration      // during which cells start; zero: all at once
	Dialing     int                // handshakes at once, to spare the control plane; zero: unlimited
	Silent      bool               // cells send no reports
	// Reporting limits the connections for reports, besides those that cells listen on; default 4096, since a process
	// may have about 19,900.
	Reporting int

	RetryCap  time.Duration // longest pause between tries to connect; default 30 s
	DeniedCap time.Duration // after a 401; default 5 min

	// OnDesired is called by the cell's goroutine with each new response; nil: not called.
	OnDesired func(cell int, d *cells.Desired, at time.Time)
}

// Swarm is a set of simulated cells. New makes it, Run runs it.
type Swarm struct {
	opts        Options
	dialer      *Dialer
	cells       []*cell
	reportSlots chan struct{} // one for each connection for reports
	counts      counters

	lastError atomic.Pointer[error] // newest; nil: none
}

type counters struct {
	connects, streams, connected, notified, polls, unchanged, reports, acknowledged, events, refused, unheard,
	failed atomic.Int64

	mu     sync.Mutex // guards broken
	broken map[string]int64
}

// Counts are sums over all cells.
type Counts struct {
	Connects     int64 // connections made
	Streams      int64 // of these, for what is desired; the others for reports
	Connected    int64 // cells that have a stream now, or whose last request was answered
	Told         int64 // responses with new content
	Polls        int64 // requests answered
	Unchanged    int64 // of these, with 304
	Reports      int64 // sent
	Acknowledged int64 // of these, acknowledged
	Events       int64 // acknowledged
	Refused      int64 // responses of 4xx and 5xx
	Unheard      int64 // tries to connect while nobody listened
	Failed       int64 // connections and exchanges that broke

	Broken map[string]int64 // Failed, by how they broke
}

// New makes the cells and their certificates. It connects nothing.
func New(o Options) (*Swarm, error) {
	if len(o.Members) == 0 || len(o.Plane.Addresses) == 0 {
		return nil, errors.New("swarm.Options: Plane and Members are required")
	}
	for d, length := range map[*time.Duration]time.Duration{&o.ReportEvery: 30 * time.Second, &o.Idle: 5 * time.Second,
		&o.RetryCap: 30 * time.Second, &o.DeniedCap: 5 * time.Minute} {
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

func (s *Swarm) Counts() Counts {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{
		c.connects.Load(), c.streams.Load(), c.connected.Load(), c.notified.Load(), c.polls.Load(), c.unchanged.Load(),
		c.reports.Load(), c.acknowledged.Load(), c.events.Load(), c.refused.Load(), c.unheard.Load(), c.failed.Load(),
		maps.Clone(c.broken),
	}
}

// LastError returns the newest error of a connection; nil: there was none.
func (s *Swarm) LastError() error {
	if err := s.lastError.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Swarm) countFailure(err error) {
	s.lastError.Store(&err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		s.counts.unheard.Add(1)
		return
	}
	s.counts.failed.Add(1)
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	if s.counts.broken == nil {
		s.counts.broken = map[string]int64{}
	}
	s.counts.broken[describeBreak(err)]++
}

// describeBreak says how a connection broke, in few different words.
func describeBreak(err error) string {
	when := ""
	if strings.HasPrefix(err.Error(), "shake hands") {
		when = " in a handshake"
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset" + when
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "ended" + when
	case errors.As(err, &timeout) && timeout.Timeout():
		return "too slow" + when
	default:
		return fmt.Sprintf("%.80s", err)
	}
}

func (s *Swarm) countRefusal(status int, body []byte) {
	s.counts.refused.Add(1)
	err := fmt.Errorf("the answer is %d: %.300s", status, body)
	s.lastError.Store(&err)
}

// Snapshot is the state of one cell, as the cell knows it.
type Snapshot struct {
	Name         string
	Boot         string
	Desired      *cells.Desired // newest response; nil: none yet
	ETag         string
	State        cells.State
	Running      *cells.Assignment
	Failures     []cells.Failure
	Began        []cells.Assignment // all that were begun, in order
	Confirmed    int64              // events up to this number are acknowledged
	Last         int64              // number of the newest event
	Pending      []cells.Event      // events that are not acknowledged
	Acknowledged *cells.Report      // newest acknowledged report, without its events; nil: none
}

// Snapshots returns the state of each cell, in the order of Options.Members.
func (s *Swarm) Snapshots() []Snapshot {
	words := make([]Snapshot, len(s.cells))
	for i, c := range s.cells {
		words[i] = c.snapshot()
	}
	return words
}

// Await waits until ok holds for every cell. The error says for how many cells it does not hold, and describes one.
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
			return fmt.Errorf(
				"%d of %d cells are not as awaited, %s for one: state %s, running %+v, assigned %+v, hold %+v; "+
					"newest error: %v: %w",
				missing, len(s.cells), one.Name, one.State, one.Running, one.Desired.Assignment, one.Desired.Hold,
				s.LastError(), context.Cause(ctx))
		}
	}
}
