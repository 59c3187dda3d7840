package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// candidate is a release that a channel could take, and how it got there.
type candidate struct {
	*Release
	hotfix    *channels.Hotfix
	requested *Request
}

// lane tells whether it skips after, soak, windows and settled (R17).
func (x candidate) lane() bool { return x.hotfix != nil }

// advance moves c's head up if there is a release to take and every gate holds. It tells whether the head moves.
func (p *planner) advance(c *Channel) bool {
	if c.Policy == nil {
		p.block(channels.Verdict{Channel: c.Name, Gate: "invalid", Reason: invalid(c)})
		return false
	}
	p.deadLanes(c)
	x, ok := p.candidate(c)
	if !ok {
		return false
	}
	return p.promote(c, x)
}

// asked takes a person's request upward: it waits for its gates, and nothing else goes past it. One that is
// out of the question is answered, and waits for nothing.
func (p *planner) asked(c *Channel, r *Release) (moves, waits bool) {
	if c.Policy == nil {
		p.block(channels.Verdict{Channel: c.Name, Release: c.Request.Release, Gate: "invalid", Reason: invalid(c)})
		return false, true
	}
	x := candidate{Release: r, requested: c.Request, hotfix: p.hotfix(c, r)}
	if v, out := p.excluded(c, r); out {
		p.block(v)
		return false, false
	}
	return p.promote(c, x), true
}

// invalid says what is wrong with a channel's policy, and where.
func invalid(c *Channel) string {
	if len(c.Faults) == 0 {
		return "the policy has faults; run sluice validate"
	}
	why := c.Faults[0].String()
	if n := len(c.Faults); n > 1 {
		why += fmt.Sprintf(" (and %d more; run sluice validate)", n-1)
	}
	return why
}

// candidate finds the greatest version above the head that every upstream accepted and nothing excludes. Without
// one it adds the verdicts that say what is coming and what it waits for.
func (p *planner) candidate(c *Channel) (candidate, bool) {
	var head *releases.Version
	if c.Effective != nil {
		if v, err := releases.ParseVersion(c.Effective.Release); err == nil {
			head = &v
		}
	}
	coming, partly := false, (*Release)(nil)
	for _, r := range slices.Backward(p.d.Versions) {
		if head != nil && !head.Less(r.Version) {
			break
		}
		hotfix := p.hotfix(c, r)
		if hotfix == nil {
			all, any := p.upstream(c, r)
			if any && !all && partly == nil {
				partly = r
			}
			if !all {
				continue // not everybody upstream has it: it is not this channel's yet
			}
		}
		if v, out := p.excluded(c, r); out {
			if v.Gate != "prerelease" {
				p.block(v)
			}
			continue
		}
		x := candidate{Release: r, hotfix: hotfix}
		if hotfix != nil || p.acceptance(c, r, nil) {
			return x, true
		}
		if !coming {
			coming = true
			p.acceptance(c, r, func(v channels.Verdict) { p.block(v) })
		}
	}
	if !coming && partly != nil {
		if _, out := p.excluded(c, partly); !out {
			p.acceptance(c, partly, func(v channels.Verdict) { p.block(v) })
		}
	}
	return candidate{}, false
}

// upstream tells whether r is, or was and is still accepted, at all upstreams of c, and whether at any.
func (p *planner) upstream(c *Channel, r *Release) (all, any bool) {
	all = true
	for _, name := range c.Policy.After {
		up := p.d.Channels[name]
		_, has := p.accepted[acceptKey{name, c.Name, r.Digest}]
		if up != nil && up.Effective != nil && up.Effective.Release == r.Version.String() {
			has = true
		}
		all, any = all && has, any || has
	}
	return all, any
}

// acceptance tells whether every upstream accepts r for c. say, if given, gets a verdict for each that does not.
func (p *planner) acceptance(c *Channel, r *Release, say func(channels.Verdict)) bool {
	all := true
	for _, name := range c.Policy.After {
		v := p.accepts(p.d.Channels[name], c, r)
		if v.Holds {
			continue
		}
		all = false
		if say != nil {
			v.Channel, v.Release, v.Gate = c.Name, r.Version.String(), acceptGate(c)
			say(v)
		}
	}
	return all
}

// acceptGate is what the verdict about upstreams is called: the soak gate, where there is one.
func acceptGate(c *Channel) string {
	for _, g := range c.Policy.Gates {
		if g.Soak != nil {
			return g.ID
		}
	}
	return "after"
}

