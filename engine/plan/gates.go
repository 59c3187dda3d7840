package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// judge collects the verdicts about the candidate: first what binds the channel, then the policy's gates. It requests
// outside observations only if everything else holds (R11).
func (x candidate) judge() (held, blocked []channels.Verdict) {
	c, p := x.channel, x.channel.planner
	add := func(v channels.Verdict) {
		if v.Holds {
			held = append(held, v)
		} else {
			blocked = append(blocked, v)
		}
	}
	for _, h := range c.Holds {
		add(holdVerdict(h))
	}
	if until, yes := c.observing(); yes {
		add(channels.Blocked("observing", reason.Observing).WithUntil(until))
	}
	if v, bound := x.judgeSignatures(); bound {
		add(v)
	}
	peopleFree := x.requested != nil && c.Policy.People == channels.PeopleFree
	if peopleFree {
		add(channels.Held("people", reason.PeopleFree))
		return held, blocked
	}
	if doubt := p.observed.Clock.verdict(); !doubt.Holds && (x.isHotfix() || c.dependsOnTime()) {
		add(doubt)
	}
	if v, any := c.judgeFreezes(); any {
		if !v.Holds && x.isHotfix() && x.hotfix.OverrideFreeze {
			p.replanAt(v.Until)
			v = channels.Held("freeze", reason.FreezeOverridden, x.hotfix.File, v.Reason)
		}
		add(v)
	}
	if c.Policy.Promote == channels.PromoteManual && x.requested == nil && !x.isHotfix() {
		add(channels.Blocked("manual", reason.Manual, x.Version, c.Name))
	}
	if x.isHotfix() {
		add(channels.Held("hotfix", reason.HotfixOpen, x.hotfix.Reason).WithUntil(x.hotfix.Expiry))
	} else {
		x.judgeUpstreams(add)
		if v, any := c.judgeSettled(); any {
			add(v)
		}
	}
	var outside []*channels.Gate
	for i := range c.Policy.Gates {
		g := &c.Policy.Gates[i]
		if g.Check != nil || g.Metric != nil {
			if g.Metric == nil || g.Metric.Exported == "" || !x.isHotfix() { // no upstream need run a hotfix
				outside = append(outside, g)
			}
			continue
		}
		if v, any := x.judgeGate(g); any {
			v.Gate = g.ID
			add(v)
		}
	}
	if len(blocked) == 0 {
		for _, g := range outside {
			add(x.judgeObserved(g))
		}
	}
	return held, blocked
}

// judgeSignatures judges what signers say of the candidate. bound is false where the channel needs no signatures. It
// binds hotfixes and people too: a cell would refuse what is not signed.
func (x candidate) judgeSignatures() (v channels.Verdict, bound bool) {
	c, p := x.channel, x.channel.planner
	ledger := p.desired.Trust
	if !ledger.Binds(c.Name) {
		return v, false
	}
	a := ledger.Judge(c.Name, x.Version, x.Digest, p.now)
	switch {
	case a.Held:
		return channels.Held("signed", reason.SignaturesHeld, a.Words).WithUntil(a.Until), true
	case a.Refused:
		return channels.Blocked("signed", reason.SignaturesRefused, a.Words), true
	}
	return channels.Blocked("signed", reason.SignaturesMissing, a.Words), true
}

func holdVerdict(h channels.Hold) channels.Verdict {
	from := h.ID
	if h.By != "" {
		from = h.By + ", " + h.ID
	}
	return channels.Blocked("hold", reason.Hold, h.Reason, from)
}

func (x candidate) judgeUpstreams(add func(channels.Verdict)) {
	c, p := x.channel, x.channel.planner
	for _, name := range c.Policy.After {
		v := x.judgeUpstream(p.channels[name])
		v.Gate = upstreamGateID(c.Policy)
		if v.Holds {
			v.Until = time.Time{} // a latched acceptance does not end
			if len(c.Policy.After) > 1 && v.Code != reason.UpstreamFinished {
				v.Reason = name + ": " + v.Reason
			}
		}
		add(v)
	}
}

