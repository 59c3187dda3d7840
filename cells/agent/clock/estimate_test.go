package clock

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simulatedCell has the clocks of a cell, and knows the control plane's time.
type simulatedCell struct {
	Reading
	truth    time.Time
	clock    estimate
	start    string
	lateness time.Duration // how long it was off or suspended since the last sample
}

func (m *simulatedCell) advance(d time.Duration) {
	m.truth, m.wall, m.mono = m.truth.Add(d), m.wall.Add(d), m.mono+d
}

// exchange is a request and a response, stamped in between.
func (m *simulatedCell) exchange(there, back time.Duration) (changed bool) {
	sent := m.Reading
	m.advance(there)
	stamp := m.truth
	m.advance(back)
	return m.clock.addSample(stamp, sent, m.Reading)
}

// reboot restarts the machine after a while.
func (m *simulatedCell) reboot(down, mono time.Duration) {
	kept := m.clock.checkpoint(m.start, m.Reading)
	m.truth, m.wall, m.mono = m.truth.Add(down), m.wall.Add(down), mono
	m.start += "+"
	m.clock = restoreEstimate(kept, m.start, m.Reading)
}

// restart restarts the agent after a while.
func (m *simulatedCell) restart(down time.Duration) {
	kept := m.clock.checkpoint(m.start, m.Reading)
	m.advance(down)
	m.clock = restoreEstimate(kept, m.start, m.Reading)
}

// R40, fault 64: whatever the wall clock says, no instant comes early, time never goes back, and it is not late for
// long.
func TestClockIsNeverEarlyAndNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := func(name string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, name))
		}
		truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
		skew := span("skew", 96*time.Hour) - 48*time.Hour
		m := &simulatedCell{Reading: Reading{wall: truth.Add(skew), mono: 5 * time.Second}, truth: truth, start: "a"}
		if _, known := m.clock.now(m.Reading); known {
			t.Fatal("the time is known before anybody told it")
		}
		step := func() { // set by an administrator, or by NTP
			if !m.clock.awaitsSample { // else the estimate has no other basis
				m.wall = m.wall.Add(span("step", 96*time.Hour) - 48*time.Hour)
			}
		}
		var last time.Time
		asked := false
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			switch rapid.SampledFrom([]string{"wait", "ask", "ask", "slow", "step", "suspend", "restart", "reboot",
				"lie"}).Draw(t, "event") {
			case "wait":
				m.advance(span("wait", 48*time.Hour))
			case "ask":
				back := span("back", 300*time.Millisecond)
				if m.exchange(span("there", 300*time.Millisecond), back) {
					asked, m.lateness = true, back
				}
			case "slow": // a receipt that was on its way for long
				back := span("back", 30*time.Second)
				if m.exchange(span("there", 30*time.Second), back) {
					asked, m.lateness = true, back
				}
			case "step":
				step()
			case "suspend": // the monotonic clock stands still here
				d := span("suspend", time.Hour)
				m.truth, m.wall, m.lateness = m.truth.Add(d), m.wall.Add(d), m.lateness+d
			case "restart": // the wall clock may be set meanwhile
				step()
				down := span("down", time.Hour)
				if m.clock.awaitsSample {
					m.lateness += down
				}
				m.restart(down)
			case "reboot":
				down := span("down", time.Hour)
				m.reboot(down, span("boot", time.Hour))
				m.lateness += down
			case "lie": // one sample is in the future
				if asked {
					m.clock.suspect = time.Time{} // the second of two in a row is accepted
					m.clock.addSample(m.truth.Add(3000*time.Hour+span("lie", 1e6*time.Hour)), m.Reading, m.Reading)
				}
			}
			now, known := m.clock.now(m.Reading)
			if known != asked {
				t.Fatalf("known %v, asked %v", known, asked)
			}
			if !known {
				continue
			}
			if now.Before(last) {
				t.Fatalf("went back from %s to %s", last, now)
			}
			last = now
			if early := now.Sub(m.truth); early > 0 {
				t.Fatalf("early by %s", early)
			}
			if late := m.truth.Sub(now); late > m.lateness {
				t.Fatalf("late by %s, and may be by %s", late, m.lateness)
			}
		}
	})
}

