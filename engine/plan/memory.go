package plan

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
)

// Memory holds what plans found out about cells, so that the next plan looks only at those whose state was replaced.
// The zero Memory remembers nothing. A Memory belongs to the one goroutine that makes plan after plan with it. Cell
// states that it was shown must not change any more.
//
// What was found about a cell is remembered if no later instant was named on the way (see planner.replanAt), and counts
// while the cell stays in contact, or silent, and while everything else stays as it is that findings depend on.
type Memory struct {
	made     time.Time
	basis    memoryBasis
	channels map[string]*channelMemory
}

// memoryBasis is what findings about any cell depend on, beside the state of the cell.
type memoryBasis struct {
	desired   *Desired
	since     time.Time
	listening time.Time
	clock     channels.Verdict
	finished  []Finish
}

// channelMemory is what is remembered of a channel's cells.
type channelMemory struct {
	cells      []cellTally // one for each of Channel.Cells, in the same order
	cohort     []string    // that inCohort and missing are of
	missing    []string    // names in cohort that the channel does not have
	hotfixOpen bool        // what fits was found by
}

// finding is a set of what was found out about a cell.
type finding uint8

const (
	agrees     finding = 1 << iota // what it was granted and reports is no dispute
	counted                        // outcome and counts
	classified                     // class, head and soaks, without a verdict
	judged                         // held and needsNothing
	unpaused                       // nothing is to be told about a pause
)

// asks counts the instants that a plan's code named.
type asks struct {
	instants int
	silences int // ends of contact
}

// cellTally is what is found out about one cell.
type cellTally struct {
	last      *CellState // the cell's last state; nil: it never reported
	inChannel *CellState // last, if it is about this channel; else nil

	live, inContact bool // of last, as are the three below: what each plan reads, side by side
	healthySince    time.Time
	reportedAt      time.Time
	soaked          time.Duration

	found, asked finding // what is known, and which of it named the end of the cell's contact
	inCohort     bool    // was eligible when the head moved
	eligible     bool    // counts for the head's rollout
	outcome      outcome // how the head did not work in the cell
	counts       counts
	class        class
	soaks        bool              // it is healthy on the head
	needsNothing bool              // see waitingCell.needsNothing
	head         *EffectiveHead    // the head that a waiting cell lacks
	held         *channels.Verdict // the verdict that holds a waiting cell; nil: none
}

// counts says what a cell counts for in a tally.
type counts uint8

const (
	healthyOnHead counts = 1 << iota // even if it joined later
	illOnHead                        // for tally.ill
	countsHealthy                    // for tally.healthy
	countsExcused                    // for tally.excused
)

// begin forgets what does not count for a plan that p makes.
func (m *Memory) begin(p *planner) {
	o := p.observed
	b := memoryBasis{p.desired, o.Since, o.ListeningSince, o.Clock.verdict(), o.Learned.Finished}
	was := m.basis
	if m.channels == nil || b.desired != was.desired || b.since != was.since || b.listening != was.listening ||
		b.clock != was.clock || !slices.Equal(b.finished, was.finished) || p.now.Before(m.made) {
		m.channels = make(map[string]*channelMemory, len(p.desired.Channels))
	}
	m.basis, m.made = b, p.now.Round(0) // the wall clock alone: it may be set back
}

// recall returns what counts of what is remembered of c's cells.
func (m *Memory) recall(p *planner, c *Channel) *channelMemory {
	known := m.channels[c.Name]
	if known == nil || len(known.cells) != len(c.Cells) {
		known = &channelMemory{cells: make([]cellTally, len(c.Cells))}
		if m.channels != nil {
			m.channels[c.Name] = known
		}
	}
	for i, cell := range c.Cells {
		s, t := p.observed.Cells[cell.Name], &known.cells[i]
		if s == nil && t.last == nil || s != nil && t.last == s && t.inContact == t.isInContact(p) {
			continue
		}
		*t = cellTally{last: s, inChannel: s.ifIn(c.Name), inCohort: t.inCohort}
		if s != nil {
			t.live, t.healthySince, t.reportedAt, t.soaked = s.live, s.HealthySince, s.LastReport, s.Soaked
			t.inContact = t.isInContact(p)
		}
	}
	return known
}

// isInContact reports what planner.inContact does.
func (t *cellTally) isInContact(p *planner) bool {
	return t.live || !t.reportedAt.IsZero() && p.now.Before(t.reportedAt.Add(p.desired.StaleAfter()))
}

func (t *cellTally) has(f finding) bool { return t.found&f != 0 }

// recall reports whether f is known of the cell. If so, it names the instants that finding it out had named.
func (t *cellTally) recall(p *planner, f finding) bool {
	if !t.has(f) {
		return false
	}
	if t.asked&f != 0 {
		at := t.reportedAt
		if t.live {
			at = p.now
		}
		p.replanIfSilentAt(at.Add(p.desired.StaleAfter()))
	}
	return true
}

// remember notes that f was found out since p had counted asks before, unless time alone may change it.
func (t *cellTally) remember(p *planner, f finding, before asks) {
	if p.asks.instants != before.instants {
		return
	}
	t.found |= f
	t.asked &^= f
	if p.asks.silences != before.silences {
		t.asked |= f
	}
}

// soak returns how long the cell has soaked.
func (t *cellTally) soak(now time.Time) cellSoak {
	switch {
	case !t.live:
		return cellSoak{t.soaked, t.reportedAt}
	case t.healthySince.IsZero():
		return cellSoak{t.soaked, now}
	}
	return cellSoak{now.Sub(t.healthySince), now}
}
