package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
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

// offerIfFree offers the head to a cell that has a slot already or can get one. Else it returns the verdict that blocks
// the cell.
func (g *granter) offerIfFree(n *waitingCell) (v channels.Verdict) {
	if !n.hasSlot && g.freeSlots == 0 {
		return channels.Blocked("maxInFlight", reason.Slots, words.Count(g.channel.Valid.Rollout.MaxInFlight, "cell"))
	}
	if !n.hasSlot {
		g.freeSlots--
	}
	g.addOffer(n, !n.hasSlot)
	return v
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
