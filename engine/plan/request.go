package plan

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// rollBackByRequest carries out a person's request downward, if it can be done (R1). It goes before what the channel would
// do by itself, and leaves a hold. It tells whether the head moves, or waits to.
func (c *channelPlan) rollBackByRequest() bool {
	if !c.requestIsBelowHead() {
		return false
	}
	q := c.Request
	target, why := c.findRequestedTarget()
	if why != "" {
		return false // request says so
	}
	if c.isPushRefused(q.Release) {
		return true
	}
	reason := fmt.Sprintf("%s asked for it in %s", q.By, words.Short(q.Commit))
	c.planner.addAction(Action{
		Kind: Rollback, Channel: c.Name, Release: q.Release, Digest: target.Digest, Commit: target.Commit, forwardOnly: c.planner.forwardOnlyRelease(target),
		From: "request@" + words.Short(q.Commit), Replaces: c.Effective.Release, Sequence: c.nextSequence(),
		Requested: q.By, Reason: reason, Evidence: []string{reason}, Holds: true,
	})
	if failure, failed := c.headFailure(); failed {
		c.addQuarantine(failure)
	}
	return true
}

// requestIsBelowHead tells whether a person asked for a release below the head.
func (c *channelPlan) requestIsBelowHead() bool {
	q := c.Request
	return q != nil && q.Fault == "" && c.Effective != nil && c.planner.desired.Releases[q.Release] != nil && isBelow(q.Release, c.planner.headVersion(c.Effective))
}

// findRequestedTarget finds what a request downward means: the release as it was here before. why says why it can't be.
func (c *channelPlan) findRequestedTarget() (target EffectiveHead, why string) {
	r := c.planner.desired.Releases[c.Request.Release]
	target = EffectiveHead{Head: channels.Head{Release: c.Request.Release, Digest: r.Digest, Commit: r.Origin}}
	i := slices.IndexFunc(c.History, func(h EffectiveHead) bool { return h.Release == c.Request.Release })
	switch {
	case i >= 0:
		target = c.History[i]
	case c.Valid == nil || c.Valid.People != channels.PeopleFree:
		return target, fmt.Sprintf("%s was never in %s, so its gates never held here", c.Request.Release, c.Name)
	case r.Digest == "" || len(r.Faults) > 0:
		return target, c.Request.Release + " has faults"
	}
	if why := c.rollbackObstacle(target.Release, target.Digest); why != "" {
		return target, why
	}
	if crossed := c.crossedBarrier(r.Version); crossed != "" {
		return target, crossed + " is forward-only"
	}
	return target, ""
}

// answerRequest answers any other change of head.yaml by hand: upward the gates decide, and what can't be done is said (R1).
// It tells whether the head moves, and whether nothing may go past the request.
func (c *channelPlan) answerRequest() (moves, waits bool) {
	q := c.Request
	if q == nil {
		return false, false
	}
	answer := func(code reason.Code, args ...any) {
		c.planner.block(channels.Blocked("request", code, args...).About(c.Name, q.Release))
	}
	if q.Fault != "" {
		answer(reason.RequestFault, q.Fault)
		return false, false
	}
	r := c.planner.desired.Releases[q.Release]
	if r == nil {
		answer(reason.RequestUnknown, q.By, q.Release)
		return false, false
	}
	if c.requestIsBelowHead() {
		_, why := c.findRequestedTarget()
		answer(reason.RequestDown, q.By, q.Release, why)
		return false, true
	}
	if e := c.Effective; e != nil && !isBelow(e.Release, r.Version) {
		answer(reason.RequestDone, q.By, q.Release)
		return false, false
	}
	return c.promoteRequested(r)
}

// isBelow tells whether a release comes before a version.
func isBelow(version string, than releases.Version) bool {
	v, err := releases.ParseVersion(version)
	return err == nil && v.Less(than)
}
