package agent

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine has the clocks of a cell, and knows the control plane's time.
type machine struct {
	reading
	truth time.Time
	clock clock
	late  time.Duration // for how long it was suspended since the last answer
}

func (m *machine) pass(d time.Duration) {
	m.truth, m.wall, m.mono = m.truth.Add(d), m.wall.Add(d), m.mono+d
}

// ask is one exchange, and there, stamped in between, and back.
func (m *machine) ask(there, back time.Duration, coarse time.Duration) {
	sent := m.reading
	m.pass(there)
	stamp := m.truth
	if coarse > 0 {
		stamp = stamp.Truncate(coarse)
	}
	m.pass(back)
	m.clock.hear(stamp, coarse, sent, m.reading)
}

// R40, fault 64: whatever the wall clock says, no instant is there early by more than what half an answer's way leaves
// open, time never goes back, and it is not late for long.
func TestClockIsNeverEarlyAndNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := func(name string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, name))
		}
		truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
		skew := span("skew", 96*time.Hour) - 48*time.Hour
		m := &machine{reading: reading{wall: truth.Add(skew), mono: 5 * time.Second}, truth: truth}
		if _, known := m.clock.now(m.reading); known {
			t.Fatal("the time is known before anybody told it")
		}
		var last time.Time
		asked := false
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			switch rapid.SampledFrom([]string{"wait", "ask", "ask", "date", "poll", "step", "suspend", "restart"}).Draw(t, "event") {
			case "wait":
				m.pass(span("wait", 48*time.Hour))
			case "ask":
				m.ask(span("there", 300*time.Millisecond), span("back", 300*time.Millisecond), 0)
				asked, m.late = true, 0
			case "date": // of an answer's header
				m.ask(span("there", 300*time.Millisecond), span("back", 300*time.Millisecond), time.Second)
				asked, m.late = true, 0
			case "poll": // an answer that took long on the other side
				m.ask(span("there", 30*time.Second), span("back", 300*time.Millisecond), time.Second)
				asked, m.late = true, 0
			case "step": // by an administrator, or NTP
				m.wall = m.wall.Add(span("step", 96*time.Hour) - 48*time.Hour)
			case "suspend": // the monotonic clock stands still
				d := span("suspend", time.Hour)
				m.truth, m.wall, m.late = m.truth.Add(d), m.wall.Add(d), m.late+d
			case "restart": // with the machine: another monotonic clock; the wall clock went on
				kept := m.clock.mark(m.reading)
				m.mono = span("boot", time.Hour)
				m.clock = restored(kept, m.reading)
				down := span("down", time.Hour)
				m.truth, m.wall, m.mono = m.truth.Add(down), m.wall.Add(down), m.mono+down
			}
			now, known := m.clock.now(m.reading)
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
			if early := now.Sub(m.truth); early > 300*time.Millisecond {
				t.Fatalf("early by %s", early)
			}
			if late := m.truth.Sub(now); late > 65*time.Second+m.late {
				t.Fatalf("late by %s, suspended for %s", late, m.late)
			}
		}
	})
}

// A precise answer counts over a coarse one, and one that shows what is known to be wrong over both.
func TestClockPrefersWhatIsPrecise(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 700e6, time.UTC)
	m := &machine{reading: reading{wall: truth.Add(48 * time.Hour)}, truth: truth}
	off := func() time.Duration {
		now, _ := m.clock.now(m.reading)
		return now.Sub(m.truth).Round(time.Millisecond)
	}
	m.ask(0, 10*time.Millisecond, time.Second)
	if got := off(); got != -710*time.Millisecond {
		t.Errorf("after a date: off by %s", got)
	}
	m.ask(10*time.Millisecond, 10*time.Millisecond, 0)
	if got := off(); got != 0 {
		t.Errorf("after a receipt: off by %s", got)
	}
	m.ask(0, 600*time.Millisecond, 0) // stamped as soon as it was sent, and slow to come
	if got := off(); got != 0 {
		t.Errorf("after a slow receipt: off by %s", got)
	}
	m.ask(0, 10*time.Millisecond, time.Second)
	if got := off(); got != 0 {
		t.Errorf("after another date: off by %s", got)
	}
	m.truth = m.truth.Add(time.Hour) // the machine was suspended
	m.ask(0, 20*time.Millisecond, 0)
	if got := off(); got != -10*time.Millisecond {
		t.Errorf("after a suspension: off by %s", got)
	}
	before, _ := m.clock.now(m.reading)
	m.truth = m.truth.Add(-time.Minute) // the control plane's clock was set back
	m.ask(0, 0, 0)
	if now, _ := m.clock.now(m.reading); now.Before(before) {
		t.Errorf("went back from %s to %s", before, now)
	}
	if got := m.clock.until(m.truth.Add(2*time.Minute), m.reading); got != 2*time.Minute {
		t.Errorf("two minutes are %s", got)
	}
	if m.clock.hear(time.Time{}, 0, m.reading, m.reading) {
		t.Error("a receipt without a time was taken")
	}
}

// R40: after a restart offline the wall clock counts with its last offset, and never below what was given out.
func TestClockAfterARestart(t *testing.T) {
	truth := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	m := &machine{reading: reading{wall: truth.Add(48 * time.Hour), mono: time.Hour}, truth: truth} // two days ahead
	m.ask(0, 0, 0)
	m.pass(time.Minute)
	kept := m.clock.mark(m.reading)
	m.pass(time.Hour) // it is off
	after := restored(kept, reading{wall: m.wall, mono: 3 * time.Second})
	if now, known := after.now(reading{wall: m.wall, mono: 3 * time.Second}); !known || !now.Equal(m.truth) {
		t.Errorf("after an hour off it is %s (known %v), want %s", now, known, m.truth)
	}
	lost := restored(kept, reading{wall: time.Unix(0, 0)}) // its battery is empty
	if now, _ := lost.now(reading{wall: time.Unix(0, 0)}); !now.Equal(truth.Add(time.Minute)) {
		t.Errorf("with its wall clock lost it is %s, before what was given out: %s", now, truth.Add(time.Minute))
	}
	if fresh := restored(mark{}, m.reading); !fresh.heard.IsZero() {
		t.Error("without a mark the time is known")
	}
}
