package controlplane

import (
	"errors"
	"sync"
)

// errLate: the handshake came to compute when its other side had little time left.
var errLate = errors.New("the handshake waited too long to begin")

// turns lets few handshakes compute at once: those that were begun before those that are new, each kind in its order.
type turns struct {
	mu         sync.Mutex // guards what follows
	free       int
	begun, new []chan struct{} // who waits, longest first; closed when it is their turn
}

func newTurns(n int) *turns { return &turns{free: n} }

func (t *turns) take(begun bool) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if begun {
		t.begun = append(t.begun, mine)
	} else {
		t.new = append(t.new, mine)
	}
	t.mu.Unlock()
	<-mine
}

// give hands a turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, waiting := range []*[]chan struct{}{&t.begun, &t.new} {
		if all := *waiting; len(all) > 0 {
			close(all[0])
			*waiting = all[1:]
			return
		}
	}
	t.free++
}

// turn is one handshake's share of turns. Its methods are called by one goroutine.
type turn struct {
	of    *turns
	late  func() bool // whether it should not begin any more
	begun bool        // it computed before
	has   bool        // it may compute now
}

func (t *turn) take() error {
	t.of.take(t.begun)
	t.has = true
	if !t.begun && t.late() {
		return errLate
	}
	t.begun = true
	return nil
}

func (t *turn) end() {
	if t.has {
		t.of.give()
	}
	t.has = false
}
