package announce

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags/repository"
)

// status says how far an announcement is, without its cells.
func (a *announcement) status() Status {
	st := Status{Announcement: a.tip, Hash: a.hash, Approvals: a.approvers, Channels: []ChannelStatus{}}
	for _, s := range a.states {
		if s.state == "" {
			continue
		}
		if st.Announcement == nil {
			st.Announcement = s.rules
		}
		s.count()
		st.Channels = append(st.Channels, ChannelStatus{
			Channel: s.c.Name, State: s.state, At: s.at, Percent: s.shown(), Record: s.rec, Summary: s.sentence(), Counts: s.tally.counts,
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
		st.State, st.Summary = last.state, last.sentence()
	}
	st.Needs = a.needs(last)
	st.Warnings = a.warnings()
	return st
}

// last gives the channel that people ask for first: of the last channel that is not done or, if all are, the last with cells.
func (a *announcement) last() (last *channelState) {
	for _, s := range a.states {
		switch {
		case s.state == "":
		case last == nil, !s.done(), last.done() && (s.tally.cells > 0 || last.tally.cells == 0):
			last = s
		}
	}
	return last
}

// needs says what a person has to do next; empty: nothing.
func (a *announcement) needs(last *channelState) string {
	approve := ": sluice announce approve " + a.id
	for _, s := range a.states {
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
	i, ok := p.p.find(id)
	if !ok {
		return Status{}, false
	}
	st = p.Announcements[i]
	st.Channels = slices.Clone(st.Channels)
	for j := range st.Channels {
		for _, s := range p.p.announcements[i].states {
			if s.c.Name == st.Channels[j].Channel {
				st.Channels[j].Cells = s.detail()
			}
		}
	}
	return st, true
}

// find gives the place of an announcement in announcements.
func (p *planner) find(id string) (int, bool) {
	return slices.BinarySearchFunc(p.announcements, id, func(a *announcement, id string) int { return cmp.Compare(a.id, id) })
}

func (s *channelState) detail() []CellStatus {
	cells := []CellStatus{}
	for _, c := range s.c.cells {
		in := s.in(c)
		if state, confirmed, ok := in.state(); ok {
			cells = append(cells, CellStatus{Cell: c.Name, State: state, Why: strings.TrimPrefix(in.lacking(state), "is "), Confirmed: confirmed})
		}
	}
	return cells
}

// published gives a record that the announcement is published in some channel, one of what it says now if there is one; nil: none.
func (a *announcement) published() *repository.Record {
	var found *repository.Record
	for _, s := range a.states {
		if s.rec != nil && s.rec.Outcome == repository.Published && (found == nil || found.Text != a.text) {
			found = s.rec
		}
	}
	return found
}

// Published gives the features that are published, sorted, by channel: what gates see. In an entry channel, that is all whose
// time has come. What was edited since and not approved does not show.
func (p *Plan) Published() map[string][]string {
	all := map[string][]string{}
	if p.p == nil {
		return all
	}
	for _, c := range p.p.channels {
		features := map[string]bool{}
		for _, s := range c.states {
			if s.published() {
				add(features, s.rules.Features)
			}
		}
		if len(features) > 0 {
			all[c.Name] = slices.Sorted(maps.Keys(features))
		}
	}
	return all
}

// published reports whether s is on record as published and in force or, in an entry channel, in force and due.
func (s *channelState) published() bool {
	return s.sent && s.tally.due && (s.c.entry || s.rec.Outcome == repository.Published)
}
