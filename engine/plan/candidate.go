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

// candidate is a release that a channel could take, and how it got there.
type candidate struct {
	*Release
	c         *channelPlan
	hotfix    *channels.Hotfix
	requested *Request
}

// lane tells whether it skips after, soak, windows and settled (R17).
func (x candidate) lane() bool { return x.hotfix != nil }

// advance moves c's head up if there is a release to take and every gate holds. It tells whether the head moves.
func (c *channelPlan) advance() bool {
	if c.Policy == nil {
		c.p.block(invalid(c.Channel).About(c.Name, ""))
		return false
	}
	c.deadLanes()
	x, ok := c.findCandidate()
	if !ok {
		return false
	}
	return x.promote()
}

// asked takes a person's request upward: it waits for its gates, and nothing else goes past it. One that is
// out of the question is answered, and waits for nothing.
func (c *channelPlan) asked(r *Release) (moves, waits bool) {
	if c.Policy == nil {
		c.p.block(invalid(c.Channel).About(c.Name, c.Request.Release))
		return false, true
	}
	x := candidate{Release: r, c: c, requested: c.Request, hotfix: c.hotfix(r)}
	if v, out := x.excluded(); out {
		c.p.block(v)
		return false, false
	}
	return x.promote(), true
}

// invalid says what is wrong with a channel's policy, and where.
func invalid(c *Channel) channels.Verdict {
	if len(c.Faults) == 0 {
		return channels.Blocked("invalid", reason.PolicyInvalid)
	}
	why := c.Faults[0].String()
	if n := len(c.Faults); n > 1 {
		why += fmt.Sprintf(" (and %d more; run sluice validate)", n-1)
	}
	return channels.Blocked("invalid", reason.PolicyInvalid, why)
}

// findCandidate finds the greatest version above the head that every upstream accepted and nothing excludes. Without
// one it adds the verdicts that say what is coming and what it waits for.
func (c *channelPlan) findCandidate() (candidate, bool) {
	p := c.p
	var head *releases.Version
	if c.Effective != nil {
		if v, err := releases.ParseVersion(c.Effective.Release); err == nil {
			head = &v
		}
	}
	coming, partly := false, candidate{}
	for _, r := range slices.Backward(p.d.Versions) {
		if head != nil && !head.Less(r.Version) {
			break
		}
		x := candidate{Release: r, c: c, hotfix: c.hotfix(r)}
		if !x.lane() {
			all, any := x.upstream()
			if any && !all && partly.Release == nil {
				partly = x
			}
			if !all {
				continue // not everybody upstream has it: it is not this channel's yet
			}
		}
		if v, out := x.excluded(); out {
			if v.Code != reason.Prerelease {
				p.block(v)
			}
			continue
		}
		if x.lane() || x.acceptance(nil) {
			return x, true
		}
		if !coming {
			coming = true
			x.acceptance(p.block)
		}
	}
	if !coming && partly.Release != nil {
		if _, out := partly.excluded(); !out {
			partly.acceptance(p.block)
		}
	}
	return candidate{}, false
}

// upstream tells whether r is, or was and is still accepted, at all upstreams of c, and whether at any.
func (x candidate) upstream() (all, any bool) {
	c, p := x.c, x.c.p
	all = true
	for _, name := range c.Policy.After {
		up := p.channels[name]
		_, has := p.accepted[acceptKey{name, c.Name, x.Digest}]
		if up != nil && up.Effective != nil && up.Effective.Release == x.Version.String() {
			has = true
		}
		all, any = all && has, any || has
	}
	return all, any
}

// acceptance tells whether every upstream accepts r for c. say, if given, gets a verdict for each that does not.
func (x candidate) acceptance(say func(channels.Verdict)) bool {
	c, p := x.c, x.c.p
	all := true
	for _, name := range c.Policy.After {
		v := x.accepts(p.channels[name])
		if v.Holds {
			continue
		}
		all = false
		if say != nil {
			v.Gate = acceptGate(c.Policy)
			say(v.About(c.Name, x.Version.String()))
		}
	}
	return all
}

// acceptGate is what the verdict about upstreams is called: the soak gate, where there is one.
func acceptGate(policy *channels.Channel) string {
	for _, g := range policy.Gates {
		if g.Soak != nil {
			return g.ID
		}
	}
	return "after"
}

