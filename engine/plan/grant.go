package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// granter collects a channel's grants by release.
type granter struct {
	channel   *channelPlan
	freeSlots int // negative: unlimited
	byRelease map[string]*headGrants
}

// headGrants holds the offers of one head.
type headGrants struct {
	head   *EffectiveHead
	offers []Offer
}

// offerIfFree offers the head to a cell that has a slot already or can get one. It reports whether the cell has.
func (g *granter) offerIfFree(n *waitingCell) bool {
	if !n.hasSlot && g.freeSlots == 0 {
		return false
	}
	if !n.hasSlot {
		g.freeSlots--
	}
	g.addOffer(n, !n.hasSlot)
	return true
}

func (g *granter) addOffer(n *waitingCell, slot bool) {
	grants := g.byRelease[n.head.Release]
	if grants == nil {
		grants = &headGrants{head: n.head}
		g.byRelease[n.head.Release] = grants
	}
	o := Offer{Granted: Granted{
		Cell: n.cell.Name, At: g.channel.planner.now,
		Assignment: Assign(g.channel.planner.desired, n.cell, n.head, g.channel.planner.observed.Cells[n.cell.Name]),
	}}
	if slot {
		o.Cap = g.channel.Valid.Rollout.MaxInFlight
	}
	grants.offers = append(grants.offers, o)
}

func (g *granter) addActions(wave int) {
	for _, release := range slices.Sorted(maps.Keys(g.byRelease)) {
		grants := g.byRelease[release]
		slices.SortFunc(grants.offers, func(a, b Offer) int { return strings.Compare(a.Cell, b.Cell) })
		a := Action{
			Kind: Grant, Channel: g.channel.Name, Release: release, Digest: grants.head.Digest,
			Sequence: grants.head.Sequence, Offers: grants.offers, Evidence: []string{},
		}
		a.Cells = make([]string, len(grants.offers))
		for i := range grants.offers {
			a.Cells[i] = grants.offers[i].Cell
		}
		if grants.head == g.channel.Effective {
			a.Wave = wave
		}
		g.channel.planner.addAction(a)
	}
}

// freeSlots returns how many slots are left; negative: unlimited.
func (r *rollout) freeSlots() int {
	limit := r.channel.Valid.Rollout.MaxInFlight
	if limit == 0 {
		return -1
	}
	return max(limit-r.slotsInUse, 0)
}

// Assign returns the assignment of a head to a cell whose last state is s. The epoch rises when the cell comes from
// another channel, since sequences of two channels can't be compared (R2).
func Assign(d *Desired, cell *Cell, head *EffectiveHead, s *CellState) cells.Assignment {
	epoch := cell.Identity.Epoch
	if last := s.Last(); last != nil {
		if last.Channel != cell.Channel {
			epoch = max(epoch, last.Epoch+1)
		}
		epoch = max(epoch, last.Epoch)
	}
	a := cells.Assignment{
		Channel: cell.Channel, Epoch: epoch, Sequence: head.Sequence, Release: head.Release, Digest: head.Digest,
		Profile: cell.Profile, Values: cell.Values, Revision: cell.Revision,
	}
	a.ForwardOnly = isForwardOnly(d, head)
	if !cell.Retry.IsZero() {
		a.Retry = cell.Retry.UTC().Format(time.RFC3339)
	}
	return a
}

// Last returns the newest known assignment: the grant or, without one, what the cell runs.
func (s *CellState) Last() *cells.Assignment {
	if s == nil {
		return nil
	}
	if s.Granted != nil {
		return s.Granted
	}
	return s.Running
}

// maxSteps is how many former heads of a channel, the newest ones, may be steps on the way to its head.
const maxSteps = 100

// A step is a former head of a channel over which a cell can reach the channel's head, where the head does not install
// over what the cell runs (requires.from, R56).
type step struct {
	head *EffectiveHead
	at   releases.Version
	over releases.Version // the least release that it installs over; zero: any
	next int              // index of the step after it; -1: the channel's head
	left int              // how many steps there are from this one on, itself included
}

// findSteps returns the former heads that lead to the channel's head, the newest first. A cell refuses a head that is
// older than what it has (R2), so each step has a greater sequence than the one before.
func (r *rollout) findSteps() (steps []step) {
	c, p := r.channel, r.channel.planner
	last, finished := len(c.History)-1, r.finishedDigests()
	goal := p.desired.Releases[c.Effective.Release]
	for i := last - 1; i >= max(0, last-maxSteps); i-- {
		h := &c.History[i]
		release := p.desired.Releases[h.Release]
		if !finished[h.Digest] || release == nil || !release.Loaded || release.Tombstone != nil ||
			len(release.Faults) > 0 || release.Digest != h.Digest || !release.Version.Less(goal.Version) ||
			p.findQuarantine(c.Name, h.Release, h.Digest) != nil {
			continue
		}
		s := step{head: h, at: release.Version, over: release.Requires.From, next: -1, left: 1}
		if s.at.Less(goal.Requires.From) {
			s.next = bestStep(steps, s.at, h.Sequence)
			if s.next < 0 {
				continue
			}
			s.left = steps[s.next].left + 1
		}
		steps = append(steps, s)
	}
	return steps
}

// bestStep returns the index of the step that installs over a release, has a greater sequence, and leads to the head in
// the fewest steps; -1: none.
func bestStep(steps []step, over releases.Version, sequence int64) int {
	best := -1
	for i := range steps {
		s := &steps[i]
		if s.head.Sequence > sequence && over.Less(s.at) && !over.Less(s.over) &&
			(best < 0 || s.left < steps[best].left || s.left == steps[best].left && steps[best].at.Less(s.at)) {
			best = i
		}
	}
	return best
}

// stepTo returns the former head that a cell gets next on the way to the channel's head, and the verdict that says so;
// nil: the head itself is next, or no way leads there.
func (r *rollout) stepTo(cell *Cell, s *CellState) (*EffectiveHead, channels.Verdict) {
	c, p := r.channel, r.channel.planner
	goal := p.desired.Releases[c.Effective.Release]
	running := p.parseVersion(s.Release)
	if goal == nil || !goal.Loaded || running.IsZero() || !running.Less(goal.Requires.From) {
		return nil, channels.Verdict{}
	}
	if r.steps == nil {
		r.steps = append([]step{}, r.findSteps()...)
	}
	sequence := int64(0)
	if last := s.Last(); last != nil && last.Channel == c.Name {
		sequence = last.Sequence
		if last.Digest != s.Digest { // it was granted a step, which it may still take
			sequence--
		}
	}
	first := bestStep(r.steps, running, sequence)
	if first < 0 {
		return nil, channels.Verdict{}
	}
	var way []string
	for i := first; i >= 0; i = r.steps[i].next {
		way = append(way, r.steps[i].head.Release)
	}
	v := channels.Blocked("requires", reason.Step, c.Effective.Release, goal.Requires.From, s.Release,
		strings.Join(way, ", then "))
	v.Cell = cell.Name
	return r.steps[first].head, v.WithSubject(c.Name, c.Effective.Release)
}

// finishedDigests returns the digests of the channel's heads that finished.
func (r *rollout) finishedDigests() map[releases.Digest]bool {
	c := r.channel
	finished := map[releases.Digest]bool{}
	for i := range c.History {
		h := &c.History[i]
		if c.isFinished(h) || i+1 < len(c.History) && c.History[i+1].ReplacedFinished {
			finished[h.Digest] = true
		}
	}
	return finished
}
