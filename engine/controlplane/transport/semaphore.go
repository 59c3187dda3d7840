package transport

import (
	"errors"
	"sync"
	"time"
)

var (
	// errLate means that a handshake waited too long to start.
	errLate = errors.New("the handshake waited too long to start")
	// errBacklog means that too many handshakes wait to start.
	errBacklog = errors.New("too many handshakes wait to start")
)

const (
	// maxUnanswered is how many started handshakes may wait for their peers before new ones wait to start. Peers that
	// share a machine, as behind one uplink, then answer each in time, where ten thousand at once would all be late.
	maxUnanswered = 1024
	// answerPatience is how long a handshake that waits for its peer is counted among these: silent peers are in
	// nobody's way for longer.
	answerPatience = 250 * time.Millisecond
)

// semaphore lets a number of handshakes compute at once: started ones before new ones, each kind in order.
type semaphore struct {
	backlog int // how many new handshakes may wait

	mu                         sync.Mutex // guards what follows
	free                       int
	unanswered                 int             // started handshakes that wait for their peers, up to answerPatience
	startedWaiters, newWaiters []chan struct{} // longest wait first; a channel is closed when a permit is passed on
}

func newSemaphore(n, backlog int) *semaphore { return &semaphore{free: n, backlog: backlog} }

// acquire waits for a permit. It reports false, without one, if too many new handshakes wait already.
func (s *semaphore) acquire(begun bool) bool {
	ready, waiters := make(chan struct{}), &s.newWaiters
	if begun {
		waiters = &s.startedWaiters
	}
	s.mu.Lock()
	*waiters = append(*waiters, ready)
	s.passOn()
	refused := !begun && len(s.newWaiters) > s.backlog
	if refused {
		s.newWaiters = s.newWaiters[:s.backlog]
	}
	s.mu.Unlock()
	if !refused {
		<-ready
	}
	return !refused
}

// release gives a permit back.
func (s *semaphore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.passOn()
}

// count adds to the number of handshakes that wait for their peers.
func (s *semaphore) count(unanswered int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unanswered += unanswered
	s.passOn()
}

// passOn gives free permits to who waits for one. The caller holds s.mu.
func (s *semaphore) passOn() {
	for s.free > 0 {
		from := &s.startedWaiters
		if len(*from) == 0 {
			if from = &s.newWaiters; s.unanswered >= maxUnanswered {
				return
			}
		}
		if len(*from) == 0 {
			return
		}
		s.free--
		close((*from)[0])
		*from = (*from)[1:]
	}
}

// permit is one handshake's use of the semaphore. Its methods are called by one goroutine.
type permit struct {
	semaphore *semaphore
	late      func() bool // reports whether it is too late to start
	started   bool        // has computed before
	held      bool        // may compute now
	patience  *time.Timer // runs while the peer is waited for; nil: it is not
}

func (s *permit) acquire() error {
	if s.held = s.semaphore.acquire(s.started); !s.held {
		return errBacklog
	}
	if !s.started && s.late() {
		return errLate
	}
	s.started = true
	return nil
}

func (s *permit) release() {
	if s.held {
		s.semaphore.release()
	}
	s.held = false
}

// awaitPeer lets others compute until the peer has answered.
func (s *permit) awaitPeer() {
	s.semaphore.count(1)
	s.patience = time.AfterFunc(answerPatience, func() { s.semaphore.count(-1) })
	s.release()
}

// heardPeer ends awaitPeer.
func (s *permit) heardPeer() {
	if s.patience.Stop() {
		s.semaphore.count(-1)
	}
	s.patience = nil
}
