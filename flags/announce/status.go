package announce

import (
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// tally is how an announcement stands in the cells of a channel.
type tally struct {
	view
	counts      map[flags.CellState]int
	cells       int
	has         int
	unconfirmed int     // of those that have it
	others      []*cell // the first that have not, and are to be named
	open        bool    // some cell is still to get it
}

// maxNamed is how many cells are named in a sentence.
const maxNamed = 3

// count looks at every cell of a standing, once. Many are in the same state one after the other.
func (p *planner) count(s *standing) {
	t := &s.tally
	t.view = view{percent: 100, due: true}
	t.counts = map[flags.CellState]int{}
	if s.rules == nil || s.state == "" {
		return
	}
	t.gate = s.gate()
	if !s.at.IsZero() {
		t.due = p.reached(s.at)
		for _, step := range t.gate.Steps {
			p.reached(s.at.Add(time.Duration(step.After) * time.Second))
		}
		t.percent = t.gate.Percent(flags.Instant(p.now))
	}
	var last flags.CellState
	run := 0
	for _, c := range s.c.cells {
		state, confirmed, ok := p.cellState(s, &t.view, c)
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
		if state == flags.Waiting || state == flags.Suspended || state == flags.Ready || state == flags.Ramping {
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

// status says how far an announcement is, without its cells.
func (p *planner) status(a *announcement) Status {
	st := Status{Announcement: a.tip, Hash: a.hash, Approvals: a.approvers, Channels: []ChannelStatus{}}
	for _, s := range a.standings {
		if s.state == "" {
			continue
		}
		if st.Announcement == nil {
			st.Announcement = s.rules
		}
		p.count(s)
		st.Channels = append(st.Channels, ChannelStatus{
			Channel: s.c.Name, State: s.state, At: s.at, Percent: s.shown(), Record: s.rec, Summary: p.sentence(s), Counts: s.tally.counts,
		})
	}
	last := a.last()
	if last == nil {
		st.State, st.Summary = Approved, "it is for no channel"
		if a.short != "" {
			st.State = Draft
		}
	} else {
		st.State, st.Summary = last.state, p.sentence(last)
	}
	st.Needs = a.needs(last)
	st.Warnings = p.warnings(a)
	return st
}

// shown is the share of the ramp now: none of what is not told.
func (s *standing) shown() int {
	if !s.sent || !s.tally.due {
		return 0
	}
	return s.tally.percent
}

// last gives the standing that people ask for first: of the last channel that is not done or, if all are, the last with cells.
func (a *announcement) last() (last *standing) {
	for _, s := range a.standings {
		switch {
		case s.state == "":
		case last == nil, !s.done(), last.done() && (s.tally.cells > 0 || last.tally.cells == 0):
			last = s
		}
	}
	return last
}

func (s *standing) done() bool {
	return s.state == Published || s.state == Publishing && s.tally.cells == 0
}

// needs says what a person has to do next; empty: nothing.
func (a *announcement) needs(last *standing) string {
	approve := ": sluice announce approve " + a.id
	for _, s := range a.standings {
		if s.stale != "" && a.tip != nil && a.short != "" {
			return s.stale + ", and that counts once it is approved: " + a.short + approve
		}
	}
	switch {
	case a.tip == nil:
		return "its file is gone: restore it, and cancel or archive it if that is meant"
	case last == nil || a.tip.Cancelled != "" || a.tip.Archived:
		return ""
	case last.state == Missed:
		return "its time passed: give it a new one, or publish it now: sluice announce publish " + a.id
	case a.short != "" && last.state != Published && last.state != Publishing:
		return a.short + approve
	case last.state == Held:
		return "it is held: lift that before its time"
	case last.state == Approved:
		return "it has no time: give it one, or publish it now: sluice announce publish " + a.id
	}
	return ""
}

// Detail gives the status of an announcement with every cell's. ok is false if there is none of that ID.
func (p *Plan) Detail(id string) (st Status, ok bool) {
	if p.p == nil {
		return Status{}, false
	}
	for i, a := range p.p.announcements {
		if a.id != id {
			continue
		}
		st = p.Announcements[i]
		st.Channels = append([]ChannelStatus{}, st.Channels...)
		for j := range st.Channels {
			for _, s := range a.standings {
				if s.c.Name == st.Channels[j].Channel {
					st.Channels[j].Cells = p.p.detail(s)
				}
			}
		}
		return st, true
	}
	return Status{}, false
}

func (p *planner) detail(s *standing) []CellStatus {
	cells := []CellStatus{}
	for _, c := range s.c.cells {
		if state, confirmed, ok := p.cellState(s, &s.tally.view, c); ok {
			why := strings.TrimPrefix(p.lacking(s, c, state), "is ")
			cells = append(cells, CellStatus{Cell: c.Name, State: state, Why: why, Confirmed: confirmed})
		}
	}
	return cells
}
