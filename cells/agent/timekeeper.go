package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

const (
	// keepEvery is how often the time is kept at the least while something waits for it, shifted how far the
	// wall clock must have been moved against it to be kept sooner.
	keepEvery = time.Minute
	shifted   = time.Second / 2
)

// timekeeper keeps the clock of one agent, in memory and on disk. It is safe for concurrent use.
type timekeeper struct {
	since   time.Time     // readings count from here
	changed chan struct{} // of one: the clock goes otherwise than before

	mu     sync.Mutex
	clock  clock
	kept   mark
	keptAt time.Duration
}

func newTimekeeper() *timekeeper {
	return &timekeeper{since: time.Now(), changed: make(chan struct{}, 1)}
}

func (k *timekeeper) read() reading {
	now := time.Now()
	return reading{wall: now.Round(0), mono: now.Sub(k.since)} // Round takes the monotonic part away
}

func clockFile(dir string) string { return filepath.Join(dir, "clock.json") }

// restore goes on where the process before ended. Without a file that can be read the time is not known.
func (k *timekeeper) restore(dir string) error {
	text, err := readSummed(clockFile(dir), maxClock)
	if err != nil || text == nil {
		return err
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.read()
	k.clock, k.kept, k.keptAt = restored(m, r), m, r.mono
	return nil
}

// maxClock bounds clock.json, in bytes.
const maxClock = 4 << 10

// now gives the instant for flags; known: anybody told the time, ever.
func (k *timekeeper) now() (at int64, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, known := k.clock.now(k.read())
	if !known {
		return 0, false
	}
	return flags.Instant(now), true
}

// until says how long it takes until now gives the instant.
func (k *timekeeper) until(at int64) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.clock.until(time.Unix(at, 0), k.read())
}

// due tells whether keep has something to do that does not wait for an occasion.
func (k *timekeeper) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.read()
	m := k.clock.mark(r)
	return !m.Least.IsZero() && (r.mono-k.keptAt >= keepEvery || (m.Offset-k.kept.Offset).Abs() >= shifted)
}

// keep makes the time durable: before anything that rests on it is seen, and now and then.
func (k *timekeeper) keep(dir string) error {
	k.mu.Lock()
	r := k.read()
	m := k.clock.mark(r)
	k.mu.Unlock()
	if m.Least.IsZero() {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := keepSummed(clockFile(dir), text); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept, k.keptAt = m, r.mono
	return nil
}

func (k *timekeeper) hear(stamp time.Time, coarse time.Duration, sent reading) {
	k.mu.Lock()
	changed := k.clock.hear(stamp, coarse, sent, k.read())
	k.mu.Unlock()
	if !changed {
		return
	}
	select {
	case k.changed <- struct{}{}:
	default: // it is about to be seen
	}
}

// exchange is a question to the control plane, and when it was on its way.
type exchange struct {
	keeper *timekeeper
	sent   atomic.Pointer[reading]
}

// exchange begins one: connecting does not count, which takes several round trips.
func (k *timekeeper) exchange(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{keeper: k}
	stamp := func() {
		r := k.read()
		x.sent.Store(&r)
	}
	stamp()
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { stamp() }}), x
}

// told takes the time that the answer says.
func (x *exchange) told(stamp time.Time) { x.keeper.hear(stamp, 0, *x.sent.Load()) }

// dated takes the answer's date, in whole seconds: better than nothing.
func (x *exchange) dated(h http.Header) {
	if stamp, err := http.ParseTime(h.Get("Date")); err == nil {
		x.keeper.hear(stamp, time.Second, *x.sent.Load())
	}
}
