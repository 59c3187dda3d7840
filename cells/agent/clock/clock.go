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
	// saveInterval is how often the time is kept at the least while something waits for it, shifted how far the
	// wall clock must have been moved against it to be kept sooner.
	saveInterval    = time.Minute
	maxOffsetChange = time.Second / 2

	maxFile = 4 << 10 // bytes of clock.json
)

// Machine is the machine under a clock: the zero value is the one that it runs on.
type Machine struct {
	Skew  time.Duration // that its wall clock is set ahead by
	Start string        // names its start, from which the monotonic clock counts; empty: as it is
}

// Clock is the control plane's time in one cell, in memory and on disk.
type Clock struct {
	file         string
	machine      Machine
	started      time.Time   // readings count from here, unless the machine counts
	hasMonotonic bool        // the machine's monotonic clock can be read
	changed      wake.Signal // the clock goes otherwise than before

	mu       sync.Mutex
	estimate estimate
	saved    checkpoint
	savedAt  time.Duration
}

// New makes a clock that keeps its time in a state folder. It knows none before Restore or Hear.
func New(stateDir string, m Machine) *Clock {
	c := &Clock{file: filepath.Join(stateDir, "clock.json"), machine: m, started: time.Now(), changed: wake.New()}
	if _, c.hasMonotonic = readMonotonic(); c.hasMonotonic && m.Start == "" {
		c.machine.Start = machineStart()
	}
	return c
}

// ReadMachine reads the machine's clocks.
func (c *Clock) ReadMachine() Reading {
	now := time.Now()
	mono := now.Sub(c.started)
	if c.hasMonotonic {
		mono, _ = readMonotonic()
	}
	return Reading{wall: now.Round(0).Add(c.machine.Skew), mono: mono} // Round takes the monotonic part away
}

// Restore goes on where the process before ended. Without a file that can be read the time is not known.
func (c *Clock) Restore() error {
	text, err := disk.ReadChecksummed(c.file, maxFile)
	if err != nil || text == nil {
		return err
	}
	var m checkpoint
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.ReadMachine()
	c.estimate, c.saved, c.savedAt = restoreEstimate(m, c.machine.Start, r), m, r.mono
	return nil
}

// Now is the time, and known says that the control plane ever told it. Not known, it is zero.
func (c *Clock) Now() (now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.now(c.ReadMachine())
}

// DurationUntil is how long it takes until Now is t.
func (c *Clock) DurationUntil(t time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.durationUntil(t, c.ReadMachine())
}

// Changed is sent to when the clock goes otherwise than before, so that Until says something else. One goroutine receives.
func (c *Clock) Changed() <-chan struct{} { return c.changed }

// SaveDue reports whether Keep has something to do that does not wait for an occasion.
func (c *Clock) SaveDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.ReadMachine()
	m := c.estimate.checkpoint(c.machine.Start, r)
	return !m.Least.IsZero() && (r.mono-c.savedAt >= saveInterval || (m.Offset-c.saved.Offset).Abs() >= maxOffsetChange)
}

// Save makes the time durable: before anything that rests on it is seen, and now and then.
func (c *Clock) Save() error {
	c.mu.Lock()
	r := c.ReadMachine()
	m := c.estimate.checkpoint(c.machine.Start, r)
	c.mu.Unlock()
	if m.Least.IsZero() {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := disk.WriteChecksummed(c.file, text); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved, c.savedAt = m, r.mono
	return nil
}

// AddSample takes the time that an answer says to what was sent at a reading.
func (c *Clock) AddSample(stamp time.Time, sent Reading) {
	c.mu.Lock()
	changed := c.estimate.addSample(stamp, sent, c.ReadMachine())
	c.mu.Unlock()
	if changed {
		c.changed.Notify()
	}
}
