package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// waitingCell is a cell that lacks its head.
type waitingCell struct {
	cell    *Cell
	index   int // index in Channel.Cells
	state   *CellState
	head    *EffectiveHead
	hasSlot bool // the cell uses a slot already, for an earlier grant
}

// runsHeadContent reports whether the cell runs the head's release with the same values, under whatever sequence. It
// may be applying something else.
func (n *waitingCell) runsHeadContent() bool {
	return n.state.Digest == n.head.Digest && n.state.Running != nil && n.state.Running.Revision == n.cell.Revision
}

// needsNothing reports whether granting the head changes nothing in the cell (R19). A cell that applies something else
// is to be taken back from it, and is in flight until then.
func (n *waitingCell) needsNothing() bool { return n.runsHeadContent() && n.state.Applying == nil }

// movesBack reports whether the grant takes the cell back or changes nothing. Only such grants are exempt from what
// binds a rollout (R18).
func (r *rollout) movesBack(n *waitingCell) bool {
	p := r.channel.planner
	if n.runsHeadContent() {
		return true
	}
	running, to := p.parseVersion(n.state.Release), p.parseVersion(n.head.Release)
	return !running.IsZero() && to.Less(running)
}

// offerLapsed reports whether a cell's offer ended untaken: the cell fell silent, or the offered release is quarantined
// (R14, R21).
func (c *channelPlan) offerLapsed(s *CellState) bool {
	p := c.planner
	g := s.Granted
	if g == nil {
		return false
	}
	withdrawn := len(p.desired.Quarantine) > 0 && p.findQuarantine(c.Name, g.Release, g.Digest) != nil
	if !withdrawn {
		if p.inContact(s) {
			return false
		}
		ends := s.GrantedAt.Add(p.desired.StaleAfter())
		p.replanAt(ends)
		if p.now.Before(ends) {
			return false
		}
	}
	return !s.tookGrant()
}

// retryIsDue reports whether the vendor asked a cell to try again what failed there, and did so after the cell was
// granted it the last time. Each request counts once (R56).
func retryIsDue(cell *Cell, s *CellState, head *EffectiveHead) bool {
	if cell.Retry.IsZero() || s.Granted == nil {
		return false
	}
	asked, failed := cell.Retry.UTC().Format(time.RFC3339), false
	for i := range s.Failures {
		if a := &s.Failures[i].Assignment; a.Digest == head.Digest && a.Sequence == head.Sequence &&
			a.Revision == cell.Revision {
			failed = true
			if a.Retry == asked {
				return false
			}
		}
	}
	return failed && s.Granted.Retry != asked
}

// failedGrant returns the verdict about a cell that is not on its granted release because that failed there. The cell
// does not try the release again under the same head and values (R21), unless its owner or the vendor asks for it
// (R56). ok is false if it did not fail, or tries again.
func (r *rollout) failedGrant(cell *Cell, s *CellState, head *EffectiveHead) (v channels.Verdict, ok bool) {
	if s.Digest == head.Digest && s.Running != nil && s.Running.Revision == cell.Revision {
		return v, false // the cell runs the release; it was granted anew
	}
	for _, f := range slices.Backward(s.Failures) {
		if a := &f.Assignment; a.Digest == head.Digest && a.Sequence == head.Sequence && a.Revision == cell.Revision {
			if s.Granted != nil && s.Granted.Retry != a.Retry {
				return v, false
			}
			next := "the next head is tried"
			if f.Values {
				next = "other values are tried"
			}
			v = channels.Blocked("failed", reason.Failed, head.Release, f.Reason, next, cell.Name)
			v.Cell = cell.Name
			return v.WithSubject(r.channel.Name, head.Release), true
		}
	}
	return v, false
}

// judgeStall returns the verdict about a cell that began something and has had no result for longer than the stall
// limit. stalled is false if there is none.
func (r *rollout) judgeStall(cell *Cell, s *CellState) (v channels.Verdict, stalled bool) {
	c := r.channel
	if !c.planner.hasStalled(c.Channel, s) {
		return v, false
	}
	v = channels.Blocked("stalled", reason.Stalled, s.Applying.Release, words.FormatTime(s.StartedAt))
	v.Cell = cell.Name
	return v.WithSubject(c.Name, s.Applying.Release), true
}

// provenHead returns the newest head that a cell with nothing installed may have: one whose release is finished here
// and not quarantined (R15); nil: none.
func (r *rollout) provenHead() *EffectiveHead {
	c, p := r.channel, r.channel.planner
	finished := r.finishedDigests()
	// newest first: a rollback writes a release again under a higher sequence
	for i := range slices.Backward(c.History) {
		if h := &c.History[i]; finished[h.Digest] && p.findQuarantine(c.Name, h.Release, h.Digest) == nil {
			return h
		}
	}
	return nil
}

