package plan

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan/cellset"
)

// Memory holds what plans found out about cells, so that the next plan looks only at those whose state was replaced. It
// compares all states to find these, unless Observed.Replaced names them.
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

// channelMemory is what is remembered of a channel's cells. What the cells add up to is kept with it, so that a plan
// visits only cells of which it does not know enough.
type channelMemory struct {
	cells    []cellTally           // one for each of Channel.Cells, in the same order
	known    [findings]cellset.Set // the cells of which a finding is known
	silences [findings]silences    // those of them whose finding named the end of their contact
	sums     sums                  // of what is said in cells
	lacking  cellset.Set           // cells of class lacksHead
	soakers  cellset.Set           // cells of class hasHead that are healthy on the head
	contacts [2]time.Time          // the first ends of contacts, see noteContact; zero: none ends

	cohort     []string // that inCohort and missing are of
	missing    []string // names in cohort that the channel does not have
	hotfixOpen bool     // what fits was found by

	samples []channels.Sample            // as soak gates see the cells; nil: none asked
	soaks   map[soakKey]channels.Verdict // what soak gates say of these samples

	buffers // of the newest plan, for the next one
}

// buffers holds lists whose memory one plan after the other uses.
type buffers struct {
	waiting []waitingCell
	queue   []int32
	places  []int32
	soaking []cellSoak
}

// finding is a set of what was found out about a cell.
type finding int

const (
	agrees     finding = iota // what it was granted and reports is no dispute
	counted                   // outcome and counts
	classified                // class, head and soaks, without a verdict
	judged                    // held and needsNothing
	unpaused                  // nothing is to be told about a pause
	sampled                   // what a soak gate sees of it
	findings   = iota         // how many there are
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

// sums says of how many of a channel's cells something is found.
type sums struct {
	eligible, healthy, excused, healthyWithLate, ill int // see tally
	troubled                                         int // cells whose outcome may count against the head
	hasHead, failedHead                              int // cells of these classes
}

// add adds a cell n times: once, or -1 times.
func (s *sums) add(t *cellTally, n int) {
	if t.eligible {
		s.eligible += n
	}
	switch {
	case t.counts&countsHealthy != 0:
		s.healthy += n
	case t.counts&countsExcused != 0:
		s.excused += n
	}
	if t.counts&healthyOnHead != 0 {
		s.healthyWithLate += n
	}
	if t.counts&illOnHead != 0 {
		s.ill += n
	}
	if t.outcome > machineTrouble {
		s.troubled += n
	}
	switch t.class {
	case hasHead:
		s.hasHead += n
	case failedHead:
		s.failedHead += n
	}
}

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
	for _, name := range o.Replaced {
		cell := p.desired.Cells[name]
		if cell == nil {
			continue
		}
		c, known := p.desired.Channels[cell.Channel], m.channels[cell.Channel]
		if known == nil || len(known.cells) != len(c.Cells) {
			continue
		}
		i, found := slices.BinarySearchFunc(c.Cells, name, func(cell *Cell, name string) int {
			return strings.Compare(cell.Name, name)
		})
		if found {
			known.replace(p, c, i, o.Cells[name])
		}
	}
}

// recall returns what counts of what is remembered of c's cells.
func (m *Memory) recall(p *planner, c *Channel) *channelMemory {
	known := m.channels[c.Name]
	if known == nil || len(known.cells) != len(c.Cells) {
		known = newChannelMemory(len(c.Cells))
		if m.channels != nil {
			m.channels[c.Name] = known
		}
	} else if p.observed.Replaced != nil {
		known.endContacts(p, c)
		return known
	}
	for i, cell := range c.Cells {
		s, t := p.observed.Cells[cell.Name], &known.cells[i]
		if s != t.last || t.inContact != t.isInContact(p) {
			known.replace(p, c, i, s)
		}
	}
	return known
}

func newChannelMemory(n int) *channelMemory {
	sets := cellset.Many(2*findings+2, n)
	m := &channelMemory{cells: make([]cellTally, n), lacking: sets[0], soakers: sets[1]}
	for f := range m.known {
		m.known[f], m.silences[f].cells = sets[2+f], sets[2+findings+f]
	}
	return m
}

