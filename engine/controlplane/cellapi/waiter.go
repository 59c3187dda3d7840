package cellapi

import (
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/internal/wake"
)

// waiter is a subscriber with a goroutine of its own: a long poll, or a stream over HTTP/2.
type waiter struct {
	fanout  *fanout
	entry   *cellEntry
	caller  *api.Caller
	woken   wake.Signal        // the answer or the roster may have changed
	ended   chan string        // capacity 1: the reason to end
	closing chan time.Duration // capacity 1: the server stops, retry after so long

	mu    sync.Mutex // guards what follows
	known string     // the cell's ETags, as in If-None-Match
}

func newWaiter(f *fanout, e *cellEntry, who *api.Caller, known string) *waiter {
	return &waiter{
		fanout: f, entry: e, caller: who, known: known,
		woken: wake.New(), ended: make(chan string, 1), closing: make(chan time.Duration, 1),
	}
}

func (l *waiter) notify(snap *snapshot) {
	if tag := snap.tagFor(l.entry); tag == nil || !l.knowsETag(tag.etag) {
		l.woken.Notify()
	}
}

func (l *waiter) knowsETag(etag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return api.MatchesETag(l.known, etag)
}

func (l *waiter) setKnown(etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = etag
}

func (l *waiter) sendHeartbeat(time.Duration) {}

// recheckAccess wakes the request of a cell that was revoked, or whose key was replaced, so that it ends.
func (l *waiter) recheckAccess() {
	if !l.fanout.auth.StillAllowsCell(l.caller) {
		l.woken.Notify()
	}
}

func (l *waiter) closeWithRetry(retryAfter time.Duration) {
	select {
	case l.closing <- retryAfter:
	default:
	}
}

func (l *waiter) close(reason string) {
	select {
	case l.ended <- reason:
	default:
	}
}
