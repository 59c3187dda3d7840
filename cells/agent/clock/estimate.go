package clock

import "time"

const (
	// drift is how fast what is known of the time gets worse by itself: a thousandth is more than any quartz errs.
	drift = 1000
	// leap is how far ahead of what is known a time may be that is said once, against the wall clock too. What turns on by
	// it can't be taken back: so one slip turns nothing on.
	leap = time.Minute
	// hesitation is how long after a start of the machine the wall clock is not gone by: it may be about to be set, or the
	// control plane about to tell.
	hesitation = time.Minute
	// unproven is how wrong a time may be that rests on the wall clock alone. Whatever is heard next is better.
	unproven = 24 * time.Hour
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
	heard  time.Time     // the control plane's time at mono; zero: not known
	mono   time.Duration // when heard was that
	within time.Duration // how much later heard may have been
	offset time.Duration // of heard from the wall clock
	least  time.Time     // given out before, by this process or an earlier one

	// waits: after a start of the machine, heard rests on nothing but least, until something is heard or the hesitation is
	// over. Then it rests on the wall clock and its offset.
	waits bool

	// What was heard last and is too far ahead, until it is said again.
	ahead   time.Time // zero: nothing
	aheadAt time.Duration
}

// mark is what an estimate leaves to the next process: never earlier than Least. While the machine runs on, the monotonic clock
// tells, whatever the wall clock is set to; after that the wall clock, and what it was off by.
type mark struct {
	Least  time.Time     `json:"least"`
	Offset time.Duration `json:"offset"`        // of the control plane's time from the wall clock, in nanoseconds
	Start  string        `json:"start"`         // of the machine, which Zero goes for; empty: not known
	Zero   time.Time     `json:"zero,omitzero"` // the control plane's time when the monotonic clock was zero
}

// restored goes on where another process ended. start is that of the machine, as the mark has it.
func restored(m mark, start string, r Reading) estimate {
	switch {
	case m.Least.IsZero():
		return estimate{}
	case m.Start != "" && m.Start == start:
		return estimate{heard: m.Zero.Add(r.mono), mono: r.mono, within: leap, offset: m.Offset, least: m.Least}
	}
	return estimate{heard: m.Least, mono: r.mono, within: unproven, least: m.Least, waits: true, offset: m.Offset}
}

// now is the time, and known says that somebody ever told it. Not known, it is zero.
func (e *estimate) now(r Reading) (now time.Time, known bool) {
	if e.heard.IsZero() {
		return e.least, false
	}
	if t := e.raw(r); t.After(e.least) {
		e.least = t
	}
	return e.least, true
}

// raw is the time by what was heard last, which may be before what was given out.
func (e *estimate) raw(r Reading) time.Time {
	if e.waits && r.mono-e.mono >= hesitation {
		e.heard, e.mono, e.waits = r.wall.Add(e.offset), r.mono, false
	}
	return e.heard.Add(r.mono - e.mono)
}

// until is how long it takes until now is t.
func (e *estimate) until(t time.Time, r Reading) time.Duration { return t.Sub(e.raw(r)) }

// hear takes the time that the control plane put on an answer to what was sent at one reading and was there at
// another. It counts if it is more precise than what is known, or shows that to be wrong. changed: the clock goes
// otherwise than before.
func (e *estimate) hear(stamp time.Time, sent, there Reading) (changed bool) {
	if y := stamp.UTC().Year(); y < 2000 || y >= 2200 {
		return false // nobody's time
	}
	within := max(0, there.mono-sent.mono)
	if !e.heard.IsZero() {
		off, known := stamp.Sub(e.raw(there)), e.within+(there.mono-e.mono)/drift
		if off > leap && !e.again(stamp, there) {
			return false
		}
		e.ahead = time.Time{}
		if within > known && off.Abs() <= within+known {
			return false
		}
	}
	e.heard, e.mono, e.within, e.offset = stamp, there.mono, within, stamp.Sub(there.wall)
	e.waits = false
	return true
}

// again reports whether a time far ahead is what was said before, or what the wall clock says.
func (e *estimate) again(stamp time.Time, there Reading) bool {
	near := func(t time.Time) bool { return stamp.Sub(t).Abs() <= leap }
	said := !e.ahead.IsZero() && near(e.ahead.Add(there.mono-e.aheadAt))
	e.ahead, e.aheadAt = stamp, there.mono
	return said || near(there.wall.Add(e.offset))
}

// mark is what the next process needs. start is that of the machine; empty: not known.
func (e *estimate) mark(start string, r Reading) mark {
	if e.heard.IsZero() {
		return mark{}
	}
	least, _ := e.now(r)
	if e.waits {
		return mark{Least: least, Offset: e.offset}
	}
	at := e.raw(r)
	return mark{Least: least, Offset: at.Sub(r.wall), Start: start, Zero: at.Add(-r.mono)}
}
