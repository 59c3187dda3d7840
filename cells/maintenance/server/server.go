// Package server tells a cell's programs of maintenances and grants their operations, by HTTP on the agent's local
// socket (or on a node's): GET /v1/maintenance is the state with the text for a user, GET /v1/maintenance/events
// streams it, POST /v1/operations asks for an operation or renews its lease, DELETE /v1/operations/KIND/KEY ends it,
// and GET /metrics counts.
//
// It decides nothing: Set brings the state, which the caller made durable before, and cells/maintenance judges. From
// the instant at which Set returns no operation starts that the state refuses; at the end of a state operations start
// again though nobody calls Set. It opens no listener: whoever serves Handler listens on this machine only. A web page
// can't use it: requests with an Origin, and under a name that is not this machine's, are refused.
//
// All methods may be called at once.
package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/text/language"

	"github.com/sluice-cd/sluice/cells/maintenance"
)

// Server guards the table of operations and holds the state that the product is told.
type Server struct {
	onEnd   func() // an operation ended, or the state did; not nil
	current atomic.Pointer[snapshot]
	waiting atomic.Int64 // requests that wait for a change
	asked   atomic.Bool  // a program asked for an operation, or for the state

	mu         sync.Mutex
	operations *maintenance.Operations
	ends       *time.Timer   // at the end of the state; nil: it has none
	since      time.Time     // operations are refused since then; zero: they are not
	refusedFor time.Duration // in maintenances before
	entered    int64

	interruptions int64 // of Sockets, as seen last
}

// snapshot is a state with what answers need. It is immutable, but for the last answer.
type snapshot struct {
	state     maintenance.State
	tag       string // without quotes
	languages []string
	matcher   language.Matcher
	changed   chan struct{} // closed once another snapshot replaces this one
	encoded   atomic.Pointer[encoded]
}

// New returns a server without a maintenance. onEnd is called when an operation ended that a drain may wait for; it
// must not block.
func New(onEnd func()) *Server { return newServer(maintenance.NewOperations(time.Now()), onEnd) }

// NewForNode returns the same for a node part, which grants nothing until it is confirmed: see maintenance.Nodes.
func NewForNode(onEnd func()) *Server {
	return newServer(maintenance.NewNodeOperations(time.Now()), onEnd)
}

func newServer(operations *maintenance.Operations, onEnd func()) *Server {
	s := &Server{onEnd: onEnd, operations: operations}
	s.current.Store(newSnapshot(maintenance.State{Phase: maintenance.Off}))
	return s
}

func newSnapshot(state maintenance.State) *snapshot {
	languages := state.Languages()
	tags := make([]language.Tag, len(languages))
	for i, l := range languages {
		tags[i] = language.Make(l)
	}
	text, _ := json.Marshal(state) // texts and times always encode
	sum := sha256.Sum256(text)
	return &snapshot{state: state, tag: hex.EncodeToString(sum[:12]), languages: languages,
		matcher: language.NewMatcher(tags), changed: make(chan struct{})}
}

// Set brings the state that holds from now on. Once it returns, no operation starts that the state refuses.
func (s *Server) Set(state maintenance.State) {
	next := newSnapshot(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.current.Load()
	now := time.Now()
	if before.tag == next.tag && state.Active(now) == before.state.Active(now) {
		return
	}
	s.set(before, next, now)
}

func (s *Server) set(before, next *snapshot, now time.Time) {
	s.operations.Set(next.state, now)
	s.count(next.state, now)
	if s.ends != nil {
		s.ends.Stop()
		s.ends = nil
	}
	if ends := next.state.Ends(); !ends.IsZero() && ends.After(now) {
		s.ends = time.AfterFunc(ends.Sub(now), func() { s.end(next) })
	}
	s.current.Store(next)
	close(before.changed)
}

// end ends a state whose time is over, unless another came meanwhile.
func (s *Server) end(over *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != over {
		return
	}
	s.set(over, newSnapshot(maintenance.State{Phase: maintenance.Off}), time.Now())
	s.onEnd()
}

// count keeps the time in which operations were refused.
func (s *Server) count(state maintenance.State, now time.Time) {
	switch active := state.Active(now); {
	case active && s.since.IsZero():
		s.since = now
		s.entered++
	case !active && !s.since.IsZero():
		s.refusedFor += now.Sub(s.since)
		s.since = time.Time{}
	}
}

// Waiting returns how many requests wait for a change.
func (s *Server) Waiting() int { return int(s.waiting.Load()) }

// Busy returns what is under way.
func (s *Server) Busy() maintenance.Busy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy(time.Now())
}

func (s *Server) busy(now time.Time) maintenance.Busy {
	b := s.operations.Busy(now)
	b.Unasked = !s.asked.Load()
	return b
}

// Sockets is where programs ask.
type Sockets interface {
	// Reachable reports whether programs find it, and how often that changed since the start.
	Reachable() (now bool, interruptions int64)
}

// BusyAt returns what is under way, as far as programs can ask: while they can't, nothing is known to be quiet.
func (s *Server) BusyAt(at Sockets) maintenance.Busy {
	reachable, interruptions := at.Reachable()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if interruptions != s.interruptions || !reachable {
		s.interruptions = interruptions
		s.operations.Interrupted(now)
	}
	return s.busy(now)
}

// Refuses reports whether operations are refused now.
func (s *Server) Refuses() bool { return s.current.Load().state.Active(time.Now()) }

// Renewed and Confirm are those of maintenance.Operations.
func (s *Server) Renewed(asked time.Time) (lapsed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operations.Renewed(asked, time.Now())
}

func (s *Server) Confirm(asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.operations.Confirm(asked)
}

func (s *Server) begin(op maintenance.Operation, running bool) maintenance.Outcome {
	s.asked.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operations.Begin(op, running, time.Now())
}

func (s *Server) endOperation(op maintenance.Operation) bool {
	s.mu.Lock()
	known := s.operations.End(op)
	s.mu.Unlock()
	if known && s.current.Load().state.Phase == maintenance.Draining {
		s.onEnd()
	}
	return known
}
