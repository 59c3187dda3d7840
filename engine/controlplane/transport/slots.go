package transport

import (
	"errors"
	"sync"
)

// errLate: the handshake came to compute when its other side had little time left.
var errLate = errors.New("the handshake waited too long to begin")

// slots let few handshakes compute at once: those that were begun before those that are new, each kind in its order.
type slots struct {
	mu         sync.Mutex // guards what follows
	free       int
	begun, new []chan struct{} // who waits, longest first; closed when there is a slot
}

func newSlots(n int) *slots { return &slots{free: n} }

func (s *slots) acquire(begun bool) {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if begun {
		s.begun = append(s.begun, mine)
	} else {
		s.new = append(s.new, mine)
	}
	s.mu.Unlock()
	<-mine
}

// release hands a slot on.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, waiting := range []*[]chan struct{}{&s.begun, &s.new} {
		if all := *waiting; len(all) > 0 {
			close(all[0])
			*waiting = all[1:]
			return
		}
	}
	s.free++
}

// slot is one handshake's share of slots. Its methods are called by one goroutine.
type slot struct {
	of    *slots
	late  func() bool // whether it should not begin any more
	begun bool        // it computed before
	has   bool        // it may compute now
}

func (s *slot) acquire() error {
	s.of.acquire(s.begun)
	s.has = true
	if !s.begun && s.late() {
		return errLate
	}
	s.begun = true
	return nil
}

func (s *slot) release() {
	if s.has {
		s.of.release()
	}
	s.has = false
}