// judgeSettled keeps a head until it has settled: accepted downstream or finished, failed, or timed out (R8).
func (c *channelPlan) judgeSettled() (channels.Verdict, bool) {
	p := c.planner
	e := c.Effective
	if e == nil || c.Policy.Advance != channels.AdvanceSettled {
		return channels.Verdict{}, false
	}
	var accepted, taken, waiting []string
	for _, name := range c.Down {
		down := p.channels[name]
		switch {
		case downstreamTook(down.Channel, e):
			taken = append(taken, name)
		// A head that was accepted and then fell ill waits for nothing: its successor may repair it.
		case down.Policy != nil &&
			(down.acceptsNow(c) || c.tally.ill > 0 && down.hasAccepted(c, e.Release, e.Digest)):
			accepted = append(accepted, name)
		default:
			waiting = append(waiting, name)
		}
	}
	held := func(code reason.Code, args ...any) (channels.Verdict, bool) {
		return channels.Held("settled", code, args...), true
	}
	switch {
	case len(c.Down) == 0 && c.isFinished(e):
		return held(reason.HeadFinished, e.Release)
	case len(taken) > 0 && len(accepted)+len(waiting) == 0:
		return held(reason.HeadTaken, strings.Join(taken, ", "), e.Release)
	case len(taken) > 0 && len(waiting) == 0:
		return held(reason.HeadAcceptedOrTaken, strings.Join(accepted, ", "), e.Release, strings.Join(taken, ", "))
	case len(c.Down) > 0 && len(waiting) == 0:
		return held(reason.HeadAccepted, strings.Join(accepted, ", "), e.Release)
	case len(c.tally.failed) > c.tally.failureBudget(), slices.Contains(c.Halted, e.Sequence),
		p.findQuarantine(c.Name, e.Release, e.Digest) != nil:
		return held(reason.HeadFailed, e.Release)
	}
	until := e.Moved.Add(c.settleWithin())
	p.replanAt(until)
	if !p.now.Before(until) {
		if doubt := p.observed.Clock.verdict(); !doubt.Holds {
			return doubt, true
		}
		return held(reason.HeadTimedOut, e.Release)
	}
	if len(c.Down) > 0 {
		return channels.Blocked("settled", reason.HeadUnaccepted, e.Release,
			strings.Join(waiting, ", ")).WithUntil(until), true
	}
	return channels.Blocked("settled", reason.HeadUnfinished, e.Release).WithUntil(until), true
}

// downstreamTook reports whether a downstream has the head, or is past it.
func downstreamTook(down *Channel, e *EffectiveHead) bool {
	if down.Effective == nil {
		return false
	}
	v, err := releases.ParseVersion(e.Release)
	return down.Effective.Digest == e.Digest || err == nil && !isBelow(down.Effective.Release, v)
}

func (c *channelPlan) acceptsNow(up *channelPlan) bool {
	return c.planner.findQuarantine(up.Name, up.Effective.Release, up.Effective.Digest) == nil &&
		up.tally.judgeSoakOnce(c).Holds
}

// judgeGate judges one gate of the policy that needs no outside observation. applies is false if the gate does not
// apply to the candidate.
func (x candidate) judgeGate(g *channels.Gate) (v channels.Verdict, applies bool) {
	c := x.channel
	switch {
	case g.Soak != nil:
		return v, false // judgeUpstreams judges it
	case g.AnyWindow() != nil:
		if x.isHotfix() {
			return v, false
		}
		return judgeWindows(c, g), true
	case g.Approval != nil:
		return g.Approval.Judge(c.ApproversOf(x.Release), x.Authorship()), true
	case g.When != nil:
		return g.When.Judge(x.whenInput()), true
	}
	return v, false
}

// judgeWindows judges a gate about windows.
func judgeWindows(c *channelPlan, g *channels.Gate) channels.Verdict {
	v, changes := c.Policy.JudgeWindows(g, c.planner.now)
	c.planner.replanAt(changes)
	v.Gate = g.ID
	return v
}

// whenInput returns what a CEL expression sees: the release, the channel, and how many cells run the release.
func (x candidate) whenInput() channels.WhenInput {
	c, p := x.channel, x.channel.planner
	in := channels.WhenInput{Release: &x.Release.Release, Digest: x.Digest, Channel: c.Name}
	for _, name := range c.Policy.After {
		if up := p.channels[name]; up != nil {
			x.countCells(&in.Cells)
		}
	}
	x.countCells(&in.ChannelCells)
	in.Flags = x.whenFlags()
	return in
}

func (x candidate) whenFlags() (in channels.WhenFlags) {
	c, p := x.channel, x.channel.planner
	f := p.observed.Flags
	if f == nil {
		return in
	}
	in = channels.WhenFlags{Commit: f.Commit, Killed: f.Killed, Published: f.Published[c.Name]}
	for i, name := range c.Policy.After {
		if i == 0 {
			in.Upstream = slices.Clone(f.Published[name])
		} else {
			in.Upstream = slices.DeleteFunc(in.Upstream, func(feature string) bool {
				return !slices.Contains(f.Published[name], feature)
			})
		}
	}
	return in
}

