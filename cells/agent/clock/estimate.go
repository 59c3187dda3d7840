package clock

import "time"

const (
	// uncertaintyGrowth is how much time adds one unit of uncertainty: an error of a thousandth is more than any
	// quartz clock has.
	uncertaintyGrowth = 1000
	// maxJump is how far a single sample may be ahead of both the estimate and the wall clock. A flag that turned on
	// too early can't be taken back, so one slip of a clock must turn nothing on.
	maxJump = time.Minute
	// MaxAhead is how far samples may move the time ahead of what the machine's own clocks say, in all since the first
	// sample. A control plane that was taken over must not turn on what is announced for years ahead.
	MaxAhead = 24 * time.Hour
	// wallClockDelay is how long the wall clock is not used after a start of the machine: it may be about to be set, or
	// a sample about to come.
	wallClockDelay = time.Minute
	// wallClockUncertainty is the assumed error of a time that rests on the wall clock alone. Any sample is better.
	wallClockUncertainty = 24 * time.Hour
)

// Reading is the machine's clocks at one instant. The monotonic clock counts from the start of the machine, or of this
// process, and cannot be set; the wall clock may be arbitrarily wrong.
type Reading struct {
	wall time.Time
	mono time.Duration
}

// estimate is the cell's estimate of the control plane's time (R40): the last accepted sample, plus what the monotonic
// clock has counted since. Setting the wall clock does not change the estimate. The estimate is never ahead of the
// control plane's time, because a sample is as old as its response was long on the way. The estimate never goes back:
// after the control plane's own clock was set back, the estimate stands still until that clock catches up.
//
// An estimate is pure. All readings passed to one estimate must come from one monotonic clock.
type estimate struct {
	sample      time.Time     // the control plane's time at sampledAt; zero: not known
	sampledAt   time.Duration // on the monotonic clock
	uncertainty time.Duration // how late sample may have been
	offset      time.Duration // of sample from the wall clock
	floor       time.Time     // the latest time returned, by this process or an earlier one

	// awaitsSample says that, after a start of the machine, sample is only the saved floor. It holds until a sample is
	// added or wallClockDelay is over; then the estimate uses the wall clock and offset.
	awaitsSample bool

	// ahead is how far samples have moved the time ahead of the machine's own clocks; negative: behind. anew says that
	// the next sample counts whatever it says, as the first one did.
	ahead   time.Duration
	refused time.Time // the sample that would exceed MaxAhead; the first since one was accepted; zero: none
	anew    bool

	// The last sample that was too far ahead, until another sample confirms it.
	suspect   time.Time // zero: none
	suspectAt time.Duration
}

// checkpoint is what an estimate leaves to the next process, whose time is never before Least. While the machine keeps
// running, the next process uses the monotonic clock, however the wall clock is set; after a reboot it uses the wall
// clock and Offset.
type checkpoint struct {
	Least  time.Time     `json:"least"`
	Offset time.Duration `json:"offset"`        // of the control plane's time from the wall clock, in nanoseconds
	Start  string        `json:"start"`         // identifies the machine's start that Zero belongs to; empty: not known
	Zero   time.Time     `json:"zero,omitzero"` // the control plane's time when the monotonic clock was zero

	Ahead   time.Duration `json:"ahead,omitempty"` // in nanoseconds
	Refused time.Time     `json:"refused,omitzero"`
	Anew    bool          `json:"anew,omitempty"`
}

// restoreEstimate continues from a checkpoint. start identifies the machine's start, as in checkpoint.
func restoreEstimate(m checkpoint, start string, r Reading) estimate {
	e := estimate{offset: m.Offset, floor: m.Least, ahead: m.Ahead, refused: m.Refused, anew: m.Anew,
		sampledAt: r.mono}
	switch {
	case m.Least.IsZero():
		return estimate{}
	case m.Start != "" && m.Start == start:
		e.sample, e.uncertainty = m.Zero.Add(r.mono), maxJump
	default:
		e.sample, e.uncertainty, e.awaitsSample = m.Least, wallClockUncertainty, true
	}
	return e
}

// now returns the time. known reports whether any sample was ever added; if not, the time is zero.
func (e *estimate) now(r Reading) (now time.Time, known bool) {
	if e.sample.IsZero() {
		return e.floor, false
	}
	if t := e.extrapolate(r); t.After(e.floor) {
		e.floor = t
	}
	return e.floor, true
}

