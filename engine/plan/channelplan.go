package plan

import (
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// channelPlan is what one run of Make finds out about a channel.
type channelPlan struct {
	*Channel
	planner      *planner
	cohort       *Rollout // who counts for its head; nil: nobody was found yet
	wavesThrough int      // the waves of its head that are through
	tally        *tally   // nil until learn ran
	rollout      *rollout // of its head; nil: there is none, or no policy was ever in force
	barrier      *barrier // once asked for
}

// decide decides about the channel: first whether it must go back, because a person asked or by itself, then
// what else a person asked, then whether it may go on, and last which cells may have its head.
func (c *channelPlan) decide() {
	if gone := c.planner.observed.Diverged; gone != nil {
		c.planner.block(divergedVerdict(c.Name, gone.Seen))
		return
	}
	if c.rollBackByRequest() || c.rollBackOrHalt() {
		return // the head moves: its cells are for the next plan
	}
	moves, waits := c.answerRequest()
	if moves || !waits && c.advanceHead() {
		return
	}
	if c.rollout != nil {
		c.rollout.grantCells()
	}
}

func divergedVerdict(channel, seen string) channels.Verdict {
	return channels.Blocked("diverged", reason.Diverged, words.Short(seen), AcknowledgeTrailer, seen).About(channel, "")
}

// isPushRefused tells whether a push for c was turned down lately; it is waited for, whatever the push would be.
func (c *channelPlan) isPushRefused(release string) bool {
	r, ok := c.planner.observed.Refused[c.Name]
	if !ok || !r.Until.After(c.planner.now) {
		return false
	}
	c.planner.block(channels.Blocked("push", reason.PushRefused, r.Reason).Before(r.Until).About(c.Name, release))
	return true
}

// MaxAhead is how far above git a sequence may be to be believed: one cell's word must not use them up.
const MaxAhead = 1 << 20

// nextSequence is the next one of c: above every one in git, granted, served or reported (R2).
func (c *channelPlan) nextSequence() int64 {
	git := int64(0)
	if c.Effective != nil {
		git = c.Effective.Sequence
	}
	highest := git
	rise := func(n int64) {
		if n <= git+MaxAhead {
			highest = max(highest, n)
		}
	}
	served := c.planner.observed.Served[c.Name] // every grant's too, if it can be believed
	rise(served)
	for _, cell := range c.Cells {
		s := c.planner.observed.Cells[cell.Name]
		if s == nil {
			continue
		}
		if s.Channel == c.Name {
			rise(s.Sequence)
		}
		if served > git+MaxAhead && s.Granted != nil && s.Granted.Channel == c.Name {
			rise(s.Granted.Sequence)
		}
	}
	return highest + 1
}
