package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// candidate is a release that a channel could take, and why it may.
type candidate struct {
	*Release
	channel   *channelPlan
	hotfix    *channels.Hotfix
	requested *Request
}

// isHotfix reports whether an open hotfix lets the candidate skip after, soak, windows and settled (R17).
func (x candidate) isHotfix() bool { return x.hotfix != nil }

// advanceHead promotes the best candidate if every gate holds. It reports whether the head moves.
func (c *channelPlan) advanceHead() bool {
	if c.Policy == nil {
		c.planner.block(invalidVerdict(c.Channel).WithSubject(c.Name, ""))
		return false
	}
	x, ok := c.findCandidate()
	if !ok {
		return false
	}
	return x.promote()
}

// advanceByHotfix promotes the greatest release with an open hotfix above the head whose gates hold, whatever other
// release waits. Each open hotfix gets a promotion or a verdict (R17, R58). It reports whether the head moves.
func (c *channelPlan) advanceByHotfix() bool {
	if c.Policy == nil || len(c.Hotfixes) == 0 {
		return false
	}
	c.blockDeadHotfixes()
	for _, r := range slices.Backward(c.planner.desired.Versions) {
		if !c.isAboveHead(r.Version) {
			break
		}
		x := candidate{Release: r, channel: c, hotfix: c.openHotfixFor(r)}
		if !x.isHotfix() {
			continue
		}
		if q := c.Request; q != nil && q.Release == r.Version.String() {
			x.requested = q
		}
		if v, out := x.judgeExclusion(); out {
			c.planner.block(v)
		} else if x.promote() {
			return true
		}
	}
	return false
}

// promoteRequested promotes the requested release once its gates hold; until then no other release is promoted (waits).
// A release that is excluded gets a verdict as the answer, and then the request holds nothing up.
func (c *channelPlan) promoteRequested(r *Release) (moves, waits bool) {
	if c.Policy == nil {
		c.planner.block(invalidVerdict(c.Channel).WithSubject(c.Name, c.Request.Release))
		return false, true
	}
	x := candidate{Release: r, channel: c, requested: c.Request}
	v, out := x.judgeExclusion()
	switch {
	case c.openHotfixFor(r) != nil:
		return false, !out // advanceByHotfix judged it
	case out:
		c.planner.block(v)
		return false, false
	}
	return x.promote(), true
}

func invalidVerdict(c *Channel) channels.Verdict {
	if len(c.Faults) == 0 {
		return channels.Blocked("invalid", reason.PolicyInvalid)
	}
	why := c.Faults[0].String()
	if n := len(c.Faults); n > 1 {
		why += fmt.Sprintf(" (and %d more; run sluice validate)", n-1)
	}
	return channels.Blocked("invalid", reason.PolicyInvalid, why)
}

func (c *channelPlan) isAboveHead(v releases.Version) bool {
	return c.Effective == nil || c.planner.headVersion(c.Effective).Less(v)
}

// findCandidate finds the greatest version above the head that every upstream accepted and nothing excludes; releases
// with an open hotfix are judged before. If there is none, it adds verdicts about the releases that are on their way
// and what they wait for.
func (c *channelPlan) findCandidate() (candidate, bool) {
	p := c.planner
	foundComing, told, atSomeUpstreams := false, map[reason.Code]bool{}, candidate{}
	for _, r := range slices.Backward(p.desired.Versions) {
		if !c.isAboveHead(r.Version) {
			break
		}
		x := candidate{Release: r, channel: c}
		if c.openHotfixFor(r) != nil {
			continue
		}
		all, any := x.isAtUpstreams()
		if any && !all && atSomeUpstreams.Release == nil {
			atSomeUpstreams = x
		}
		if !all {
			continue // not yet at every upstream
		}
		if v, out := x.judgeExclusion(); out {
			many := v.Code == reason.BeingRead || v.Code == reason.SignaturesMissing // there may be thousands
			if !many || !told[v.Code] {
				x.blockExclusion(v)
			}
			told[v.Code] = true
			continue
		}
		if x.isAccepted(nil) {
			return x, true
		}
		if !foundComing {
			foundComing = true
			x.isAccepted(p.block)
		}
	}
	if !foundComing && atSomeUpstreams.Release != nil {
		if v, out := atSomeUpstreams.judgeExclusion(); out {
			atSomeUpstreams.blockExclusion(v)
		} else {
			atSomeUpstreams.isAccepted(p.block)
		}
	}
	return candidate{}, false
}

