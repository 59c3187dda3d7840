package plan

import (
	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
)

// channelPlan holds what one run of Make finds out about one channel.
type channelPlan struct {
	*Channel
	planner      *planner
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

// isRefused reports whether the git host refused such a push lately, and says so about a channel; empty: about all.
func (p *planner) isRefused(push string, code reason.Code, channel, release string) bool {
	r, ok := p.observed.Refused[push]
	if !ok || !r.Until.After(p.now) {
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
