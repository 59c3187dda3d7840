package announce

import (
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// cellCounts counts the cells of a channel by the state of an announcement.
type cellCounts struct {
	gate        flags.Gate
	percent     int // the ramp's current share
	due         bool
	byState     map[flags.CellState]int
	cells       int
	withIt      int
	unconfirmed int     // of withIt, those without a confirming report
	named       []*cell // the first cells without the features, to be named
	pending     bool    // some cell is still to get the features
}

// maxNamed is how many cells are named in a sentence.
const maxNamed = 3

// countCells counts every cell of the channel. Neighbours mostly have the same state, so equal runs are added at once.
func (s *channelState) countCells() {
	t := &s.counts
	t.percent, t.due = 100, true
	t.byState = map[flags.CellState]int{}
	if s.rules == nil || s.state == "" {
		return
	}
	t.gate = s.buildGate()
	if !s.at.IsZero() {
		t.due = s.planner.isDue(s.at)
		for _, step := range t.gate.Steps {
			s.planner.isDue(s.at.Add(time.Duration(step.After) * time.Second))
		}
		t.percent = t.gate.Percent(flags.Instant(s.planner.now))
	}
	var last flags.CellState
	run := 0
	for _, c := range s.channel.cells {
		state, confirmed, ok := s.inCell(c).cellState()
		if !ok {
			continue
		}
		if state != last {
			t.add(last, run)
			last, run = state, 0
		}
		run++
		switch {
		case countsAsOn(state) && !confirmed:
			t.unconfirmed++
		case !countsAsOn(state) && len(t.named) < maxNamed:
			t.named = append(t.named, c)
		}
		if state == flags.Waiting || state == flags.Suspended || state == flags.Armed || state == flags.Ramping ||
			state == flags.Ready {
			t.pending = true
		}
	}
	t.add(last, run)
	if s.state == Publishing && s.tree != nil && !t.pending && t.percent >= 100 && t.due {
		s.state = Published
	}
}

func (t *cellCounts) add(state flags.CellState, n int) {
	if n == 0 {
		return
	}
	t.byState[state] += n
	t.cells += n
	if countsAsOn(state) {
		t.withIt += n
	}
}

// shownPercent returns the ramp's current share; 0 before the time and while nothing is sent.
func (s *channelState) shownPercent() int {
	if !s.sent || !s.counts.due {
		return 0
	}
	return s.counts.percent
}

func (s *channelState) isDone() bool {
	return s.state == Published || s.state == Publishing && s.counts.cells == 0
}