// accepts is an upstream's word on a release for c: soaked now, or latched.
func (p *planner) accepts(up, c *Channel, r *Release) channels.Verdict {
	if up == nil {
		return channels.Verdict{Reason: "the upstream does not exist"}
	}
	if p.latched(up, c, r.Version.String(), r.Digest) {
		return channels.Verdict{Holds: true, Reason: p.accepted[acceptKey{up.Name, c.Name, r.Digest}].Evidence}
	}
	if e := up.Effective; e != nil && e.Digest == r.Digest && p.quarantined(up.Name, r.Version.String(), r.Digest) == nil {
		return p.soaked(up, c)
	}
	return channels.Verdict{Reason: fmt.Sprintf("%s does not run it", up.Name)}
}

// excluded tells why r is no candidate for c at all, whatever its gates say.
func (p *planner) excluded(c *Channel, r *Release) (channels.Verdict, bool) {
	out := func(gate, format string, args ...any) (channels.Verdict, bool) {
		return channels.Verdict{Channel: c.Name, Release: r.Version.String(), Gate: gate, Reason: fmt.Sprintf(format, args...)}, true
	}
	if len(r.Faults) > 0 {
		return out("invalid", "%s", r.Faults[0])
	}
	if r.Digest == "" {
		return out("invalid", "release %s has no digest; run sluice validate", r.Version)
	}
	if r.Version.Pre() && !c.Policy.Prereleases {
		return out("prerelease", "%s takes no pre-releases", c.Name)
	}
	if q := p.quarantined(c.Name, r.Version.String(), r.Digest); q != nil {
		return out("quarantine", "%s", q.Reason)
	}
	if f := c.Policy.Floor; f != nil && r.Version.Less(*f) {
		return out("floor", "it is below %s", f)
	}
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if missing := p.debt(c, h, r); len(missing) > 0 {
			return out("debt", "it lacks %s, which hotfix %s brought; list it in fixes, or close %s", join(missing), h.Release, h.File)
		}
	}
	return channels.Verdict{}, false
}

// promote judges x by everything that stands between it and c, and acts if all of it holds.
func (p *planner) promote(c *Channel, x candidate) bool {
	release := x.Version.String()
	if p.refused(c, release) {
		return false
	}
	held, blocked := p.judge(c, x)
	for _, v := range blocked {
		v.Channel, v.Release = c.Name, release
		p.block(v)
	}
	for _, v := range held {
		p.at(v.Until) // it is blocked from then on
	}
	if len(blocked) > 0 {
		return false
	}
	a := Action{
		Kind: Promote, Channel: c.Name, Release: release, Digest: x.Digest, From: p.from(c, x),
		Sequence: p.sequence(c), Hotfix: x.lane(), Evidence: []string{}, Commit: x.Origin, forward: p.forwardUpTo(c, x.Release),
	}
	if x.requested != nil {
		a.Requested = x.requested.By
	}
	if x.lane() {
		a.Reason = x.hotfix.Reason
	}
	if e := c.Effective; e != nil {
		a.Replaces = e.Release
		a.Finished = p.done(c.Name, e)
		for _, down := range c.Down {
			if acc, ok := p.accepted[acceptKey{c.Name, down, e.Digest}]; ok {
				a.Accepted = append(a.Accepted, acc)
			}
		}
	}
	for _, v := range held {
		v.Channel, v.Release = c.Name, release
		a.Verdicts = append(a.Verdicts, v)
		a.Evidence = append(a.Evidence, v.String())
		if !v.Until.IsZero() && (a.Deadline.IsZero() || v.Until.Before(a.Deadline)) {
			a.Deadline = v.Until
		}
	}
	p.act(a)
	return true
}

// from says where x comes from, as the From trailer does.
func (p *planner) from(c *Channel, x candidate) string {
	if x.lane() {
		return "hotfix"
	}
	for _, name := range c.Policy.After {
		up := p.d.Channels[name]
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
func (p *planner) settleWithin(c *Channel) time.Duration {
	if c.Policy.SettleWithin > 0 {
		return c.Policy.SettleWithin
	}
	longest := time.Duration(0)
	for _, name := range append([]string{c.Name}, c.Down...) {
		policy := p.d.Channels[name].Policy
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
