package announce

import (
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
)

// late settles what was not armed when its time came. Only a channel that is new, of which there is no record at all, has
// what is published elsewhere: a cell that moves there keeps its features.
func (p *planner) late(s *standing) {
	elsewhere := p.published(s.a)
	_, why := s.blocked()
	if s.rec != nil || elsewhere == nil || s.held != "" {
		if why == "" {
			why = "it was not armed when its time came"
		}
		p.miss(s, s.at, why)
		return
	}
	switch {
	case s.a.short == "":
		p.decide(s, repository.Record{Hash: s.a.hash, Commit: p.in.Commit, At: s.at})
	case elsewhere.Text == s.a.text:
		p.decide(s, repository.Record{Hash: elsewhere.Hash, Commit: elsewhere.Commit, At: s.at})
	default:
		s.state, s.why = Draft, "it was edited since it was published elsewhere; "+s.a.short
	}
}

// published gives a record that the announcement is published in some channel, one of what it says now if there is one; nil: none.
func (p *planner) published(a *announcement) *repository.Record {
	var found *repository.Record
	for _, s := range a.standings {
		if s.rec != nil && s.rec.Outcome == repository.Published && (found == nil || found.Text != a.text) {
			found = s.rec
		}
	}
	return found
}

// decide publishes as whenNotReady says (R41): what is skipped or blocked, as of now, for no cell can have flipped before.
func (p *planner) decide(s *standing, rec repository.Record) {
	s.state = Scheduled
	mode, percent := s.rules.WhenNotReady.Mode, s.rules.WhenNotReady.Percent
	if mode != skip && mode != block {
		p.publish(s, rec)
		return
	}
	ready, _, lacking := p.readiness(s)
	ok, share := enough(len(ready), lacking, percent)
	rec.At = p.instant(s)
	switch {
	case ok && mode == skip:
		rec.Cells = ready
		p.publish(s, rec)
	case ok:
		p.publish(s, rec)
	case mode == skip:
		p.miss(s, rec.At, "too few cells: "+share)
	default:
		s.why = "waits for cells: " + share
	}
}

// decided gives the tree that has what a record was made of; nil: it can't be read, and so it is off.
func (p *planner) decided(s *standing) *repository.Tree {
	if t := p.tree(s.rec.Commit); t != nil && t.Announcements[s.a.id] != nil {
		return t
	}
	if s.a.tip != nil && s.rec.Hash == s.a.hash {
		return p.in.Tip
	}
	p.fault(recordPath(s), "commit "+s.rec.Commit+" can't be read, or has no such announcement: the features of "+s.a.id+" are off in "+s.c.Name)
	return nil
}

// instant is now in a zone that the announcement's people read.
func (p *planner) instant(s *standing) time.Time { return p.now.In(s.rules.Location()) }
