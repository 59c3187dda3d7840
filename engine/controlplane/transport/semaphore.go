package transport

import (
	"errors"
	"sync"
)

// errLate: the handshake came to compute when its other side had little time left.
var errLate = errors.New("the handshake waited too long to begin")

// semaphore let few handshakes compute at once: those that were begun before those that are new, each kind in its order.
type semaphore struct {
	mu                         sync.Mutex // guards what follows
	free                       int
	startedWaiters, newWaiters []chan struct{} // who waits, longest first; closed when there is a slot
}

func newSemaphore(n int) *semaphore { return &semaphore{free: n} }

func (s *semaphore) acquire(begun bool) {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if begun {
		s.startedWaiters = append(s.startedWaiters, mine)
	} else {
		s.newWaiters = append(s.newWaiters, mine)
	}
	s.mu.Unlock()
	<-mine
}

// release hands a slot on.
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

// permit is one handshake's share of slots. Its methods are called by one goroutine.
type permit struct {
	semaphore *semaphore
	late      func() bool // whether it should not begin any more
	started   bool        // it computed before
	held      bool        // it may compute now
}

func (s *permit) acquire() error {
	s.semaphore.acquire(s.started)
	s.held = true
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