// A precise sample replaces an imprecise one, and one that proves the estimate wrong replaces both.
func TestClockPrefersWhatIsPrecise(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 700e6, time.UTC)
	m := &simulatedCell{Reading: Reading{wall: truth.Add(48 * time.Hour)}, truth: truth}
	late := func(want time.Duration, after string) {
		t.Helper()
		now, _ := m.clock.now(m.Reading)
		if got := m.truth.Sub(now); got != want {
			t.Errorf("after %s: late by %s, want %s", after, got, want)
		}
	}
	m.exchange(0, 30*time.Second)
	late(30*time.Second, "a receipt that was long on its way")
	m.exchange(10*time.Millisecond, 10*time.Millisecond)
	late(10*time.Millisecond, "a quick one")
	m.exchange(0, 600*time.Millisecond)
	late(10*time.Millisecond, "a slow one")
	m.truth = m.truth.Add(30 * time.Second) // the machine was suspended
	m.exchange(0, 20*time.Millisecond)
	late(20*time.Millisecond, "a suspension")
	before, _ := m.clock.now(m.Reading)
	m.truth = m.truth.Add(-time.Minute) // the control plane's clock was set back
	m.exchange(0, 0)
	if now, _ := m.clock.now(m.Reading); now.Before(before) {
		t.Errorf("went back from %s to %s", before, now)
	}
	if got := m.clock.durationUntil(m.truth.Add(2*time.Minute), m.Reading); got != 2*time.Minute {
		t.Errorf("two minutes are %s", got)
	}
}

// One sample far in the future turns nothing on: it must be confirmed by another. Implausible samples are never
// accepted.
func TestClockDoubtsALeap(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	m := &simulatedCell{Reading: Reading{wall: truth}, truth: truth}
	hear := func(ahead time.Duration, want bool) {
		t.Helper()
		m.advance(10 * time.Second)
		if got := m.clock.addSample(m.truth.Add(ahead), m.Reading, m.Reading); got != want {
			t.Errorf("%s ahead: taken %v, want %v", ahead, got, want)
		}
	}
	for _, year := range []int{-1, 1, 1999, 2200, 9999, 20000} {
		if m.clock.addSample(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), m.Reading, m.Reading) {
			t.Errorf("year %d was taken", year)
		}
	}
	hear(0, true)
	hear(48*time.Hour, false)
	hear(0, true) // the previous sample is not confirmed
	hear(48*time.Hour, false)
	hear(24*time.Hour, false) // a different time
	if now, _ := m.clock.now(m.Reading); !now.Equal(m.truth) {
		t.Errorf("it is %s, want %s", now, m.truth)
	}
	hear(24*time.Hour, true) // the control plane's clock was set, or the machine was suspended for a day
	m.clock.now(m.Reading)
	hear(0, true)
	if now, _ := m.clock.now(m.Reading); now.Before(m.truth.Add(23 * time.Hour)) {
		t.Errorf("it went back to %s", now)
	}
}

// R40, fault 64: while the machine keeps running, its wall clock may be set to anything between two starts of the
// agent. After a reboot the wall clock counts with its last offset, after a delay, and never below the floor.
func TestClockAfterAStart(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	begin := func() *simulatedCell {
		m := &simulatedCell{Reading: Reading{wall: truth.Add(48 * time.Hour), mono: time.Hour}, truth: truth,
			start: "a"}
		m.exchange(0, 0)
		m.advance(time.Minute)
		return m
	}
	is := func(m *simulatedCell, want time.Time, when string) {
		t.Helper()
		if now, known := m.clock.now(m.Reading); !known || !now.Equal(want) {
			t.Errorf("%s it is %s (known %v), want %s", when, now, known, want)
		}
	}
	m := begin()
	m.wall = m.wall.Add(48 * time.Hour) // and two days more
	m.restart(time.Hour)
	is(m, m.truth, "after a restart")

	m = begin()
	last := m.truth
	m.reboot(time.Hour, 3*time.Second)
	is(m, last, "after a reboot")
	m.advance(30 * time.Second)
	is(m, last.Add(30*time.Second), "half a minute later")
	m.restart(time.Second) // that does not make the time known any sooner or later
	m.advance(30 * time.Second)
	if now, _ := m.clock.now(m.Reading); now.After(m.truth.Add(-time.Hour)) {
		t.Errorf("half a minute after another restart it is %s", now)
	}
	m.advance(30 * time.Second)
	is(m, m.truth, "in the end")
	m.wall = m.wall.Add(48 * time.Hour)
	m.restart(time.Hour)
	is(m, m.truth, "and after one more restart")

	m = begin()
	m.wall = m.wall.Add(48 * time.Hour) // the default without a battery; it is about to be set
	m.reboot(time.Hour, 3*time.Second)
	m.advance(10 * time.Second)
	m.exchange(0, 0)
	is(m, m.truth, "as soon as it is told")

	m = begin()
	last = m.truth
	m.wall = time.Unix(0, 0)
	m.reboot(time.Hour, 0)
	m.advance(2 * time.Minute)
	if now, _ := m.clock.now(m.Reading); now.Before(last) {
		t.Errorf("with its wall clock lost it is %s, before what was given out: %s", now, last)
	}
	if fresh := restoreEstimate(checkpoint{}, "a", m.Reading); !fresh.sample.IsZero() {
		t.Error("without a checkpoint the time is known")
	}
}

