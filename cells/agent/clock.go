package agent

import "time"

const (
	// drift is how fast what is known of the time gets worse by itself: a thousandth is more than any quartz errs.
	drift = 1000
	// slowAnswer: half of such a round trip may be far from where in it the control plane looked at its clock.
	slowAnswer = time.Second
	// unproven is how wrong an offset may be that rests on the wall clock alone. Whatever is heard next is better.
	unproven = 24 * time.Hour
)

// reading is the machine's clocks at one instant. The monotonic one counts from anywhere, cannot be set, and stands
// still while the machine is suspended; the wall clock may say anything.
type reading struct {
	wall time.Time
	mono time.Duration
}

// clock is the cell's idea of the control plane's time (R40): what was heard last, and what the monotonic clock has
// counted since. Setting the wall clock changes nothing. It never goes back: where the control plane's own clock did, or
// the cell was ahead, it stands until it is caught up with. After a suspension it is late until an answer is heard.
//
// It is pure. Readings of one clock come from one process.
type clock struct {
	heard  time.Time     // the control plane's time at mono; zero: not known
	mono   time.Duration // when heard was that
	within time.Duration // how far off heard may be
	least  time.Time     // given out before, by this process or an earlier one
}

// mark is what a clock leaves to the next process: never earlier than Least, and beside the wall clock by Offset.
type mark struct {
	Least  time.Time     `json:"least"`
	Offset time.Duration `json:"offset"` // of the control plane's time from the wall clock, in nanoseconds
}

// restored goes on where another process ended. The machine may have been off in between: only the wall clock knows.
func restored(m mark, r reading) clock {
	if m.Least.IsZero() {
		return clock{}
	}
	return clock{heard: r.wall.Add(m.Offset), mono: r.mono, within: unproven, least: m.Least}
}

// now gives the time, and known: somebody told it, ever. Not known, it is zero.
func (c *clock) now(r reading) (now time.Time, known bool) {
	if c.heard.IsZero() {
		return c.least, false
	}
	if t := c.raw(r); t.After(c.least) {
		c.least = t
	}
	return c.least, true
}

// raw is the time by what was heard last, which may be before what was given out.
func (c *clock) raw(r reading) time.Time { return c.heard.Add(r.mono - c.mono) }

// until says how long it takes until now gives t.
func (c *clock) until(t time.Time, r reading) time.Duration { return t.Sub(c.raw(r)) }

// hear takes the time that the control plane put on an answer to what was sent at one reading and was there at
// another: somewhere in between. coarse is how much its stamp may be behind for having been cut off. It counts if it
// is more precise than what is known, or shows that to be wrong. changed: the clock goes otherwise than before.
func (c *clock) hear(stamp time.Time, coarse time.Duration, sent, there reading) (changed bool) {
	if y := stamp.Year(); y < 2000 || y > 9999 {
		return false // nobody's time
	}
	trip := max(0, there.mono-sent.mono)
	now, within := stamp, coarse+trip
	if coarse == 0 && trip <= slowAnswer {
		now, within = stamp.Add(trip/2), trip/2
	} // else the earliest that it can be: nothing opens early
	if !c.heard.IsZero() {
		known := c.within + (there.mono-c.mono)/drift
		if off := now.Sub(c.raw(there)).Abs(); within > known && off <= within+known {
			return false
		}
	}
	c.heard, c.mono, c.within = now, there.mono, within
	return true
}

// mark gives what the next process needs.
func (c *clock) mark(r reading) mark {
	if c.heard.IsZero() {
		return mark{}
	}
	least, _ := c.now(r)
	return mark{Least: least, Offset: c.raw(r).Sub(r.wall)}
}
