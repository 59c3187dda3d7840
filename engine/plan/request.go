package plan

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// rollBackByRequest carries out a person's request for a release below the head, if it can (R1). The rollback leaves a
// hold. It reports whether the head moves or waits to move.
func (c *channelPlan) rollBackByRequest() bool {
	if !c.requestIsBelowHead() {
		return false
	}
	q := c.Request
	target, why := c.findEarlierHead(q.Release)
	if why != "" {
		return false // answerRequest adds the verdict
	}
	if c.isPushRefused(q.Release) {
		return true
	}
	reason := fmt.Sprintf("%s asked for it in %s%s", q.By, words.ShortCommit(q.Commit), q.because())
	c.planner.addAction(Action{
		Kind: Rollback, Channel: c.Name, Release: q.Release, Digest: target.Digest, Commit: target.Commit,
		From: "request@" + words.ShortCommit(q.Commit), Replaces: c.Effective.Release, Sequence: c.nextSequence(),
		Requested: q.By, Reason: reason, Evidence: []string{reason}, Holds: true,
		forwardOnly: c.planner.forwardOnlyRelease(target),
	})
	if failure, failed := c.headFailure(); failed {
		c.addQuarantine(failure)
	}
	return true
}

// because returns the reason that a person gave for the request, as it follows a sentence; empty: none.
func (q *Request) because() string {
	if q.Reason == "" {
		return ""
	}
	return ": " + q.Reason
}

func (c *channelPlan) requestIsBelowHead() bool {
	q := c.Request
	return q != nil && q.Fault == "" && c.Effective != nil && c.planner.desired.Releases[q.Release] != nil &&
		isBelow(q.Release, c.planner.headVersion(c.Effective))
}

// findEarlierHead returns the head that a person means who asks for a release below the head: the release as it was in
// this channel before. why says why c can't go back to it.
func (c *channelPlan) findEarlierHead(version string) (target EffectiveHead, why string) {
	r := c.planner.desired.Releases[version]
	if r == nil {
		return target, version + " is not in the repository"
	}
	target = EffectiveHead{Head: channels.Head{Release: version, Digest: r.Digest, Commit: r.Origin}}
	i := slices.IndexFunc(c.History, func(h EffectiveHead) bool { return h.Release == version })
	switch {
	case i >= 0:
		target = c.History[i]
	case c.Valid == nil || c.Valid.People != channels.PeopleFree:
		return target, fmt.Sprintf("%s was never in %s, so its gates never held here", version, c.Name)
	case r.Digest == "" || len(r.Faults) > 0:
		return target, version + " has faults"
	}
	if why := c.rollbackObstacle(target.Release, target.Digest); why != "" {
		return target, why
	}
	if crossed := c.crossedBarrier(r.Version); crossed != "" {
		return target, crossed + " is forward-only"
	}
	return target, ""
}

// answerRequest answers any other request: gates decide on a release above the head, and what is impossible gets a
// verdict (R1). It reports whether the head moves, and whether the request must be answered before other promotions
// (waits).
func (c *channelPlan) answerRequest() (moves, waits bool) {
	q := c.Request
	if q == nil {
		return false, false
	}
	answer := func(code reason.Code, args ...any) {
		c.planner.block(channels.Blocked("request", code, args...).WithSubject(c.Name, q.Release))
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
		_, why := c.findEarlierHead(q.Release)
		answer(reason.RequestDown, q.By, q.Release, why)
		return false, true
	}
	if e := c.Effective; e != nil && !isBelow(e.Release, r.Version) {
		answer(reason.RequestDone, q.By, q.Release)
		return false, false
	}
	return c.promoteRequested(r)
}

func isBelow(version string, than releases.Version) bool {
	v, err := releases.ParseVersion(version)
	return err == nil && v.Less(than)
}

// openHotfixFor returns the open hotfix of r into c; nil: none (R17).
func (c *channelPlan) openHotfixFor(r *Release) *channels.Hotfix {
	return c.openHotfix(r.Version.String(), r.Digest)
}

// openHotfix returns c's open hotfix of a release, neither closed nor expired; nil: none.
func (c *channelPlan) openHotfix(release string, digest releases.Digest) *channels.Hotfix {
	for i := range c.Hotfixes {
		if h := &c.Hotfixes[i]; h.Release == release && h.Digest == digest && c.planner.isHotfixOpen(h) {
			return h
		}
	}
	return nil
}

func (p *planner) isHotfixOpen(h *channels.Hotfix) bool {
	p.replanAt(h.Expiry)
	return h.Closed == "" && p.now.Before(h.Expiry)
}

// blockDeadHotfixes adds a verdict for each open hotfix that can have no effect.
func (c *channelPlan) blockDeadHotfixes() {
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if !c.planner.isHotfixOpen(h) ||
			slices.ContainsFunc(c.History, func(e EffectiveHead) bool { return e.Release == h.Release }) {
			continue
		}
		var v channels.Verdict
		switch r := c.planner.desired.Releases[h.Release]; {
		case r == nil || r.Loaded && r.Digest != h.Digest:
			v = channels.Blocked("hotfix", reason.HotfixMissing, h.File, h.Release, h.Digest)
		case c.Effective != nil && !isBelow(c.Effective.Release, r.Version):
			v = channels.Blocked("hotfix", reason.HotfixBelow, h.Release, c.Effective.Release)
		default:
			continue
		}
		c.planner.block(v.WithSubject(c.Name, h.Release))
	}
}

// hotfixDebt returns the fixes that h demands and r lacks. The debt binds from when the channel took h's release until
// it rolled back below that release.
func (c *Channel) hotfixDebt(h *channels.Hotfix, r *Release) []string {
	if h.Closed != "" || h.Release == r.Version.String() {
		return nil
	}
	fixed, err := releases.ParseVersion(h.Release)
	if err != nil {
		return nil
	}
	binds := false
	for _, e := range slices.Backward(c.History) {
		if binds = e.Release == h.Release; binds || e.Kind == Rollback && isBelow(e.Release, fixed) {
			break
		}
	}
	if !binds {
		return nil
	}
	var missing []string
	for _, fix := range h.Fixes {
		if !slices.Contains(r.Fixes, fix) {
			missing = append(missing, fix)
		}
	}
	return missing
}