// blockExclusion adds a verdict that excludes the release; a pre-release that the channel does not take is no news.
func (x candidate) blockExclusion(v channels.Verdict) {
	if v.Code != reason.Prerelease {
		x.channel.planner.block(v)
	}
}

// isAtUpstreams reports whether the release is, or was and is still accepted, at all upstreams of the channel, and
// whether at any.
func (x candidate) isAtUpstreams() (all, any bool) {
	c, p := x.channel, x.channel.planner
	all = true
	for _, name := range c.Policy.After {
		up := p.channels[name]
		accepted := up != nil && c.hasAccepted(up, x.Version.String(), x.Digest)
		if up != nil && up.Effective != nil && up.Effective.Release == x.Version.String() {
			accepted = true
		}
		all, any = all && accepted, any || accepted
	}
	return all, any
}

// isAccepted reports whether every upstream accepts the release for the channel. It calls addVerdict, if not nil, with
// a verdict for each upstream that does not.
func (x candidate) isAccepted(addVerdict func(channels.Verdict)) bool {
	c, p := x.channel, x.channel.planner
	all := true
	for _, name := range c.Policy.After {
		v := x.judgeUpstream(p.channels[name])
		if v.Holds {
			continue
		}
		all = false
		if addVerdict != nil {
			v.Gate = upstreamGateID(c.Policy)
			addVerdict(v.WithSubject(c.Name, x.Version.String()))
		}
	}
	return all
}

// upstreamGateID returns the gate of verdicts about upstreams: the soak gate, or "after" if the policy has none.
func upstreamGateID(policy *channels.Channel) string {
	for _, g := range policy.Gates {
		if g.Soak != nil {
			return g.ID
		}
	}
	return "after"
}

// judgeUpstream judges whether an upstream accepts the release: by its soak now, or by an acceptance that latched.
func (x candidate) judgeUpstream(up *channelPlan) channels.Verdict {
	c, p := x.channel, x.channel.planner
	if up == nil {
		return channels.Blocked("", reason.UpstreamMissing)
	}
	release := x.Version.String()
	if e := up.Effective; e != nil && e.Digest == x.Digest && p.findQuarantine(up.Name, release, x.Digest) == nil {
		return up.tally.judgeSoakOnce(c) // what was accepted before is not evidence of now (R50)
	}
	if c.hasAccepted(up, release, x.Digest) {
		evidence := p.accepted[acceptKey{up.Name, c.Name, x.Digest}].Evidence
		if evidence == reason.UpstreamFinished.Words(up.Name) { // an acceptance keeps only the words of its verdict
			return channels.Held("", reason.UpstreamFinished, up.Name)
		}
		return channels.Held("", reason.UpstreamAccepted, evidence)
	}
	return channels.Blocked("", reason.UpstreamElsewhere, up.Name)
}

