package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// channelPlan holds what one run of Make finds out about one channel.
type channelPlan struct {
	*Channel
	planner      *planner
	memory       *channelMemory
	cohort       *Cohort  // the cells that count for the head (R9); nil: learn has not run, or there is no head
	wavesThrough int      // how many waves of the head were through before this plan
	tally        *tally   // nil until learn has run
	rollout      *rollout // of the head; nil: no head, or no policy was ever in force
	barrier      *barrier // set by findBarrier
	dispute
}

// decide decides about the channel in this order: a rollback that a person requested, the head in force if the branch
// has lost it, a rollback or halt because the head failed, hotfixes, any other request, a promotion, and last the
// grants of the head to cells.
func (c *channelPlan) decide() {
	if c.isDiverged() || c.rollBackByRequest() || c.restateHead() || c.lost == nil && c.rollBackOrHalt() {
		return // nothing moves, or the head does, and the next plan grants it
	}
	if !c.requestIsBelowHead() && c.advanceByHotfix() {
		return
	}
	moves, waits := c.answerRequest()
	if moves || !waits && c.advanceHead() {
		return
	}
	if c.rollout != nil && c.lost == nil {
		c.rollout.grantCells()
	}
}

// isPushRefused reports whether the git host refused a push for c lately. No push for c is tried before Refusal.Until.
func (c *channelPlan) isPushRefused(release string) bool {
	return c.planner.isUnlisted(c.Name, release) ||
		c.planner.isRefused(c.Name, reason.PushRefused, c.Name, release)
}

// isRefused reports whether the git host refused such a push lately, or leaves it without an answer, and says so about
// a channel; empty: about all.
func (p *planner) isRefused(push string, code reason.Code, channel, release string) bool {
	r, ok := p.observed.Refused[push]
	if !ok || !r.Until.IsZero() && !r.Until.After(p.now) {
		return false
	}
	p.block(channels.Blocked("push", code, r.Reason).WithUntil(r.Until).WithSubject(channel, release))
	return true
}

// MaxAhead is how far above git's newest sequence a sequence may be to be believed. Without the limit, an absurd
// sequence would use up the channel's. Half of what a cell accepts: a sequence that rose as far as this must not be out
// of the reach of the other cells.
const MaxAhead = cells.MaxLead / 2

// nextSequence returns the next sequence of c: above every sequence in git, decided or granted (R2).
func (c *channelPlan) nextSequence() int64 {
	highest := c.gitSequence()
	rise := func(n int64) {
		if c.isBelievable(n) {
			highest = max(highest, n)
		}
	}
	served := c.planner.observed.Served[c.Name] // at least every granted sequence, if it is believable
	rise(served)
	for _, cell := range c.Cells {
		if c.isBelievable(served) {
			break
		}
		if s := c.planner.observed.Cells[cell.Name]; s != nil && isIn(s.Granted, c.Name) {
			rise(s.Granted.Sequence)
		}
	}
	return highest + 1
}

// blockStanding adds what people decided and what holds although nothing waits for it now: holds, freezes, pauses and
// requests are told for as long as they are there. So is the last release that was cut, if it can go nowhere.
func (p *planner) blockStanding() {
	s := standing{planner: p, decided: p.plan.Blocked}
	if p.desired.passed != nil {
		s.passed = p.desired.passed()
	}
	for _, name := range p.desired.Order {
		c := p.channels[name]
		s.addHolds(c)
		s.addFreeze(c)
		s.addRequest(c)
		s.addPauses(c)
		s.addPassedRelease(c)
	}
}

// standing collects verdicts that no decision of this plan needed.
type standing struct {
	planner *planner
	decided []channels.Verdict  // by decisions of this plan: often thousands, and seldom looked at
	known   map[verdictKey]bool // set by isKnown: what decided has
	passed  *Release            // the release that was cut last, if no channel took it; nil: one did
}

type verdictKey struct {
	channel, cell string
	code          reason.Code
	reason        string // empty: any
}

func (s *standing) add(c *channelPlan, cell, release string, v channels.Verdict) {
	if s.isKnown(verdictKey{c.Name, cell, v.Code, v.Reason}) {
		return
	}
	v.Channel, v.Cell, v.Release = c.Name, cell, release
	s.planner.block(v)
}

