package clock

import "time"

const (
	// uncertaintyGrowth is how fast what is known of the time gets worse by itself: a thousandth is more than any quartz errs.
	uncertaintyGrowth = 1000
	// maxJump is how far ahead of what is known a time may be that is said once, against the wall clock too. What turns on by
	// it can't be taken back: so one slip turns nothing on.
	maxJump = time.Minute
	// wallClockDelay is how long after a start of the machine the wall clock is not gone by: it may be about to be set, or the
	// control plane about to tell.
	wallClockDelay = time.Minute
	// wallClockUncertainty is how wrong a time may be that rests on the wall clock alone. Whatever is heard next is better.
	wallClockUncertainty = 24 * time.Hour
)

// Reading is the machine's clocks at one instant. The monotonic one counts from the machine's start, or this process's, and
// cannot be set; the wall clock may say anything.
type Reading struct {
	wall time.Time
	mono time.Duration
}

// estimate is the cell's idea of the control plane's time (R40): what was heard last, and what the monotonic clock has
// counted since. Setting the wall clock changes nothing. It is never ahead of what was said, by however little: an answer
// was on its way when it is heard, so the time is late by that. It never goes back: where the control plane's own clock did,
// it stands until it is caught up with.
//
// It is pure. Readings of one clock are of one monotonic clock.
type estimate struct {
	sample      time.Time     // the control plane's time at mono; zero: not known
	sampledAt   time.Duration // when heard was that
	uncertainty time.Duration // how much later heard may have been
	offset      time.Duration // of heard from the wall clock
	floor       time.Time     // given out before, by this process or an earlier one

	// awaitsSample: after a start of the machine, heard rests on nothing but least, until something is heard or the hesitation is
	// over. Then it rests on the wall clock and its offset.
	awaitsSample bool

	// What was heard last and is too far ahead, until it is said again.
	suspect   time.Time // zero: nothing
	suspectAt time.Duration
}

// checkpoint is what an estimate leaves to the next process: never earlier than Least. While the machine runs on, the monotonic clock
// tells, whatever the wall clock is set to; after that the wall clock, and what it was off by.
type checkpoint struct {
	Least  time.Time     `json:"least"`
	Offset time.Duration `json:"offset"`        // of the control plane's time from the wall clock, in nanoseconds
	Start  string        `json:"start"`         // of the machine, which Zero goes for; empty: not known
	Zero   time.Time     `json:"zero,omitzero"` // the control plane's time when the monotonic clock was zero
}

// restoreEstimate goes on where another process ended. start is that of the machine, as the mark has it.
func restoreEstimate(m checkpoint, start string, r Reading) estimate {
	switch {
	case m.Least.IsZero():
		return estimate{}
	case m.Start != "" && m.Start == start:
		return estimate{sample: m.Zero.Add(r.mono), sampledAt: r.mono, uncertainty: maxJump, offset: m.Offset, floor: m.Least}
	}
	return estimate{sample: m.Least, sampledAt: r.mono, uncertainty: wallClockUncertainty, floor: m.Least, awaitsSample: true, offset: m.Offset}
}

// now is the time, and known says that somebody ever told it. Not known, it is zero.
func (e *estimate) now(r Reading) (now time.Time, known bool) {
	if e.sample.IsZero() {
		return e.floor, false
	}
	if t := e.extrapolate(r); t.After(e.floor) {
		e.floor = t
	}
	return e.floor, true
}

// extrapolate is the time by what was heard last, which may be before what was given out.
func (e *estimate) extrapolate(r Reading) time.Time {
	if e.awaitsSample && r.mono-e.sampledAt >= wallClockDelay {
		e.sample, e.sampledAt, e.awaitsSample = r.wall.Add(e.offset), r.mono, false
	}
	return e.sample.Add(r.mono - e.sampledAt)
}

// durationUntil is how long it takes until now is t.
func (e *estimate) durationUntil(t time.Time, r Reading) time.Duration {
	return t.Sub(e.extrapolate(r))
}

// addSample takes the time that the control plane put on an answer to what was sent at one reading and was there at
// another. It counts if it is more precise than what is known, or shows that to be wrong. changed: the clock goes
// otherwise than before.
func (e *estimate) addSample(stamp time.Time, sent, there Reading) (changed bool) {
	if y := stamp.UTC().Year(); y < 2000 || y >= 2200 {
		return false // nobody's time
	}
	within := max(0, there.mono-sent.mono)
	if !e.sample.IsZero() {
		off, known := stamp.Sub(e.extrapolate(there)), e.uncertainty+(there.mono-e.sampledAt)/uncertaintyGrowth
		if off > maxJump && !e.confirmsJump(stamp, there) {
			return false
		}
		e.suspect = time.Time{}
		if within > known && off.Abs() <= within+known {
			return false
		}
	}
	e.sample, e.sampledAt, e.uncertainty, e.offset = stamp, there.mono, within, stamp.Sub(there.wall)
	e.awaitsSample = false
	return true
}

// confirmsJump reports whether a time far ahead is what was said before, or what the wall clock says.
func (e *estimate) confirmsJump(stamp time.Time, there Reading) bool {
	near := func(t time.Time) bool { return stamp.Sub(t).Abs() <= maxJump }
	said := !e.suspect.IsZero() && near(e.suspect.Add(there.mono-e.suspectAt))
	e.suspect, e.suspectAt = stamp, there.mono
	return said || near(there.wall.Add(e.offset))
}

// checkpoint is what the next process needs. start is that of the machine; empty: not known.
func (e *estimate) checkpoint(start string, r Reading) checkpoint {
	if e.sample.IsZero() {
		return checkpoint{}
	}
	least, _ := e.now(r)
	if e.awaitsSample {
		return checkpoint{Least: least, Offset: e.offset}
	}
	at := e.extrapolate(r)
	return checkpoint{Least: least, Offset: at.Sub(r.wall), Start: start, Zero: at.Add(-r.mono)}
}
