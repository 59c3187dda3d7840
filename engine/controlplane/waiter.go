package controlplane

import (
	"sync"
	"time"
)

// waiter is a listener with a goroutine of its own: a poll that waits, or a stream over HTTP/2.
type waiter struct {
	server *Server
	place  *place
	who    *caller
	woken  chan struct{}      // capacity 1: look again
	ended  chan string        // capacity 1: end, for that reason
	going  chan time.Duration // capacity 1: the server stops, come back after so long

	mu    sync.Mutex // guards what follows
	known string     // what the cell has, as If-None-Match says it
}

func newWaiter(s *Server, p *place, who *caller, known string) *waiter {
	return &waiter{
		server: s, place: p, who: who, known: known,
		woken: make(chan struct{}, 1), ended: make(chan string, 1), going: make(chan time.Duration, 1),
	}
}

func (l *waiter) tell(at *posted) {
	if said := at.answer(l.place); said == nil || !l.knows(said.etag) {
		signal(l.woken)
	}
}

func (l *waiter) knows(etag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return matches(l.known, etag)
}

func (l *waiter) has(etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = etag
}

func (l *waiter) beat(time.Duration) {}

func (l *waiter) recheck() {
	if !l.server.still(l.who) {
		signal(l.woken)
	}
}

func (l *waiter) letGo(again time.Duration) {
	select {
	case l.going <- again:
	default:
	}
}

func (l *waiter) cut(reason string) {
	select {
	case l.ended <- reason:
	default:
	}
}