// isKnown reports whether a decision of this plan has such a verdict.
func (s *standing) isKnown(key verdictKey) bool {
	if s.known == nil {
		s.known = make(map[verdictKey]bool, 2*len(s.decided))
		for i := range s.decided {
			v := &s.decided[i]
			s.known[verdictKey{v.Channel, v.Cell, v.Code, v.Reason}] = true
			s.known[verdictKey{v.Channel, v.Cell, v.Code, ""}] = true
		}
	}
	return s.known[key]
}

func (s *standing) addHolds(c *channelPlan) {
	for _, h := range c.Holds {
		s.add(c, "", "", holdVerdict(h))
	}
	for _, h := range c.CellHolds {
		for _, cell := range h.Cells {
			if known := s.planner.desired.Cells[cell]; known != nil && known.Channel == c.Name {
				s.add(c, cell, "", holdVerdict(h))
			}
		}
	}
}

func (s *standing) addFreeze(c *channelPlan) {
	if c.Policy == nil {
		return // advanceHead blocks, and says why
	}
	v, any := c.judgeFreezes()
	if any {
		s.planner.replanAt(v.Until) // it begins or ends then
	}
	if any && !v.Holds {
		s.add(c, "", "", v)
	}
}

// addRequest says who asked for what, unless the plan answers it.
func (s *standing) addRequest(c *channelPlan) {
	q := c.Request
	if q == nil || q.Release == "" || q.Fault != "" || slices.ContainsFunc(s.planner.plan.Actions, func(a Action) bool {
		return a.Channel == c.Name && a.Requested != ""
	}) {
		return
	}
	for _, code := range []reason.Code{reason.RequestUnknown, reason.RequestDown, reason.RequestDone} {
		if s.isKnown(verdictKey{c.Name, "", code, ""}) {
			return
		}
	}
	s.add(c, "", q.Release, channels.Blocked("request", reason.RequestWaits, q.By, q.Release,
		words.ShortCommit(q.Commit), q.because()))
}

func (s *standing) addPauses(c *channelPlan) {
	m := c.memory
	for i := range m.unknown(unpaused) {
		cell, t := c.Cells[i], &m.cells[i]
		before, paused := s.planner.asks, false
		add := func(v channels.Verdict) {
			s.add(c, cell.Name, "", v)
			paused = true
		}
		if v, _ := s.planner.judgeSupport(cell, t.last); v.Gate != "" {
			add(v)
		}
		if cell.Paused != "" {
			add(channels.Blocked("paused", reason.CellPaused, cell.Paused))
		}
		if t.last != nil && t.last.Owner != nil && t.last.Owner.Paused != "" {
			add(channels.Blocked("owner", reason.OwnerPaused, t.last.Owner.Paused))
		}
		if !paused {
			m.remember(s.planner, unpaused, i, before)
		}
	}
	m.nameSilences(s.planner, unpaused)
}

// addPassedRelease says that the release that was cut last will not reach an entry channel: the channel's head is
// greater, or the release is a pre-release and no channel takes these.
func (s *standing) addPassedRelease(c *channelPlan) {
	e, r := c.Effective, s.passed
	if r == nil || c.Policy == nil || len(c.Policy.After) > 0 {
		return
	}
	switch {
	case r.Version.IsPrerelease() && !s.planner.desired.TakesPrereleases():
		s.add(c, "", r.Version.String(), channels.Blocked("prerelease", reason.Prerelease, c.Name))
	case e != nil && r.Version.Less(s.planner.headVersion(e)):
		s.add(c, "", r.Version.String(), channels.Blocked("version", reason.VersionPassed, e.Release))
	}
}

// TakesPrereleases reports whether any channel takes pre-releases.
func (d *Desired) TakesPrereleases() bool {
	for _, c := range d.Channels {
		if c.Policy != nil && c.Policy.Prereleases {
			return true
		}
	}
	return false
}

// findPassedRelease returns the release that the branch got last, unless some channel had it, asks for it or has a
// hotfix for it.
func (d *Desired) findPassedRelease() (last *Release) {
	for _, r := range d.Versions {
		if last == nil || r.Order > last.Order {
			last = r
		}
	}
	if last == nil {
		return nil
	}
	version := last.Version.String()
	for _, c := range d.Channels {
		if c.Request != nil && c.Request.Release == version ||
			slices.ContainsFunc(c.History, func(h EffectiveHead) bool { return h.Release == version }) ||
			slices.ContainsFunc(c.Hotfixes, func(h channels.Hotfix) bool { return h.Release == version }) {
			return nil
		}
	}
	return last
}
