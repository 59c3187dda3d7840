// Package clock keeps a cell's idea of the control plane's time (R40): by what was heard of it, and by the machine's
// monotonic clock since, across restarts and reboots. It asks nobody; whoever exchanges something with the control plane
// lets it hear. Its time never goes back, is never ahead of what was said, and setting the machine's wall clock changes
// nothing of it. A Clock is safe for concurrent use; what it decides is in estimate, which is pure.
package clock

import (
	"encoding/json"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/wake"
)

const (
	// keepEvery is how often the time is kept at the least while something waits for it, shifted how far the
	// wall clock must have been moved against it to be kept sooner.
	keepEvery = time.Minute
	shifted   = time.Second / 2

	maxFile = 4 << 10 // bytes of clock.json
)

// Machine is the machine under a clock: the zero value is the one that it runs on.
type Machine struct {
	Skew  time.Duration // that its wall clock is set ahead by
	Start string        // names its start, from which the monotonic clock counts; empty: as it is
}

// Clock is the control plane's time in one cell, in memory and on disk.
type Clock struct {
	file    string
	machine Machine
	began   time.Time   // readings count from here, unless the machine counts
	counts  bool        // the machine's monotonic clock can be read
	changed wake.Signal // the clock goes otherwise than before

	mu       sync.Mutex
	estimate estimate
	kept     mark
	keptAt   time.Duration
}

// New makes a clock that keeps its time in a state folder. It knows none before Restore or Hear.
func New(stateDir string, m Machine) *Clock {
	c := &Clock{file: filepath.Join(stateDir, "clock.json"), machine: m, began: time.Now(), changed: wake.New()}
	if _, c.counts = monotonic(); c.counts && m.Start == "" {
		c.machine.Start = machineStart()
	}
	return c
}

// Read reads the machine's clocks.
func (c *Clock) Read() Reading {
	now := time.Now()
	mono := now.Sub(c.began)
	if c.counts {
		mono, _ = monotonic()
	}
	return Reading{wall: now.Round(0).Add(c.machine.Skew), mono: mono} // Round takes the monotonic part away
}

// Restore goes on where the process before ended. Without a file that can be read the time is not known.
func (c *Clock) Restore() error {
	text, err := disk.ReadSummed(c.file, maxFile)
	if err != nil || text == nil {
		return err
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.Read()
	c.estimate, c.kept, c.keptAt = restored(m, c.machine.Start, r), m, r.mono
	return nil
}

// Now is the time, and known says that the control plane ever told it. Not known, it is zero.
func (c *Clock) Now() (now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.now(c.Read())
}

// Until is how long it takes until Now is t.
func (c *Clock) Until(t time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.until(t, c.Read())
}

// Changed is sent to when the clock goes otherwise than before, so that Until says something else. One goroutine receives.
func (c *Clock) Changed() <-chan struct{} { return c.changed }

// Due reports whether Keep has something to do that does not wait for an occasion.
func (c *Clock) Due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.Read()
	m := c.estimate.mark(c.machine.Start, r)
	return !m.Least.IsZero() && (r.mono-c.keptAt >= keepEvery || (m.Offset-c.kept.Offset).Abs() >= shifted)
}

// Keep makes the time durable: before anything that rests on it is seen, and now and then.
func (c *Clock) Keep() error {
	c.mu.Lock()
	r := c.Read()
	m := c.estimate.mark(c.machine.Start, r)
	c.mu.Unlock()
	if m.Least.IsZero() {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := disk.WriteSummed(c.file, text); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.keptAt = m, r.mono
	return nil
}

// Hear takes the time that an answer says to what was sent at a reading.
func (c *Clock) Hear(stamp time.Time, sent Reading) {
	c.mu.Lock()
	changed := c.estimate.hear(stamp, sent, c.Read())
	c.mu.Unlock()
	if changed {
		c.changed.Notify()
	}
}
