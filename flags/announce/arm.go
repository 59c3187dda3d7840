package announce

import "github.com/sluice-cd/sluice/flags/repository"

// Modes of repository.Readiness that the engine decides by (R41).
const (
	skip  = "skip"
	block = "block"
)

// settle decides what is in force of an announcement in a channel, and which record there should be of it.
func (p *planner) settle(s *standing) {
	switch {
	case s.c.entry:
		p.follow(s)
	case s.rec != nil && s.rec.Outcome == repository.Published:
		p.keep(s)
	default:
		p.arm(s)
	}
}

// follow settles an entry channel: it has what the tip says, without approvals and records, and without regard to
// whenNotReady. Holds bind it for as long as they are there.
func (p *planner) follow(s *standing) {
	at, ready, never := s.a.tip.When(s.c.Name, true)
	if never || at.IsZero() && !ready {
		return
	}
	p.hold(s)
	p.govern(s, s.a.tip, p.in.Tip)
	s.at = at
	told := p.reached(at)
	switch {
	case s.a.tip.Cancelled != "" && told:
		s.state, s.why = Retracted, oneLine(s.a.tip.Cancelled)
	case s.a.tip.Cancelled != "":
		s.state, s.why = Cancelled, oneLine(s.a.tip.Cancelled)
	case s.held != "":
		s.state, s.why = Held, s.held
	case s.a.tip.Archived:
		s.state, s.sent = Archived, true
	case told:
		s.state, s.sent = Publishing, true
	default:
		s.state, s.sent = Armed, true
	}
}

// arm settles a channel with an upstream before publication.
func (p *planner) arm(s *standing) {
	if s.a.tip == nil {
		p.disarm(s, "its file is gone")
		return
	}
	at, ready, never := s.a.tip.When(s.c.Name, false)
	p.hold(s)
	p.govern(s, s.a.tip, nil)
	s.at = at
	due := at.IsZero() || p.reached(at)
	switch tip := s.a.tip; {
	case never || !inChannel(tip.Cells, s.c):
		p.disarm(s, "it is not for this channel")
	case tip.Cancelled != "":
		s.state, s.why = Cancelled, oneLine(tip.Cancelled)
		p.disarm(s, "cancelled: "+s.why)
	case tip.Archived:
		s.state = Archived
		p.disarm(s, "archived")
	case s.recorded(repository.Armed):
		p.armed(s)
	case s.recorded(repository.Missed):
		s.state, s.why = Missed, s.rec.Reason
	case ready || tip.Now && due:
		p.atOnce(s)
	case at.IsZero():
		p.timeless(s)
	case !due:
		p.ahead(s)
	default:
		p.late(s)
	}
}

// recorded tells whether there is a record of what the announcement says now.
func (s *standing) recorded(as repository.Outcome) bool {
	return s.rec != nil && s.rec.Outcome == as && s.rec.Text == s.a.text
}

// blocked says what keeps an announcement from being armed; empty: nothing.
func (s *standing) blocked() (State, string) {
	switch {
	case s.held != "":
		return Held, "held: " + s.held
	case s.a.short != "":
		return Draft, s.a.short
	}
	return "", ""
}

// armed settles what is armed, and says what it said then.
func (p *planner) armed(s *standing) {
	rec, at := s.rec, s.at
	past := p.reached(rec.At)
	p.govern(s, s.a.tip, p.decided(s))
	s.at = rec.At
	state, why := s.blocked()
	if state == Draft && rec.Hash != s.a.hash { // definitions alone were edited: those that were approved stay (R42)
		state, why, s.stale = "", "", "its flags' definitions were edited"
	}
	wait := s.rules.WhenNotReady.Mode != skip && s.rules.WhenNotReady.Mode != block
	switch {
	case why != "" && past:
		p.miss(s, rec.At, why)
		return
	case why != "":
		s.state, s.why = state, why
		p.disarm(s, why)
		return
	case s.tree == nil: // off until its definitions can be read
		s.state = Scheduled
		return
	case past && wait:
		s.reach.without = setOf(rec.Without)
		p.publish(s, repository.Record{Hash: rec.Hash, Commit: rec.Commit, At: rec.At})
	case past:
		s.reach.without = setOf(rec.Without)
		p.decide(s, repository.Record{Hash: rec.Hash, Commit: rec.Commit})
		return
	case s.a.short == "" && (rec.Hash != s.a.hash || !rec.At.Equal(at)) && !p.reached(at):
		p.ready(s, repository.Record{Hash: s.a.hash, Commit: p.in.Commit, At: at})
	default:
		p.ready(s, repository.Record{Hash: rec.Hash, Commit: rec.Commit, At: rec.At})
	}
	s.sent = wait
	switch {
	case !wait:
		s.state = Scheduled
	case past:
		s.state = Publishing
	default:
		s.state = Armed
	}
}

// atOnce settles what is to be published at once: it says ready, or now although its time has passed, or has no time.
func (p *planner) atOnce(s *standing) {
	state, why := s.blocked()
	if why == "" {
		p.decide(s, repository.Record{Hash: s.a.hash, Commit: p.in.Commit, At: p.instant(s)})
		return
	}
	s.state, s.why = state, why
	p.disarm(s, why)
}

// timeless settles what has no time.
func (p *planner) timeless(s *standing) {
	s.state = Approved
	if state, why := s.blocked(); why != "" {
		s.state, s.why = state, why
	}
	p.disarm(s, "it has no time")
}

// ahead settles what has a time to come, and is not armed as it is.
func (p *planner) ahead(s *standing) {
	state, why := s.blocked()
	switch {
	case why == "":
		s.state = Scheduled
		p.ready(s, repository.Record{Hash: s.a.hash, Commit: p.in.Commit, At: s.at})
	case s.rec == nil && state == Held: // remembered, lest its time pass unseen (R43)
		s.state, s.why = state, why
		p.record(s, repository.Record{Outcome: repository.Disarmed, Hash: s.a.hash, Commit: p.in.Commit, At: s.at, Reason: why})
	default:
		s.state, s.why = state, why
		p.disarm(s, why)
	}
}
