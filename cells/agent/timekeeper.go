package agent

import (
	"encoding/json"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/wake"
)

const (
	// keepEvery is how often the time is kept at the least while something waits for it, shifted how far the
	// wall clock must have been moved against it to be kept sooner.
	keepEvery = time.Minute
	shifted   = time.Second / 2
)

// timekeeper keeps the clock of one agent, in memory and on disk. It is safe for concurrent use.
type timekeeper struct {
	began   time.Time     // readings count from here, unless the machine counts
	start   string        // of the machine, from which it counts; empty: not known
	counts  bool          // the machine's monotonic clock can be read
	skew    time.Duration // what a test sets the wall clock ahead by
	changed wake.Signal   // the clock goes otherwise than before

	mu     sync.Mutex
	clock  clock
	kept   mark
	keptAt time.Duration
}

func newTimekeeper() *timekeeper {
	k := &timekeeper{began: time.Now(), changed: wake.New()}
	if _, k.counts = monotonic(); k.counts {
		k.start = machineStart()
	}
	return k
}

func (k *timekeeper) read() reading {
	now := time.Now()
	mono := now.Sub(k.began)
	if k.counts {
		mono, _ = monotonic()
	}
	return reading{wall: now.Round(0).Add(k.skew), mono: mono} // Round takes the monotonic part away
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
	k.clock, k.kept, k.keptAt = restored(m, k.start, r), m, r.mono
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
	m := k.clock.mark(k.start, r)
	return !m.Least.IsZero() && (r.mono-k.keptAt >= keepEvery || (m.Offset-k.kept.Offset).Abs() >= shifted)
}

// keep makes the time durable: before anything that rests on it is seen, and now and then.
func (k *timekeeper) keep(dir string) error {
	k.mu.Lock()
	r := k.read()
	m := k.clock.mark(k.start, r)
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

// hear takes the time that an answer says to what was sent at a reading.
func (k *timekeeper) hear(stamp time.Time, sent reading) {
	k.mu.Lock()
	changed := k.clock.hear(stamp, sent, k.read())
	k.mu.Unlock()
	if changed {
		k.changed.Notify()
	}
}