// accepts is an upstream's word on a release for c: soaked now, or latched.
func (x candidate) accepts(up *channelPlan) channels.Verdict {
	c, p := x.c, x.c.p
	if up == nil {
		return channels.Blocked("", reason.UpstreamMissing)
	}
	if c.latched(up, x.Version.String(), x.Digest) {
		evidence := p.accepted[acceptKey{up.Name, c.Name, x.Digest}].Evidence
		if evidence == reason.UpstreamFinished.Words(up.Name) { // all that is kept of a verdict is its words
			return channels.Held("", reason.UpstreamFinished, up.Name)
		}
		return channels.Held("", reason.UpstreamAccepted, evidence)
	}
	if e := up.Effective; e != nil && e.Digest == x.Digest && p.quarantined(up.Name, x.Version.String(), x.Digest) == nil {
		return up.tally.soaked(c)
	}
	return channels.Blocked("", reason.UpstreamElsewhere, up.Name)
}

// excluded tells why r is no candidate for c at all, whatever its gates say.
func (x candidate) excluded() (channels.Verdict, bool) {
	c, p := x.c, x.c.p
	out := func(gate string, code reason.Code, args ...any) (channels.Verdict, bool) {
		return channels.Blocked(gate, code, args...).About(c.Name, x.Version.String()), true
	}
	if len(x.Faults) > 0 {
		return out("invalid", reason.ReleaseInvalid, x.Faults[0].String())
	}
	if x.Digest == "" {
		return out("invalid", reason.DigestMissing, x.Version)
	}
	if x.Version.Pre() && !c.Policy.Prereleases {
		return out("prerelease", reason.Prerelease, c.Name)
	}
	if q := p.quarantined(c.Name, x.Version.String(), x.Digest); q != nil {
		return out("quarantine", reason.Quarantine, q.Reason)
	}
	if f := c.Policy.Floor; f != nil && x.Version.Less(*f) {
		return out("floor", reason.Floor, f)
	}
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if missing := c.debt(h, x.Release); len(missing) > 0 {
			return out("debt", reason.Debt, strings.Join(missing, ", "), h.Release, h.File)
		}
	}
	return channels.Verdict{}, false
}

// promote judges x by everything that stands between it and c, and acts if all of it holds.
func (x candidate) promote() bool {
	c, p := x.c, x.c.p
	release := x.Version.String()
	if c.refused(release) {
		return false
	}
	held, blocked := x.judge()
	for _, v := range blocked {
		p.block(v.About(c.Name, release))
	}
	for _, v := range held {
		p.at(v.Until) // it is blocked from then on
	}
	if len(blocked) > 0 {
		return false
	}
	a := Action{
		Kind: Promote, Channel: c.Name, Release: release, Digest: x.Digest, From: x.from(),
		Sequence: c.sequence(), Hotfix: x.lane(), Evidence: []string{}, Commit: x.Origin, forward: c.forwardUpTo(x.Release),
	}
	if x.requested != nil {
		a.Requested = x.requested.By
	}
	if x.lane() {
		a.Reason = x.hotfix.Reason
	}
	if e := c.Effective; e != nil {
		a.Replaces = e.Release
		a.Finished = c.done(e)
		for _, down := range c.Down {
			if acc, ok := p.accepted[acceptKey{c.Name, down, e.Digest}]; ok {
				a.Accepted = append(a.Accepted, acc)
			}
		}
	}
	for _, v := range held {
		a.Verdicts = append(a.Verdicts, v.About(c.Name, release))
		a.Evidence = append(a.Evidence, v.String())
		if !v.Until.IsZero() && (a.Deadline.IsZero() || v.Until.Before(a.Deadline)) {
			a.Deadline = v.Until
		}
	}
	p.act(a)
	return true
}

// from says where x comes from, as the From trailer does.
func (x candidate) from() string {
	c := x.c
	p := c.p
	if x.lane() {
		return "hotfix"
	}
	for _, name := range c.Policy.After {
		up := p.channels[name]
		for _, h := range slices.Backward(up.History) {
			if h.Digest == x.Digest {
				return name + "@" + words.Short(h.Written)
			}
		}
	}
	if x.requested != nil {
		return "request@" + words.Short(x.requested.Commit)
	}
	return "releases@" + words.Short(x.Origin)
}

// settleWithin is how long c keeps a head that doesn't settle (R8).
func (c *channelPlan) settleWithin() time.Duration {
	if c.Policy.SettleWithin > 0 {
		return c.Policy.SettleWithin
	}
	longest := time.Duration(0)
	for _, name := range append([]string{c.Name}, c.Down...) {
		policy := c.p.channels[name].Policy
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
		return settleDefault
	}
	return 3 * longest
}

// settleDefault is how long a head is kept where no soak says more.
const settleDefault = 24 * time.Hour
