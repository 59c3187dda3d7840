package cellapi

import (
	"context"
	"fmt"
	"maps"
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

// fanout tells those who listen of what changed for them: a few goroutines, each with its share of the subscribers. Each
// holds the answers of its cells against the new view, and writes to those whose answer is another, one after the
// other; a write never waits for the other side. A goroutine runs while it has subscribers.
type fanout struct {
	answers    *answerCache
	auth       *auth.Auth
	metrics    *metrics.Metrics
	shutdown   api.Shutdown
	clockStart time.Time
	shards     []*shard
}

// subscriber is a cell's stream, or a poll that waits. Its methods are called by one goroutine at a time, and don't block.
type subscriber interface {
	notify(at *snapshot)                // writes what changed, if anything did
	sendHeartbeat(now time.Duration)    // a sign of life, if it is time for one; now as time.Since(fanout.begun)
	recheckAccess()                     // who may listen changed
	closeWithRetry(again time.Duration) // the server stops: the cell should come back after so long
}

type shard struct {
	fanout *fanout
	wake   wake.Signal // look at once

	mu          sync.Mutex // guards what follows
	subscribers map[subscriber]struct{}
	running     bool
}

const (
	heartbeatCheck = time.Second      // how often it is looked at who is due for a heartbeat
	minDrain       = time.Second      // over which waiting polls and few streams are let go when the server stops
	maxDrain       = 5 * time.Second  // over which any number of streams is
	staleGrace     = 10 * time.Second // how long streams stay that nothing can be told, on top of what it takes to notice
)

func newFanout(answers *answerCache, a *auth.Auth, m *metrics.Metrics, stopping api.Shutdown) *fanout {
	f := &fanout{answers: answers, auth: a, metrics: m, shutdown: stopping, clockStart: time.Now(), shards: make([]*shard, max(2, min(runtime.GOMAXPROCS(0), 16)))}
	for i := range f.shards {
		f.shards[i] = &shard{fanout: f, wake: wake.New(), subscribers: map[subscriber]struct{}{}}
	}
	return f
}

func (f *fanout) shardFor(e *cellEntry) *shard { return f.shards[int(e.hash>>8)%len(f.shards)] }

// subscribe makes l be told. What changed just before is for the caller to tell.
func (f *fanout) subscribe(e *cellEntry, l subscriber) {
	h := f.shardFor(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[l] = struct{}{}
	if !h.running {
		h.running = true
		go h.run()
	}
}

func (f *fanout) unsubscribe(e *cellEntry, l subscriber) {
	h := f.shardFor(e)
	h.mu.Lock()
	delete(h.subscribers, l)
	empty := len(h.subscribers) == 0
	h.mu.Unlock()
	if empty {
		h.wake.Notify() // it ends
	}
}

// subscriberCount is how many listen.
func (f *fanout) subscriberCount() int {
	n := 0
	for _, h := range f.shards {
		h.mu.Lock()
		n += len(h.subscribers)
		h.mu.Unlock()
	}
	return n
}

// isIdle reports whether nobody listens, and the goroutine has ended.
func (h *shard) isIdle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers) == 0 && !h.running
}

// listSubscribers gives who listens now, to the goroutine. Where there is nobody, and it asks as its last question, it has ended.
func (h *shard) listSubscribers(into []subscriber, last bool) []subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(into)
	into = into[:0]
	for l := range h.subscribers {
		into = append(into, l)
	}
	h.running = !last || len(into) > 0
	return into
}

func (h *shard) run() {
	f := h.fanout
	tick := time.NewTicker(heartbeatCheck)
	defer tick.Stop()
	roster := f.auth.RosterChanged()
	told, silent, going := uint64(0), 0, false
	for all := h.listSubscribers(nil, true); len(all) > 0; all = h.listSubscribers(all, true) {
		at := f.answers.latest()
		switch {
		case f.shutdown.Begun():
			h.closeAll(all, !going)
			going = true
		case f.auth.CheckFresh() != nil: // who was shut out can't be known: nothing is told (R29)
		case at.generation != told:
			h.notifyAll(all, at)
			told = at.generation
			continue // a newer view may be there
		}
		select {
		case <-at.replaced:
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
			if silent++; f.auth.CheckFresh() == nil {
				silent = 0
			} else if silent > int(staleGrace/heartbeatCheck) { // another replica may know more
				h.closeAll(all, true)
				silent = 0
			}
		}
	}
}

// abortAll ends all at once.
func (h *shard) abortAll() {
	h.mu.Lock()
	all := slices.Collect(maps.Keys(h.subscribers))
	h.mu.Unlock()
	for _, l := range all {
		l.closeWithRetry(heartbeatCheck)
		if c, ok := l.(closer); ok {
			c.close("stopping")
		}
	}
}

// notifyAll tells what changed for anyone. Those who came meanwhile were told by whoever added them.
func (h *shard) notifyAll(all []subscriber, at *snapshot) {
	for _, l := range all {
		l.notify(at)
	}
}

func (h *shard) sendHeartbeats(all []subscriber) {
	now := time.Since(h.fanout.clockStart)
	for _, l := range all {
		l.sendHeartbeat(now)
		l.recheckAccess() // in case nobody said that the roster changed
	}
}

// closeAll lets subscribers go, spread over a time that grows with their number, or at once; so does the time after which
// they come back.
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

// drainTimes says over which time so many listeners are let go, and within which they come back: so that a replica
// that takes them over is not asked for more handshakes than it can make.
func drainTimes(n int) (over, back time.Duration) {
	return min(maxDrain, minDrain+time.Duration(n)*time.Millisecond/2), 4*time.Second + time.Duration(n)*time.Millisecond
}

// wakeShards has the shards look whether the server stops, and let go those who listen.
func (f *fanout) wakeShards() {
	for _, h := range f.shards {
		h.wake.Notify()
	}
}

// awaitDrained waits until nobody listens any more, or ctx ends: then it cuts those who still do. http.Server.Shutdown
// knows nothing of streams.
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
			return fmt.Errorf("stop: cells were still told: %w", ctx.Err())
		}
	}
	return nil
}
