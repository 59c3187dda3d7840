package cellapi

import (
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/internal/wake"
)

// waiter is a subscriber with a goroutine of its own: a poll that waits, or a stream over HTTP/2.
type waiter struct {
	fanout  *fanout
	entry   *cellEntry
	who     *api.Caller
	woken   wake.Signal        // look again
	ended   chan string        // capacity 1: end, for that reason
	closing chan time.Duration // capacity 1: the server stops, come back after so long

	mu    sync.Mutex // guards what follows
	known string     // what the cell has, as If-None-Match says it
}

func newWaiter(f *fanout, e *cellEntry, who *api.Caller, known string) *waiter {
	return &waiter{
		fanout: f, entry: e, who: who, known: known,
		woken: wake.New(), ended: make(chan string, 1), closing: make(chan time.Duration, 1),
	}
}

func (l *waiter) notify(at *snapshot) {
	if tag := at.tagOf(l.entry); tag == nil || !l.knows(tag.etag) {
		l.woken.Notify()
	}
}

func (l *waiter) knows(etag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return api.Matches(l.known, etag)
}

func (l *waiter) has(etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = etag
}

func (l *waiter) beat(time.Duration) {}

func (l *waiter) recheck() {
	if !l.fanout.auth.Still(l.who) {
		l.woken.Notify()
	}
}

func (l *waiter) closeAfter(again time.Duration) {
	select {
	case l.closing <- again:
	default:
	}
}

func (l *waiter) close(reason string) {
	select {
	case l.ended <- reason:
	default:
	}
}