// headFor returns the head that a cell is to have. It is the channel's head, except for a cell with nothing installed,
// which gets the newest proven head (R15). Such a cell joins the rollout if there is no proven head, if the cell failed
// that head or never finished it, or if it was granted a newer head (R2).
func (r *rollout) headFor(s *CellState, proven *EffectiveHead) *EffectiveHead {
	c := r.channel
	if s.Digest != "" || proven == nil || proven == c.Effective {
		return c.Effective
	}
	if g := s.Granted; g != nil && g.Channel == c.Name &&
		(g.Sequence > proven.Sequence || s.tookGrant() && !c.usesSlot(s)) {
		return c.Effective
	}
	for i := range s.Failures {
		if a := &s.Failures[i].Assignment; a.Channel == c.Name && a.Sequence >= proven.Sequence {
			return c.Effective
		}
	}
	return proven
}

// judgeCell returns the verdict that holds a single cell back from its head, whatever binds the channel; no gate: none
// does.
func (r *rollout) judgeCell(n *waitingCell) (v channels.Verdict) {
	if v = r.judgeFit(n); v.Gate != "" {
		return v
	}
	if !r.movesBack(n) {
		if v = r.judgeVendor(n); v.Gate != "" {
			return v
		}
	}
	if !n.runsHeadContent() { // R18
		v = r.judgeOwner(n)
	}
	if v.Gate == "" && !r.channel.planner.inContact(n.state) {
		// an offer to a silent cell would lapse
		v = channels.Blocked("silent", reason.Silent, words.FormatTime(n.state.LastReport))
	}
	return v
}

// judgeFit judges what the head requires of the cell: requirements, barriers, profile and values (R16, R20).
func (r *rollout) judgeFit(n *waitingCell) (v channels.Verdict) {
	c, p := r.channel, r.channel.planner
	if len(n.cell.Faults) > 0 {
		return channels.Blocked("invalid", reason.CellInvalid, n.cell.Faults[0].String())
	}
	release := p.desired.Releases[n.head.Release]
	if release == nil || !release.Loaded {
		return v
	}
	if v = p.judgeRequirements(release, n.state); v.Gate != "" {
		return v
	}
	if barrier := r.crossedBarrier(n.state, release.Version); barrier != "" {
		return channels.Blocked("forward-only", reason.ForwardOnly, n.state.Release, barrier)
	}
	t := c.tally
	if t.misfitsOf != release {
		t.misfits, t.misfitsOf = c.misfits(release), release
	}
	if why := t.misfits[n.index]; why != "" {
		return channels.Blocked("values", reason.ValuesInvalid, why)
	}
	return v
}

// judgeVendor judges what the vendor decided about the cell: a pause, a pin, a hold, support that has ended, or
// windows, which a hotfix ignores. None of these binds rollbacks.
func (r *rollout) judgeVendor(n *waitingCell) (v channels.Verdict) {
	if h := r.channel.tally.cellHolds[n.cell.Name]; h != nil {
		return holdVerdict(*h)
	}
	if v, hotfixes := r.channel.planner.judgeSupport(n.cell, n.state); v.Gate != "" && (!hotfixes || !r.hotfixOpen) {
		return v
	}
	if n.cell.Paused == "" && n.cell.Pin == "" && len(n.cell.Windows) == 0 {
		return v
	}
	b := n.cell.Judge(n.head.Release, r.channel.planner.now)
	if b.Gate == "window" && r.hotfixOpen {
		return v
	}
	r.channel.planner.replanAt(b.Until)
	if b.OK {
		return r.channel.planner.judgeClock(len(n.cell.Windows) > 0 && !r.hotfixOpen)
	}
	return channels.Verdict{Gate: b.Gate, Code: b.Code, Reason: b.Reason, Until: b.Until}
}

// judgeOwner judges what the cell's owner decided. The decision binds rollbacks too, except those that the cell makes
// by itself (R18).
func (r *rollout) judgeOwner(n *waitingCell) (v channels.Verdict) {
	p := r.channel.planner
	o := n.state.Owner
	if o == nil {
		return v
	}
	b := o.Judge(cells.Assignment{Release: n.head.Release, Digest: n.head.Digest}, p.now)
	p.replanAt(b.Until)
	if b.OK {
		return p.judgeClock(len(o.Windows) > 0)
	}
	return channels.Verdict{Gate: b.Gate, Code: b.Code, Reason: b.Reason, Until: b.Until}
}

// judgeClock blocks what depends on time while time can't be trusted (R10).
func (p *planner) judgeClock(timed bool) (v channels.Verdict) {
	if doubt := p.observed.Clock.verdict(); timed && !doubt.Holds {
		return doubt
	}
	return v
}

// judgeRequirements judges what r requires of a cell (R16); no gate: the cell has it all.
func (p *planner) judgeRequirements(r *Release, s *CellState) (v channels.Verdict) {
	if n := r.Requires.Infrastructure; n > s.Infrastructure {
		return channels.Blocked("requires", reason.Infrastructure, r.Version, n, s.Infrastructure)
	}
	if from := r.Requires.From; !from.IsZero() && s.Release != "" {
		if running := p.parseVersion(s.Release); !running.IsZero() && running.Less(from) {
			return channels.Blocked("requires", reason.TooOld, r.Version, from, s.Release, s.Release)
		}
	}
	return v
}