// extrapolate returns the present time as the last sample implies it, which may be before floor.
func (e *estimate) extrapolate(r Reading) time.Time {
	if e.awaitsSample && r.mono-e.sampledAt >= wallClockDelay {
		e.sample, e.sampledAt, e.awaitsSample = r.wall.Add(e.offset), r.mono, false
	}
	return e.sample.Add(r.mono - e.sampledAt)
}

// durationUntil returns how long it takes until the present time is t.
func (e *estimate) durationUntil(t time.Time, r Reading) time.Duration {
	return t.Sub(e.extrapolate(r))
}

// addSample adds the control plane's time stamp of a response whose request was sent at one reading and which arrived
// at another. The sample is accepted if it is more precise than the estimate, or proves the estimate wrong. changed
// reports whether the estimate jumped.
func (e *estimate) addSample(stamp time.Time, sent, received Reading) (changed bool) {
	if y := stamp.UTC().Year(); y < 2000 || y >= 2200 {
		return false // implausible
	}
	roundTrip := max(0, received.mono-sent.mono)
	ahead := time.Duration(0)
	switch {
	case e.sample.IsZero():
	case e.anew:
		e.floor = time.Time{} // the time may go back, this once
		changed = true
	default:
		ahead = e.displace(stamp, received)
		difference, uncertainty := stamp.Sub(e.extrapolate(received)),
			e.uncertainty+(received.mono-e.sampledAt)/uncertaintyGrowth
		if difference > maxJump && !e.confirmsJump(stamp, received) {
			return false
		}
		e.suspect = time.Time{}
		if ahead > MaxAhead {
			if changed = e.refused.IsZero(); changed {
				e.refused = stamp
			}
			return changed
		}
		changed, e.refused = !e.refused.IsZero(), time.Time{}
		if roundTrip > uncertainty && difference.Abs() <= roundTrip+uncertainty {
			return changed
		}
	}
	e.ahead, e.anew, e.refused, e.suspect = ahead, false, time.Time{}, time.Time{}
	e.sample, e.sampledAt, e.uncertainty, e.offset = stamp, received.mono, roundTrip, stamp.Sub(received.wall)
	e.awaitsSample = false
	return true
}

// displace returns how far ahead of the machine's own clocks the time would be after a sample: ahead of both of them,
// or behind both. Whatever one of them supports is no displacement. The monotonic clock's own error is forgiven.
func (e *estimate) displace(stamp time.Time, received Reading) time.Duration {
	earlier, later := e.extrapolate(received), received.wall.Add(e.offset)
	if earlier.After(later) {
		earlier, later = later, earlier
	}
	ahead := e.ahead
	if forgiven := (received.mono - e.sampledAt) / uncertaintyGrowth; ahead > 0 {
		ahead = max(0, ahead-forgiven)
	} else {
		ahead = min(0, ahead+forgiven)
	}
	switch {
	case stamp.After(later):
		ahead += stamp.Sub(later)
	case stamp.Before(earlier):
		ahead -= earlier.Sub(stamp)
	}
	return ahead
}

// confirmsJump reports whether a time far ahead agrees with the previous such sample, or with the wall clock.
func (e *estimate) confirmsJump(stamp time.Time, received Reading) bool {
	near := func(t time.Time) bool { return stamp.Sub(t).Abs() <= maxJump }
	confirmed := !e.suspect.IsZero() && near(e.suspect.Add(received.mono-e.suspectAt))
	e.suspect, e.suspectAt = stamp, received.mono
	return confirmed || near(received.wall.Add(e.offset))
}

// checkpoint returns what the next process needs. start identifies the machine's start; empty: not known.
func (e *estimate) checkpoint(start string, r Reading) checkpoint {
	if e.sample.IsZero() {
		return checkpoint{}
	}
	least, _ := e.now(r)
	if e.awaitsSample {
		return checkpoint{Least: least, Offset: e.offset, Ahead: e.ahead, Refused: e.refused, Anew: e.anew}
	}
	at := e.extrapolate(r)
	return checkpoint{Least: least, Offset: at.Sub(r.wall), Start: start, Zero: at.Add(-r.mono), Ahead: e.ahead,
		Refused: e.refused, Anew: e.anew}
}
