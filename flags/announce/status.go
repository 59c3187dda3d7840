package announce

import "strings"

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
	if st.Announcement != nil {
		st.Zone = st.Announcement.Location().String()
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