// R40: samples move the time ahead of the machine's own clocks by MaxAhead in all, however small the steps and however
// often they are said. What they moved back they may move forward again. A reset lets the next sample count, once, even
// back; and what the machine's clocks support is no leap.
func TestR40LeapsAreBounded(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	begin := func() *simulatedCell {
		m := &simulatedCell{Reading: Reading{wall: truth.Add(-time.Hour)}, truth: truth, start: "a"}
		m.exchange(0, 0)
		return m
	}
	hear := func(m *simulatedCell, ahead time.Duration, times int) {
		for range times {
			m.advance(10 * time.Second)
			m.clock.addSample(m.truth.Add(ahead), m.Reading, m.Reading)
		}
	}
	early := func(m *simulatedCell) time.Duration {
		now, _ := m.clock.now(m.Reading)
		return now.Sub(m.truth)
	}
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		say  func(m *simulatedCell)
		most time.Duration
	}{
		"2150, often": {func(m *simulatedCell) { hear(m, 124*year, 50) }, 0},
		"a year, with restarts in between": {func(m *simulatedCell) {
			for range 10 {
				hear(m, year, 3)
				m.restart(time.Second)
			}
		}, 0},
		"a day, and a day more, and so on": {func(m *simulatedCell) {
			for i := range 30 {
				hear(m, time.Duration(i)*MaxAhead, 3)
			}
		}, MaxAhead},
		"in steps of which none is a leap": {func(m *simulatedCell) {
			for i := range 5000 {
				hear(m, time.Duration(i)*50*time.Second, 1)
				if i%100 == 0 {
					m.restart(time.Second)
				}
			}
		}, MaxAhead + 2*time.Minute}, // and a thousandth of the time that passed
		"steps, with reboots": {func(m *simulatedCell) {
			for i := range 200 {
				hear(m, time.Duration(i)*time.Hour, 3)
				m.reboot(time.Second, 0)
			}
		}, MaxAhead + 2*time.Minute},
	} {
		m := begin()
		c.say(m)
		if got := early(m); got > c.most {
			t.Errorf("%s: it is %s ahead, want at most %s", name, got, c.most)
		}
	}

	m := begin()
	hear(m, -10*year, 3) // the control plane's clock was set back, and right again
	hear(m, 0, 3)
	m.advance(time.Hour)
	if got := early(m); got.Abs() > time.Second {
		t.Errorf("after the control plane's clock was back it is %s ahead", got)
	}

	m = begin()
	hear(m, year, 3)
	if m.clock.refused.IsZero() {
		t.Error("nobody is told of what was refused")
	}
	hear(m, 0, 1)
	if !m.clock.refused.IsZero() {
		t.Error("the refusal is shown for ever")
	}
	hear(m, year, 3)
	m.clock.anew = true
	m.restart(time.Second) // the wish is durable
	hear(m, year, 1)
	if got := early(m); got != year {
		t.Errorf("after a reset it is %s ahead, want a year", got)
	}
	m.clock.anew = true
	hear(m, 0, 1)
	if got := early(m); got != 0 || m.clock.anew {
		t.Errorf("after a reset it is %s ahead, want 0", got)
	}

	m = begin() // off for a year; its wall clock runs on a battery
	m.reboot(year, 0)
	hear(m, 0, 1)
	if got := early(m); got != 0 {
		t.Errorf("after a year it is %s ahead, want 0", got)
	}
}
