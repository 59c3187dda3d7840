package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// MaxClockError is how far clocks may differ before the planner stops deciding by time (R10).
const MaxClockError = 60 * time.Second

// Make decides what to do now. It is pure: equal inputs make equal Plans, byte for byte.
func Make(d *Desired, o *Observed, now time.Time) Plan {
	return new(Memory).Make(d, o, now)
}

// Make returns the same Plan as the function Make. It is quicker where m remembers the cells from an earlier plan.
func (m *Memory) Make(d *Desired, o *Observed, now time.Time) Plan {
	p := newPlanner(d, o, now, m)
	p.run()
	return p.plan
}

// MakeBrief returns the Plan that Make returns, but sums up the verdicts about cells that only wait for their turn:
// Blocked lacks these.
func (m *Memory) MakeBrief(d *Desired, o *Observed, now time.Time) (Plan, []Turn) {
	p := newPlanner(d, o, now, m)
	p.brief = true
	p.run()
	slices.SortStableFunc(p.turns, func(a, b Turn) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.First[0], b.First[0]))
	})
	return p.plan, p.turns
}

// run sets the plan.
func (p *planner) run() {
	p.decide()
	p.finishPlan()
}

// decide decides about all channels, and about what belongs to none.
func (p *planner) decide() {
	d, o := p.desired, p.observed
	for _, name := range d.Order {
		p.channels[name].learn()
		p.channels[name].freeEndedSlots()
	}
	p.endAcceptances()
	_, adoptLast := o.Refused[PipelinePushes]
	if !adoptLast && p.adoptKey() {
		return
	}
	for _, name := range d.Order {
		p.channels[name].decide()
	}
	p.blockStanding()
	p.identifyCells()
	p.commitAudit()
	p.signHeads()
	if adoptLast {
		p.adoptKey()
	}
	for _, u := range d.Unconfirmed {
		p.block(channels.Blocked("removal", reason.RemovalUnconfirmed, u.Words()...))
	}
}

// planner is one run of Make. Code that compares now with a later instant passes that instant to replanAt, so that
// Plan.Next misses none, and no Memory keeps what ends then. What code about one cell reads beside the cell's state is
// in memoryBasis.
type planner struct {
	desired  *Desired
	observed *Observed
	now      time.Time

	channels map[string]*channelPlan // by name
	accepted map[acceptKey]Acceptance
	finished map[finishKey]bool
	versions map[string]releases.Version // parsed so far, by text; zero: the text is no version

	plan  Plan
	asks  asks
	brief bool   // waiting for a turn makes no verdicts but
	turns []Turn // these
}

type acceptKey struct {
	up, down string
	digest   releases.Digest
}

type finishKey struct {
	channel  string
	sequence int64
	digest   releases.Digest // a branch that was force-pushed away may have used the sequence for another digest
}

func newPlanner(d *Desired, o *Observed, now time.Time, m *Memory) *planner {
	p := &planner{
		desired: d, observed: o, now: now,
		channels: make(map[string]*channelPlan, len(d.Channels)),
		accepted: map[acceptKey]Acceptance{},
		finished: map[finishKey]bool{},
		versions: map[string]releases.Version{},
		plan:     Plan{Commit: d.Commit, Now: now, Actions: []Action{}, Blocked: []channels.Verdict{}},
	}
	m.begin(p)
	for name, c := range d.Channels {
		p.channels[name] = &channelPlan{Channel: c, planner: p, memory: m.recall(p, c)}
		p.channels[name].findDispute()
	}
	if o.Flags != nil {
		p.plan.Flags = o.Flags.Commit
	}
	for _, f := range o.Learned.Finished {
		p.finished[finishKey{f.Channel, f.Sequence, f.Digest}] = true
	}
	for i, r := range o.Learned.Cohorts {
		if c := p.channels[r.Channel]; c != nil && c.Effective != nil && c.Effective.Sequence == r.Sequence {
			c.cohort = &o.Learned.Cohorts[i]
		}
	}
	for _, w := range o.Learned.Waves {
		c := p.channels[w.Channel]
		if c == nil || c.Effective == nil || c.Effective.Sequence != w.Sequence || c.Effective.Digest != w.Digest {
			continue
		}
		c.wavesThrough = max(c.wavesThrough, w.Wave)
	}
	for _, a := range o.Learned.Accepted {
		p.accepted[acceptKey{a.Upstream, a.Downstream, a.Digest}] = a
	}
	for _, c := range d.Channels {
		for _, a := range c.Accepted {
			key := acceptKey{a.Upstream, a.Downstream, a.Digest}
			if known, ok := p.accepted[key]; !ok || known.Ended && a.At.After(known.At) {
				p.accepted[key] = a
			}
		}
	}
	return p
}

// replanAt notes that the plan may be another one from t on.
func (p *planner) replanAt(t time.Time) {
	if t.After(p.now) {
		p.asks.instants++
		setEarliest(&p.plan.NextInContact, t)
	}
}