// countCells adds a channel's cells to n: all of them, and those on the release by state.
func (x candidate) countCells(n *channels.Counts) {
	c, p := x.channel, x.channel.planner
	for _, cell := range c.Cells {
		n.Total++
		s := p.cellState(cell)
		if s == nil || s.Digest != x.Digest {
			continue
		}
		switch {
		case s.failedForGood():
			n.Failed++
		case s.State == cells.StateHealthy && p.inContact(s):
			n.Healthy++
		}
	}
}

// judgeObserved judges a check or metric gate by its newest observation. Without a valid one it requests another.
func (x candidate) judgeObserved(g *channels.Gate) channels.Verdict {
	c, p := x.channel, x.channel.planner
	var exporting []ProbedCell
	if g.Metric != nil && g.Metric.Exported != "" {
		if exporting = x.exportingCells(); len(exporting) == 0 {
			return channels.Blocked(g.ID, reason.AnswerFailed,
				"no cell of "+strings.Join(c.Policy.After, ", ")+" is healthy on "+x.Version.String())
		}
	}
	policy := gateHash(g)
	var v channels.Verdict
	o := x.findObservation(g, policy)
	switch {
	case o == nil:
		v = channels.Blocked(g.ID, reason.AnswerMissing)
	case !o.ValidUntil.After(p.now):
		v = channels.Blocked(g.ID, reason.AnswerOld)
	case o.Holds:
		return channels.Held(g.ID, reason.AnswerYes, o.Value).WithUntil(o.ValidUntil)
	case o.Reason != "":
		return channels.Blocked(g.ID, reason.AnswerFailed, o.Reason).WithUntil(o.ValidUntil)
	case o.Value != "":
		return channels.Blocked(g.ID, reason.AnswerNo, o.Value).WithUntil(o.ValidUntil)
	default:
		return channels.Blocked(g.ID, reason.AnswerNo).WithUntil(o.ValidUntil)
	}
	p.plan.Wants = append(p.plan.Wants, Probe{
		Channel: c.Name, Gate: g.ID, Subject: x.Digest, Release: x.Version.String(), Policy: policy, Check: g.Check,
		Metric: g.Metric, Cells: exporting,
	})
	return v
}

// exportingCells returns the cells of the upstream channels that are healthy on the candidate, by name.
func (x candidate) exportingCells() (all []ProbedCell) {
	c, p := x.channel, x.channel.planner
	for _, name := range c.Policy.After {
		up := p.channels[name]
		if up == nil {
			continue
		}
		for _, cell := range up.Cells {
			if s := p.cellState(cell); s != nil && s.Digest == x.Digest && s.State == cells.StateHealthy &&
				p.inContact(s) {
				all = append(all, ProbedCell{cell.Name, s.HealthySince, s.Skew.Round(time.Minute)})
			}
		}
	}
	slices.SortFunc(all, func(a, b ProbedCell) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// findObservation returns the newest observation about this release and this gate as defined now; nil: none.
func (x candidate) findObservation(g *channels.Gate, policy string) *Observation {
	c, p := x.channel, x.channel.planner
	var newest *Observation
	for i := range p.observed.Observations {
		o := &p.observed.Observations[i]
		if o.Gate != g.ID && o.Gate != c.Name+"/"+g.ID || o.Channel != "" && o.Channel != c.Name ||
			o.Policy != "" && o.Policy != policy {
			continue
		}
		if o.Subject != string(x.Digest) && o.Subject != x.Version.String() {
			continue
		}
		if newest == nil ||
			cmp.Or(o.ObservedAt.Compare(newest.ObservedAt), o.ValidUntil.Compare(newest.ValidUntil)) > 0 {
			newest = o
		}
	}
	return newest
}

// gateHash identifies a gate's definition, so that an answer to another definition does not count.
func gateHash(g *channels.Gate) string {
	data, err := json.Marshal(struct {
		Check  *channels.Check  `json:"check,omitempty"`
		Metric *channels.Metric `json:"metric,omitempty"`
	}{g.Check, g.Metric})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// judgeFreezes judges the pipeline's and the channel's freezes together. any is false if there are none.
func (c *channelPlan) judgeFreezes() (v channels.Verdict, any bool) {
	all := slices.Concat(c.planner.desired.Pipeline.Freezes, c.Policy.Freezes)
	if len(all) == 0 {
		return v, false
	}
	v = channels.JudgeFreezes(all, c.planner.now)
	v.Gate = "freeze"
	return v, true
}

func (c *channelPlan) dependsOnTime() bool {
	return len(c.planner.desired.Pipeline.Freezes) > 0 || len(c.Policy.Freezes) > 0 ||
		slices.ContainsFunc(c.Policy.Gates, func(g channels.Gate) bool { return g.Approval == nil && g.When == nil })
}
