// Package clock estimates the control plane's time in a cell (R40), from samples of that time and the machine's
// monotonic clock, across restarts and reboots. It does not request the time: the packages that exchange messages with
// the control plane add samples. The estimate never goes back, is never ahead of the samples, and is not affected when
// the machine's wall clock is set. A Clock is safe for concurrent use. Its decisions are made by estimate, which is
// pure.
package clock

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/wake"
)

const (
	// saveInterval is the longest time between saves while something waits for an instant. maxOffsetChange is how far
	// the wall clock may move against the estimate before the estimate is saved sooner.
	saveInterval    = time.Minute
	maxOffsetChange = time.Second / 2

	maxFile = 4 << 10 // bytes of clock.json
)

// Machine describes the machine under a clock. The zero value is the real machine; tests set the fields.
type Machine struct {
	Skew  time.Duration // how far its wall clock is set ahead
	Start string        // identifies the machine's start, from which its monotonic clock counts; empty: the real one
}

// Clock is the control plane's time in one cell, in memory and on disk.
type Clock struct {
	file         string
	machine      Machine
	started      time.Time   // origin of the monotonic time of readings, unless the machine's can be read
	hasMonotonic bool        // the machine's monotonic clock can be read
	changed      wake.Signal // sent to when the estimate jumps

	mu       sync.Mutex
	estimate estimate
	saved    checkpoint
	savedAt  time.Duration
}

// New returns a clock that saves its time in a state folder. It knows no time before Restore or AddSample.
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
	return Reading{wall: now.Round(0).Add(c.machine.Skew), mono: mono} // Round strips the monotonic part
}

// Restore continues from what the previous process saved. Without a readable file the time is unknown.
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

// Now returns the time. known reports whether the control plane ever said it; if not, the time is zero.
func (c *Clock) Now() (now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.now(c.ReadMachine())
}

// Latest returns the later of Now and the machine's wall clock, for what expires: neither the control plane nor a clock
// that was set back makes it young again.
func (c *Clock) Latest() time.Time {
	now, _ := c.Now()
	if wall := c.ReadMachine().wall; wall.After(now) {
		return wall
	}
	return now
}

// DurationUntil returns how long it takes until Now is t.
func (c *Clock) DurationUntil(t time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimate.durationUntil(t, c.ReadMachine())
}

// Changed returns a channel that is sent to when a sample changes the results of DurationUntil. One goroutine receives.
func (c *Clock) Changed() <-chan struct{} { return c.changed }

// SaveDue reports whether Save should be called although nothing that depends on the time changed.
func (c *Clock) SaveDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.ReadMachine()
	m := c.estimate.checkpoint(c.machine.Start, r)
	return !m.Least.IsZero() && (r.mono-c.savedAt >= saveInterval || (m.Offset-c.saved.Offset).Abs() >= maxOffsetChange)
}

// Save makes the time durable. It is called before anything that depends on the time becomes visible, and periodically.
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

// StartAnew makes the next sample count whatever it says, even if the time goes back, and durably so: the owner asked
// for it, or the cell was registered anew.
func (c *Clock) StartAnew() error {
	c.mu.Lock()
	c.estimate.anew = !c.estimate.sample.IsZero()
	c.mu.Unlock()
	return c.Save()
}

// RequestReset has the agent of a state folder call StartAnew within seconds, or at its next start.
func RequestReset(stateDir string) error { return disk.ReplaceFile(resetFile(stateDir), nil) }

// HandleReset does what RequestReset asked for. done reports whether there was a request.
func (c *Clock) HandleReset() (done bool, err error) {
	name := resetFile(filepath.Dir(c.file))
	if _, err := os.Stat(name); err != nil {
		return false, nil //nolint:nilerr // there is no request
	}
	if err := c.StartAnew(); err != nil {
		return false, err
	}
	return true, os.Remove(name)
}

func resetFile(stateDir string) string { return filepath.Join(stateDir, "clock-reset") }

// Status is what the owner sees of the time.
type Status struct {
	Time    time.Time     `json:"time,omitzero"`    // zero: the control plane never said it
	Ahead   time.Duration `json:"ahead"`            // by how much it was moved ahead of the machine's own clocks
	Refused time.Time     `json:"refused,omitzero"` // what the control plane says, beyond MaxAhead; zero: nothing
	Anew    bool          `json:"anew,omitempty"`   // the next receipt sets the time, whatever it says
}

// Status returns the status of the time.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.estimate.now(c.ReadMachine())
	return Status{Time: now.UTC(), Ahead: c.estimate.ahead, Refused: c.estimate.refused, Anew: c.estimate.anew}
}

// AddSample adds the time stamp of a response to a request that was sent at a reading.
func (c *Clock) AddSample(stamp time.Time, sent Reading) {
	c.mu.Lock()
	changed := c.estimate.addSample(stamp, sent, c.ReadMachine())
	c.mu.Unlock()
	if changed {
		c.changed.Notify()
	}
}

// ReadMonotonic returns how long ago the machine started, suspension included, by the clock that no one sets, and a
// name of that start. Several processes of one machine may compare what they read. ok: the machine has such a clock.
func ReadMonotonic() (boot string, since time.Duration, ok bool) {
	since, ok = readMonotonic()
	boot = machineStart()
	return boot, since, ok && boot != ""
}