// replanIfSilentAt notes that the plan may be another one from t on if a cell that is in contact stays silent until t.
func (p *planner) replanIfSilentAt(t time.Time) {
	if t.After(p.now) {
		p.asks.silences++
		setEarliest(&p.plan.Next, t)
	}
}

func setEarliest(next *time.Time, t time.Time) {
	if next.IsZero() || t.Before(*next) {
		*next = t
	}
}

func (p *planner) block(v channels.Verdict) {
	v.Holds = false
	p.replanAt(v.Until)
	p.plan.Blocked = append(p.plan.Blocked, v)
}

// hasCommits reports whether the plan so far makes commits.
func (p *planner) hasCommits() bool {
	return slices.ContainsFunc(p.plan.Actions, func(a Action) bool { return a.Kind != Grant })
}

func (p *planner) addAction(a Action) {
	if a.Evidence == nil {
		a.Evidence = []string{}
	}
	p.plan.Actions = append(p.plan.Actions, a)
}

// AuditPushes is what refused pushes of the audit's head are kept under in Observed.Refused: no channel has that name.
const AuditPushes = "audit/"

// commitAudit commits how far the audit is, if that is due, alone in its plan: a host that refuses a head must not hold
// it up, nor the other way round.
func (p *planner) commitAudit() {
	chain := p.observed.Audit
	due, ok := audithead.Due(chain, p.desired.LastAuditHead(), p.now)
	switch {
	case !ok || p.observed.Diverged != nil:
	case due.After(p.now):
		p.replanAt(due)
	case p.hasCommits() || p.isUnlisted("", "") || p.isRefused(AuditPushes, reason.AuditRefused, "", ""):
	default:
		p.addAction(Action{Kind: CommitAudit, Reason: "the audit has " + words.Count(int(chain.Row), "row"),
			audit: audithead.Head{Row: chain.Row, Hash: chain.Hash, At: p.now}})
	}
}

// blockUnreadableCells adds a verdict for each reporting cell whose file has faults, unless it has one.
func (p *planner) blockUnreadableCells() {
	told := map[string]bool{}
	for i := range p.plan.Blocked {
		if v := &p.plan.Blocked[i]; v.Code == reason.CellInvalid {
			told[v.Cell] = true
		}
	}
	last := ""
	for _, f := range p.desired.Faults {
		parts := strings.Split(f.File, "/")
		if f.Warning || len(parts) < 2 || parts[0] != cells.Dir || parts[1] == last {
			continue
		}
		last = parts[1]
		s := p.observed.Cells[last]
		cell := p.desired.Cells[last]
		if cell != nil && len(cell.Faults) > 0 && !told[last] && s != nil && s.Channel != "" {
			p.block(channels.Verdict{
				Channel: s.Channel, Cell: last, Gate: "invalid",
				Code: reason.CellInvalid, Reason: reason.CellInvalid.Words(f.String()),
			})
		}
	}
}

// fileBroken reports whether the repository has a cell that is in no channel, because the cell's file can't be read or
// names a channel that does not exist.
func (p *planner) fileBroken(name string) bool {
	cell := p.desired.Cells[name]
	return cell != nil && p.channels[cell.Channel] == nil
}

func (p *planner) finishPlan() {
	p.blockUnreadableCells()
	p.freeAbandonedSlots()
	p.plan.Blocked = sortVerdicts(p.plan.Blocked)
	p.expectMaintenances()
	if !p.plan.NextInContact.IsZero() {
		setEarliest(&p.plan.Next, p.plan.NextInContact)
	}
	slices.SortFunc(p.plan.Learned.Accepted, func(a, b Acceptance) int {
		return cmp.Or(
			cmp.Compare(a.Upstream, b.Upstream),
			cmp.Compare(a.Downstream, b.Downstream),
			cmp.Compare(a.Digest, b.Digest),
		)
	})
}

// sortVerdicts sorts verdicts by channel and cell, those about the whole channel first. The planner adds verdicts
// mostly in this order, so sorted input returns at once.
func sortVerdicts(all []channels.Verdict) []channels.Verdict {
	before := func(a, b *channels.Verdict) bool {
		order := strings.Compare(a.Channel, b.Channel)
		return order < 0 || order == 0 && strings.Compare(a.Cell, b.Cell) <= 0
	}
	sorted := true
	for i := 1; i < len(all) && sorted; i++ {
		sorted = before(&all[i-1], &all[i])
	}
	if sorted {
		return all
	}
	byChannel := map[string][]channels.Verdict{}
	for _, v := range all {
		byChannel[v.Channel] = append(byChannel[v.Channel], v)
	}
	all = all[:0]
	for _, name := range slices.Sorted(maps.Keys(byChannel)) {
		of := byChannel[name]
		slices.SortStableFunc(of, func(a, b channels.Verdict) int { return cmp.Compare(a.Cell, b.Cell) })
		all = append(all, of...)
	}
	return all
}
