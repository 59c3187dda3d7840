package cellapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/internal/wake"
)

// fanout notifies subscribers of changes. Each of a few goroutines, one a shard, compares its cells' answers with the
// new view and writes to subscribers whose answer changed. A write never waits for the client. A goroutine runs while
// its shard has subscribers.
type fanout struct {
	answers    *answerCache
	auth       *auth.Auth
	metrics    *metrics.Metrics
	shutdown   api.Shutdown
	clockStart time.Time
	shards     []*shard
	events     sync.Pool // of *event
}

// subscriber is a stream or a long poll of a cell. Its methods are called by one goroutine at a time and never block.
type subscriber interface {
	notify(snap *snapshot)                   // writes the cell's answer if it changed
	sendHeartbeat(now time.Duration)         // if one is due; now is time.Since(fanout.clockStart)
	recheckAccess()                          // after a change of the roster
	closeWithRetry(retryAfter time.Duration) // the server stops, and the cell should retry after so long
}

type shard struct {
	fanout *fanout
	wake   wake.Signal // wakes the goroutine

	mu          sync.Mutex         // guards what follows
	subscribers []subscriber       // about in the order of their connections, as these lie in memory
	positions   map[subscriber]int // in subscribers
	running     bool
}

const (
	heartbeatCheck = time.Second      // how often heartbeats and freshness are checked
	minDrain       = time.Second      // how long draining takes at least
	maxDrain       = 5 * time.Second  // how long draining takes at most
	staleGrace     = 10 * time.Second // how long streams last without a fresh roster, after that was noticed
)

func newFanout(answers *answerCache, a *auth.Auth, m *metrics.Metrics, shutdown api.Shutdown) *fanout {
	f := &fanout{answers: answers, auth: a, metrics: m, shutdown: shutdown, clockStart: time.Now(),
		shards: make([]*shard, max(2, min(runtime.GOMAXPROCS(0), 16))),
		events: sync.Pool{New: func() any { return new(event) }}}
	for i := range f.shards {
		f.shards[i] = &shard{fanout: f, wake: wake.New(), positions: map[subscriber]int{}}
	}
	return f
}

func (f *fanout) shardFor(e *cellEntry) *shard { return f.shards[int(e.hash>>8)%len(f.shards)] }

// subscribe adds l. The caller notifies l of earlier changes.
func (f *fanout) subscribe(e *cellEntry, l subscriber) {
	h := f.shardFor(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.positions[l]; !ok {
		h.positions[l] = len(h.subscribers)
		h.subscribers = append(h.subscribers, l)
	}
	if !h.running {
		h.running = true
		go h.run()
	}
}

func (f *fanout) unsubscribe(e *cellEntry, l subscriber) {
	h := f.shardFor(e)
	h.mu.Lock()
	if at, ok := h.positions[l]; ok { // the last takes its place
		last := len(h.subscribers) - 1
		moved := h.subscribers[last]
		h.subscribers[at], h.subscribers[last] = moved, nil
		h.subscribers, h.positions[moved] = h.subscribers[:last], at
		delete(h.positions, l)
	}
	empty := len(h.subscribers) == 0
	h.mu.Unlock()
	if empty {
		h.wake.Notify() // the goroutine ends
	}
}

// subscriberCount returns the number of subscribers.
func (f *fanout) subscriberCount() int {
	n := 0
	for _, h := range f.shards {
		h.mu.Lock()
		n += len(h.subscribers)
		h.mu.Unlock()
	}
	return n
}

// isIdle reports whether the shard has no subscribers and its goroutine has ended.
func (h *shard) isIdle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers) == 0 && !h.running
}

// listSubscribers returns the shard's subscribers in into's memory. With last, the goroutine ends if there are none.
func (h *shard) listSubscribers(into []subscriber, last bool) []subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(into)
	into = append(into[:0], h.subscribers...)
	h.running = !last || len(into) > 0
	return into
}

func (h *shard) run() {
	f := h.fanout
	tick := time.NewTicker(heartbeatCheck)
	defer tick.Stop()
	roster := f.auth.RosterChanged()
	notified, staleChecks, draining := uint64(0), 0, false
	for all := h.listSubscribers(nil, true); len(all) > 0; all = h.listSubscribers(all, true) {
		snap := f.answers.latest()
		switch {
		case f.shutdown.Begun():
			h.closeAll(all, !draining)
			draining = true
		case f.auth.CheckFresh() != nil: // a revocation may be unknown (R29)
		case snap.generation != notified:
			h.notifyAll(all, snap)
			notified = snap.generation
			continue // there may be a newer view
		}
		select {
		case <-snap.replaced:
		case <-h.wake:
		case <-roster:
			roster = f.auth.RosterChanged()
			all = h.listSubscribers(all, false)
			for _, l := range all {
				l.recheckAccess()
			}
		case <-tick.C:
			all = h.listSubscribers(all, false)
			h.sendHeartbeats(all)
			if staleChecks++; f.auth.CheckFresh() == nil {
				staleChecks = 0
			} else if staleChecks > int(staleGrace/heartbeatCheck) { // another replica may be fresh
				h.closeAll(all, true)
				staleChecks = 0
			}
		}
	}
}

// abortAll closes all subscribers at once.
func (h *shard) abortAll() {
	h.mu.Lock()
	all := slices.Clone(h.subscribers)
	h.mu.Unlock()
	for _, l := range all {
		l.closeWithRetry(heartbeatCheck)
		if c, ok := l.(closer); ok {
			c.close("stopping")
		}
	}
}

// notifyAll notifies subscribers of a new view. Whoever adds a subscriber meanwhile notifies it.
func (h *shard) notifyAll(all []subscriber, snap *snapshot) {
	for _, l := range all {
		l.notify(snap)
	}
}

func (h *shard) sendHeartbeats(all []subscriber) {
	now := time.Since(h.fanout.clockStart)
	for _, l := range all {
		l.sendHeartbeat(now)
		l.recheckAccess() // in case the roster changed without a signal
	}
}

// closeAll asks all subscribers to retry later, with jitter. With spread, they are closed over a time that grows with
// their number.
func (h *shard) closeAll(all []subscriber, spread bool) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	over, back := drainTimes(h.fanout.subscriberCount())
	steps := max(1, min(len(all), 50))
	pause := time.NewTicker(over / time.Duration(steps))
	defer pause.Stop()
	for step := range steps {
		if spread {
			<-pause.C
		}
		for _, l := range all[len(all)*step/steps : len(all)*(step+1)/steps] {
			l.closeWithRetry(time.Second + rand.N(back))
		}
	}
}

// drainTimes returns the time over which n subscribers are closed and the time within which they retry, so that the
// replica that takes them over can make all handshakes.
func drainTimes(n int) (over, back time.Duration) {
	return min(maxDrain, minDrain+time.Duration(n)*time.Millisecond/2),
		4*time.Second + time.Duration(n)*time.Millisecond
}

// wakeShards wakes all shards to see the shutdown.
func (f *fanout) wakeShards() {
	for _, h := range f.shards {
		h.wake.Notify()
	}
}

// awaitDrained waits until there are no subscribers. If ctx ends first, it closes the remaining ones.
func (f *fanout) awaitDrained(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for slices.ContainsFunc(f.shards, func(h *shard) bool { return !h.isIdle() }) {
		select {
		case <-t.C:
		case <-ctx.Done():
			for _, h := range f.shards {
				h.abortAll()
			}
			return fmt.Errorf("stop: cells were still connected: %w", ctx.Err())
		}
	}
	return nil
}
