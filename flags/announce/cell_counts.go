package announce

import (
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// tally is how an announcement stands in the cells of a channel.
type tally struct {
	gate        flags.Gate
	percent     int // of the ramp, now
	due         bool
	counts      map[flags.CellState]int
	cells       int
	has         int
	unconfirmed int     // of those that have it
	others      []*cell // the first that have not, and are to be named
	open        bool    // some cell is still to get it
}

// maxNamed is how many cells are named in a sentence.
const maxNamed = 3

// count looks at every cell of the channel, once. Many are in the same state one after the other.
func (s *channelState) count() {
	t := &s.tally
	t.percent, t.due = 100, true
	t.counts = map[flags.CellState]int{}
	if s.rules == nil || s.state == "" {
		return
	}
	t.gate = s.gate()
	if !s.at.IsZero() {
		t.due = s.p.reached(s.at)
		for _, step := range t.gate.Steps {
			s.p.reached(s.at.Add(time.Duration(step.After) * time.Second))
		}
		t.percent = t.gate.Percent(flags.Instant(s.p.now))
	}
	var last flags.CellState
	run := 0
	for _, c := range s.c.cells {
		state, confirmed, ok := s.in(c).state()
		if !ok {
			continue
		}
		if state != last {
			t.add(last, run)
			last, run = state, 0
		}
		run++
		switch {
		case has(state) && !confirmed:
			t.unconfirmed++
		case !has(state) && len(t.others) < maxNamed:
			t.others = append(t.others, c)
		}
		if state == flags.Waiting || state == flags.Suspended || state == flags.Armed || state == flags.Ramping {
			t.open = true
		}
	}
	t.add(last, run)
	if s.state == Publishing && s.tree != nil && !t.open && t.percent >= 100 && t.due {
		s.state = Published
	}
}

func (t *tally) add(state flags.CellState, n int) {
	if n == 0 {
		return
	}
	t.counts[state] += n
	t.cells += n
	if has(state) {
		t.has += n
	}
}

// shown is the share of the ramp now: none of what is not told.
func (s *channelState) shown() int {
	if !s.sent || !s.tally.due {
		return 0
	}
	return s.tally.percent
}

func (s *channelState) done() bool {
	return s.state == Published || s.state == Publishing && s.tally.cells == 0
}
