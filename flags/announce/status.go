package announce

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags/repository"
)

// buildStatus returns the status of an announcement, without cells.
func (a *announcement) buildStatus() Status {
	st := Status{Announcement: a.tip, Hash: a.hash, Approvals: a.approvers, Channels: []ChannelStatus{}}
	for _, s := range a.states {
		if s.state == "" {
			continue
		}
		if st.Announcement == nil {
			st.Announcement = s.rules
		}
		s.countCells()
		st.Channels = append(st.Channels, ChannelStatus{
			Channel: s.channel.Name, State: s.state, At: s.at, Percent: s.shownPercent(), Record: s.record,
			Summary: s.summarise(), Counts: s.counts.byState,
		})
	}
	if st.Announcement == nil { // nobody has to test for it: only records are left, or what they name is unreadable
		st.Announcement = &repository.Announcement{ID: a.id, Features: []string{}}
	}
	st.Zone = st.Announcement.Location().String()
	last := a.relevantChannel()
	switch {
	case last == nil && a.tip == nil:
		st.State, st.Summary = Gone, "its file is gone, and it is on nowhere: git has its text"
	case last == nil:
		st.State, st.Summary = Approved, "it is for no channel"
		if a.missingApprovals != "" {
			st.State = Draft
		}
	default:
		st.State, st.Summary = last.state, last.summarise()
	}
	st.Needs = a.nextStep(last)
	st.Warnings = a.warningTexts()
	return st
}

// relevantChannel returns the last unfinished channel or, if all are finished, the last one with cells.
func (a *announcement) relevantChannel() (last *channelState) {
	for _, s := range a.states {
		switch {
		case s.state == "":
		case last == nil, !s.isDone(), last.isDone() && (s.counts.cells > 0 || last.counts.cells == 0):
			last = s
		}
	}
	return last
}

// nextStep says what a person has to do next; empty: nothing.
func (a *announcement) nextStep(last *channelState) string {
	approve := ": sluice announce approve " + a.id
	for _, s := range a.states {
		if s.stale != "" && a.tip != nil && a.missingApprovals != "" {
			return s.stale + ", and that counts once it is approved: " + a.missingApprovals + approve
		}
	}
	switch {
	case a.tip == nil && last == nil:
		return ""
	case a.tip == nil:
		return "its file is gone: restore it, then cancel or archive it if that is intended"
	case last == nil || a.tip.Cancelled != "" || a.tip.Archived:
		return ""
	case last.state == Missed:
		return "its time has passed: set a new one, or publish it now: sluice announce publish " + a.id + " --now"
	case a.missingApprovals != "" && last.state != Published && last.state != Publishing:
		return a.missingApprovals + approve
	case last.state == Held:
		return "it is held: lift the hold before its time: sluice announce hold " + a.id + " --lift"
	case last.state == Approved:
		return "it has no time: set one, or publish it now: sluice announce publish " + a.id + " --now"
	}
	return ""
}

// Detail returns the status of an announcement with every cell. ok is false for an unknown ID.
func (p *Plan) Detail(id string) (st Status, ok bool) {
	if p.planner == nil {
		return Status{}, false
	}
	i, ok := p.planner.findAnnouncement(id)
	if !ok {
		return Status{}, false
	}
	st = p.Announcements[i]
	st.Channels = slices.Clone(st.Channels)
	for j := range st.Channels {
		for _, s := range p.planner.announcements[i].states {
			if s.channel.Name == st.Channels[j].Channel {
				st.Channels[j].Cells = s.cellStatuses()
			}
		}
	}
	return st, true
}

// findAnnouncement returns the index of an announcement.
func (p *planner) findAnnouncement(id string) (int, bool) {
	return slices.BinarySearchFunc(p.announcements, id, func(a *announcement, id string) int {
		return cmp.Compare(a.id, id)
	})
}

func (s *channelState) cellStatuses() []CellStatus {
	cells := []CellStatus{}
	for _, c := range s.channel.cells {
		if status, ok := s.cellStatus(c); ok {
			cells = append(cells, status)
		}
	}
	return cells
}

// cellStatus returns the status in one cell. ok is false if the announcement does not reach it.
func (s *channelState) cellStatus(c *cell) (status CellStatus, ok bool) {
	in := s.inCell(c)
	state, confirmed, ok := in.cellState()
	if !ok {
		return status, false
	}
	return CellStatus{Cell: c.Name, State: state, Why: strings.TrimPrefix(in.describeState(state), "is "),
		Confirmed: confirmed}, true
}

// InCell returns the status of an announcement in one cell, and its state in the cell's channel. ok is false if the
// announcement does not reach the cell.
func (p *Plan) InCell(id, name string) (status CellStatus, state State, ok bool) {
	if p.planner == nil {
		return status, "", false
	}
	i, ok := p.planner.findAnnouncement(id)
	if !ok {
		return status, "", false
	}
	for _, s := range p.planner.announcements[i].states {
		for _, c := range s.channel.cells {
			if c.Name == name {
				status, ok = s.cellStatus(c)
				return status, s.state, ok
			}
		}
	}
	return status, "", false
}

// publishedRecord returns a record of publication in some channel, of the current text if possible; nil: none.
func (a *announcement) publishedRecord() *repository.Record {
	var found *repository.Record
	for _, s := range a.states {
		if s.record != nil && s.record.Outcome == repository.Published && (found == nil || found.Text != a.text) {
			found = s.record
		}
	}
	return found
}

// Published returns the published features by channel, sorted, as promotion gates see them: in an entry channel, all
// features whose time has come. Unapproved edits don't show.
func (p *Plan) Published() map[string][]string {
	all := map[string][]string{}
	if p.planner == nil {
		return all
	}
	for _, c := range p.planner.channels {
		features := map[string]bool{}
		for _, s := range c.states {
			if s.isPublished() {
				addNames(features, s.rules.Features)
			}
		}
		if len(features) > 0 {
			all[c.Name] = slices.Sorted(maps.Keys(features))
		}
	}
	return all
}

// isPublished reports whether s is in force and on record as published or, in an entry channel, in force and due.
func (s *channelState) isPublished() bool {
	return s.sent && s.counts.due && (s.channel.entry || s.record.Outcome == repository.Published)
}