// judgeSupport judges whether an infrastructure update of the cell is overdue (R62); no gate: none is. hotfixes reports
// whether the cell gets hotfixes nevertheless.
func (p *planner) judgeSupport(cell *Cell, s *CellState) (v channels.Verdict, hotfixes bool) {
	if len(p.desired.Infrastructure) == 0 || cell.Found == nil || cell.Found.Infrastructure == nil {
		return v, false // no deadline runs
	}
	is := p.desired.Standing(cell, s, p.now)
	p.replanAt(is.Next)
	if !is.OutOfSupport {
		return v, false
	}
	return channels.Blocked("support", reason.InfrastructureOverdue, words.FormatTime(is.Due), is.Number, is.Has,
		cell.Name), is.Hotfixes
}

// crossedBarrier returns the forward-only release that a cell would cross on the way down to a version (R20); empty:
// none.
func (r *rollout) crossedBarrier(s *CellState, to releases.Version) string {
	c, p := r.channel, r.channel.planner
	running := p.parseVersion(s.Release)
	if running.IsZero() || !to.Less(running) {
		return ""
	}
	if r := p.desired.Releases[s.Release]; r != nil && r.IsForwardOnly() {
		return s.Release
	}
	// the cell comes from channel from, and so do its migrations
	if from := p.channels[s.Channel]; from != nil && from != c {
		return from.crossedBarrier(to)
	}
	return ""
}

// usesSlot reports whether a cell uses a slot of c: it was granted something and has no result yet. A cell that began
// keeps its slot even after the stall limit, until it is paused; one that never began does not (R14, R49). Callers
// exclude lapsed offers first.
func (c *channelPlan) usesSlot(s *CellState) bool {
	g := s.Granted
	if g == nil || g.Channel != c.Name || s.Applying == nil && s.runsContentOf(g) {
		return false
	}
	if s.Digest == g.Digest && s.failedForGood() {
		return false
	}
	for i := range s.Failures {
		if a := &s.Failures[i].Assignment; a.Sequence == g.Sequence && a.Epoch == g.Epoch && a.Digest == g.Digest &&
			a.Revision == g.Revision && a.Retry == g.Retry {
			return false
		}
	}
	if c.Valid == nil {
		return true
	}
	if !s.StartedAt.IsZero() {
		cell := c.planner.desired.Cells[s.Name]
		return (cell == nil || cell.Paused == "") && (s.Owner == nil || s.Owner.Paused == "")
	}
	return !c.planner.stalledSince(s.GrantedAt, c.Valid.Rollout.Stall)
}

// hasStalled reports whether a cell of c began something and has had no result for longer than the stall limit.
func (p *planner) hasStalled(c *Channel, s *CellState) bool {
	return s.Applying != nil && !s.StartedAt.IsZero() && c.Valid != nil &&
		p.stalledSince(s.StartedAt, c.Valid.Rollout.Stall)
}

// stalledSince reports whether the stall limit has passed since an instant. Time in which no process was listening, or
// that can't be trusted, does not count (R10).
func (p *planner) stalledSince(since time.Time, limit time.Duration) bool {
	if p.observed.ListeningSince.After(since) {
		since = p.observed.ListeningSince
	}
	stallsAt := since.Add(limit)
	p.replanAt(stallsAt)
	return !p.now.Before(stallsAt) && p.observed.Clock.Doubt() == ""
}

// runsContentOf reports whether the cell runs what g assigns, under whatever sequence.
func (s *CellState) runsContentOf(g *cells.Assignment) bool {
	return s.Digest == g.Digest && (s.Running == nil || s.Running.Revision == g.Revision)
}

// freeEndedSlots frees the slots that have ended and that the store still counts (R14).
func (c *channelPlan) freeEndedSlots() {
	p := c.planner
	var ended []string
	for _, name := range p.observed.Slots[c.Name] {
		cell, s := p.desired.Cells[name], p.observed.Cells[name]
		if cell == nil || cell.Channel != c.Name || s == nil || c.offerLapsed(s) || !c.usesSlot(s) {
			ended = append(ended, name)
		}
	}
	if len(ended) > 0 {
		slices.Sort(ended)
		p.plan.Learned.Freed = append(p.plan.Learned.Freed, Freed{Channel: c.Name, Cells: ended})
	}
}

func (p *planner) freeAbandonedSlots() {
	for _, name := range slices.Sorted(maps.Keys(p.observed.Slots)) {
		if p.channels[name] == nil && len(p.observed.Slots[name]) > 0 {
			p.plan.Learned.Freed = append(p.plan.Learned.Freed, Freed{
				Channel: name, Cells: slices.Sorted(slices.Values(p.observed.Slots[name])),
			})
		}
	}
}
