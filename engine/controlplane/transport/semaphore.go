package transport

import (
	"errors"
	"sync"
)

var (
	// errLate means that a handshake waited too long to start.
	errLate = errors.New("the handshake waited too long to start")
	// errBacklog means that too many handshakes wait to start.
	errBacklog = errors.New("too many handshakes wait to start")
)

// semaphore lets a number of handshakes compute at once: started ones before new ones, each kind in order.
type semaphore struct {
	backlog int // how many new handshakes may wait

	mu                         sync.Mutex // guards what follows
	free                       int
	startedWaiters, newWaiters []chan struct{} // longest wait first; a channel is closed when a permit is passed on
}

func newSemaphore(n, backlog int) *semaphore { return &semaphore{free: n, backlog: backlog} }

// acquire waits for a permit. It reports false, without one, if too many new handshakes wait already.
func (s *semaphore) acquire(begun bool) bool {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	if !begun && len(s.newWaiters) >= s.backlog {
		s.mu.Unlock()
		return false
	}
	ready := make(chan struct{})
	if begun {
		s.startedWaiters = append(s.startedWaiters, ready)
	} else {
		s.newWaiters = append(s.newWaiters, ready)
	}
	s.mu.Unlock()
	<-ready
	return true
}

// release passes a permit on.
func (s *semaphore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, waiting := range []*[]chan struct{}{&s.startedWaiters, &s.newWaiters} {
		if all := *waiting; len(all) > 0 {
			close(all[0])
			*waiting = all[1:]
			return
		}
	}
	s.free++
}

// permit is one handshake's use of the semaphore. Its methods are called by one goroutine.
type permit struct {
	semaphore *semaphore
	late      func() bool // reports whether it is too late to start
	started   bool        // has computed before
	held      bool        // may compute now
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