// judgeExclusion returns the verdict that excludes the release from the channel, whatever the gates say, and whether
// there is one.
func (x candidate) judgeExclusion() (channels.Verdict, bool) {
	c, p := x.channel, x.channel.planner
	out := func(gate string, code reason.Code, args ...any) (channels.Verdict, bool) {
		return channels.Blocked(gate, code, args...).WithSubject(c.Name, x.Version.String()), true
	}
	if x.Unread {
		return out("reading", reason.BeingRead, x.Version)
	}
	if len(x.Faults) > 0 {
		return out("invalid", reason.ReleaseInvalid, x.Faults[0].String())
	}
	if x.Digest == "" {
		return out("invalid", reason.DigestMissing, x.Version)
	}
	if x.Version.IsPrerelease() && !c.Policy.Prereleases {
		return out("prerelease", reason.Prerelease, c.Name)
	}
	if q := p.findQuarantine(c.Name, x.Version.String(), x.Digest); q != nil {
		return out("quarantine", reason.Quarantine, q.Why())
	}
	if f := c.Policy.Floor; f != nil && x.Version.Less(*f) {
		return out("floor", reason.Floor, f)
	}
	if v, bound := x.judgeSignatures(); bound && !v.Holds {
		return v.WithSubject(c.Name, x.Version.String()), true
	}
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if missing := c.hotfixDebt(h, x.Release); len(missing) > 0 {
			return out("debt", reason.Debt, strings.Join(missing, ", "), h.Release, h.File)
		}
	}
	return channels.Verdict{}, false
}

// promote judges the candidate by all that binds the channel, and adds the promotion if every verdict holds.
func (x candidate) promote() bool {
	c, p := x.channel, x.channel.planner
	release := x.Version.String()
	if c.isPushRefused(release) {
		return false
	}
	held, blocked := x.judge()
	for _, v := range blocked {
		p.block(v.WithSubject(c.Name, release))
	}
	for _, v := range held {
		p.replanAt(v.Until) // the verdict stops holding then
	}
	if len(blocked) > 0 {
		return false
	}
	a := Action{
		Kind: Promote, Channel: c.Name, Release: release, Digest: x.Digest, From: x.fromTrailer(),
		Sequence: c.nextSequence(), Hotfix: x.isHotfix(), Evidence: []string{}, Commit: x.Origin,
		forwardOnly: c.forwardOnlyUpTo(x.Release),
	}
	if x.requested != nil {
		a.Requested, a.Reason = x.requested.By, x.requested.Reason
	}
	if x.isHotfix() {
		a.Reason = x.hotfix.Reason
	}
	if e := c.Effective; e != nil {
		a.Replaces = e.Release
		a.Finished = c.isFinished(e)
		for _, down := range c.Down {
			if acc, ok := p.accepted[acceptKey{c.Name, down, e.Digest}]; ok && !acc.Ended {
				a.Accepted = append(a.Accepted, acc)
			}
		}
	}
	for _, v := range held {
		a.Verdicts = append(a.Verdicts, v.WithSubject(c.Name, release))
		a.Evidence = append(a.Evidence, v.String())
		if !v.Until.IsZero() && (a.Deadline.IsZero() || v.Until.Before(a.Deadline)) {
			a.Deadline = v.Until
		}
	}
	p.addAction(a)
	return true
}

func (x candidate) fromTrailer() string {
	c := x.channel
	p := c.planner
	if x.isHotfix() {
		return "hotfix"
	}
	for _, name := range c.Policy.After {
		up := p.channels[name]
		for _, h := range slices.Backward(up.History) {
			if h.Digest == x.Digest {
				return name + "@" + words.ShortCommit(h.Written)
			}
		}
	}
	if x.requested != nil {
		return "request@" + words.ShortCommit(x.requested.Commit)
	}
	return "releases@" + words.ShortCommit(x.Origin)
}

// settleWithin returns for how long c keeps a head that does not settle (R8).
func (c *channelPlan) settleWithin() time.Duration {
	if c.Policy.SettleWithin > 0 {
		return c.Policy.SettleWithin
	}
	longest := time.Duration(0)
	for _, name := range append([]string{c.Name}, c.Down...) {
		policy := c.planner.channels[name].Policy
		if policy == nil {
			continue
		}
		for _, g := range policy.Gates {
			if g.Soak != nil {
				longest = max(longest, g.Soak.For)
			}
		}
		for _, w := range policy.Rollout.Waves {
			longest = max(longest, w.Soak)
		}
	}
	if longest == 0 {
		return defaultSettleWithin
	}
	return 3 * longest
}

// defaultSettleWithin is settleWithin where no soak demands more.
const defaultSettleWithin = 24 * time.Hour