// endContacts forgets what was found about cells whose contact ended since the last plan.
func (m *channelMemory) endContacts(p *planner, c *Channel) {
	if !slices.ContainsFunc(m.contacts[:], func(t time.Time) bool { return !t.IsZero() && !p.now.Before(t) }) {
		return
	}
	m.contacts = [2]time.Time{}
	for i := range m.cells {
		t := &m.cells[i]
		if !t.inContact || t.live {
			continue
		}
		if t.isInContact(p) {
			m.noteContact(t.silentAt(p))
		} else {
			m.replace(p, c, i, t.last)
		}
	}
}

// replace forgets what was found about a cell, given by its index, whose state is s now; nil: it never reported.
func (m *channelMemory) replace(p *planner, c *Channel, i int, s *CellState) {
	t := &m.cells[i]
	for f := range m.known {
		m.forget(finding(f), i)
	}
	m.lacking.Remove(i)
	m.soakers.Remove(i)
	m.sums.add(t, -1)
	*t = cellTally{last: s, inChannel: s.ifIn(c.Name), inCohort: t.inCohort}
	if s == nil {
		return
	}
	t.live, t.healthySince, t.reportedAt, t.soaked = s.live, s.HealthySince, s.LastReport, s.Soaked
	if t.inContact = t.isInContact(p); t.inContact && !t.live {
		m.noteContact(t.silentAt(p))
	}
}

// noteContact notes that the contact of a cell ends at t. Instants by this process's monotonic clock, and those that a
// store returned, are kept apart: how they compare changes when the wall clock is set.
func (m *channelMemory) noteContact(t time.Time) {
	kind := 0
	if t == t.Round(0) {
		kind = 1
	}
	setEarliest(&m.contacts[kind], t)
}

// isInContact reports what planner.inContact does.
func (t *cellTally) isInContact(p *planner) bool {
	return t.live || !t.reportedAt.IsZero() && p.now.Before(t.silentAt(p))
}

// silentAt returns when the contact of a cell that is not live ends.
func (t *cellTally) silentAt(p *planner) time.Time { return t.reportedAt.Add(p.desired.StaleAfter()) }

// remember notes that f was found out about a cell since p had counted asks before, unless time alone may change it.
func (m *channelMemory) remember(p *planner, f finding, i int, before asks) {
	if p.asks.instants != before.instants {
		return
	}
	m.known[f].Add(i)
	if p.asks.silences != before.silences {
		m.silences[f].add(m.cells, i)
	}
}

// forget lets f be found out anew about a cell.
func (m *channelMemory) forget(f finding, i int) {
	if m.known[f].Has(i) {
		m.known[f].Remove(i)
		m.silences[f].remove(m.cells, i)
	}
}

// forgetAll lets f be found out anew about all cells.
func (m *channelMemory) forgetAll(f finding) {
	clear(m.known[f])
	s := &m.silences[f]
	clear(s.cells)
	*s = silences{cells: s.cells}
}

// unknown returns the indexes of the cells of which f is not known, in order.
func (m *channelMemory) unknown(f finding) iter.Seq[int] { return m.known[f].Missing(len(m.cells)) }

// nameSilences names the instants that finding out f had named of the cells of which f is known.
func (m *channelMemory) nameSilences(p *planner, f finding) {
	s := &m.silences[f]
	if s.live > 0 {
		p.replanIfSilentAt(p.now.Add(p.desired.StaleAfter()))
	}
	if s.others > 0 {
		p.replanIfSilentAt(m.cells[s.findFirst(m.cells)].silentAt(p))
	}
}

// silences is a set of cells of which something holds only until they fall silent.
type silences struct {
	cells   cellset.Set
	live    int // how many of them are live
	others  int // how many are not
	first   int // that of the others which reported first, if isFound
	isFound bool
}

func (s *silences) add(all []cellTally, i int) {
	s.cells.Add(i)
	if all[i].live {
		s.live++
		return
	}
	if s.others++; s.others == 1 || s.isFound && all[i].reportedAt.Before(all[s.first].reportedAt) {
		s.first, s.isFound = i, true
	}
}

func (s *silences) remove(all []cellTally, i int) {
	if !s.cells.Has(i) {
		return
	}
	s.cells.Remove(i)
	if all[i].live {
		s.live--
		return
	}
	s.others--
	s.isFound = s.isFound && s.first != i
}

func (s *silences) findFirst(all []cellTally) int {
	if s.isFound {
		return s.first
	}
	s.first = -1
	for i := range s.cells.All() {
		if !all[i].live && (s.first < 0 || all[i].reportedAt.Before(all[s.first].reportedAt)) {
			s.first = i
		}
	}
	s.isFound = true
	return s.first
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
