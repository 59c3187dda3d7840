package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// granter gathers grants of a channel, by head.
type granter struct {
	c     *channelPlan
	free  int // slots; negative: any number
	heads map[string]*grants
}

// grants are those of one head.
type grants struct {
	head   *EffectiveHead
	offers []Offer
}

// offer grants if there is a slot, or the cell has one.
func (g *granter) offer(n *need) (v channels.Verdict) {
	if !n.slot && g.free == 0 {
		return channels.Blocked("maxInFlight", reason.Slots, words.Count(g.c.Valid.Rollout.MaxInFlight, "cell"))
	}
	if !n.slot {
		g.free--
	}
	g.give(n, !n.slot)
	return v
}

func (g *granter) give(n *need, slot bool) {
	of := g.heads[n.head.Release]
	if of == nil {
		of = &grants{head: n.head}
		g.heads[n.head.Release] = of
	}
	o := Offer{Granted: Granted{Cell: n.cell.Name, At: g.c.p.now, Assignment: Assign(g.c.p.d, n.cell, n.head, g.c.p.o.Cells[n.cell.Name])}}
	if slot {
		o.Cap = g.c.Valid.Rollout.MaxInFlight
	}
	of.offers = append(of.offers, o)
}

func (g *granter) act(wave int) {
	for _, release := range slices.Sorted(maps.Keys(g.heads)) {
		of := g.heads[release]
		slices.SortFunc(of.offers, func(a, b Offer) int { return strings.Compare(a.Cell, b.Cell) })
		a := Action{Kind: Grant, Channel: g.c.Name, Release: release, Digest: of.head.Digest, Sequence: of.head.Sequence, Offers: of.offers, Evidence: []string{}}
		a.Cells = make([]string, len(of.offers))
		for i := range of.offers {
			a.Cells[i] = of.offers[i].Cell
		}
		if of.head == g.c.Effective {
			a.Wave = wave
		}
		g.c.p.act(a)
	}
}

// free is how many slots are left; negative: any number.
func (r *rollout) free() int {
	limit := r.c.Valid.Rollout.MaxInFlight
	if limit == 0 {
		return -1
	}
	return max(limit-r.slots, 0)
}

// Assign is what head means for a cell whose last word is s. The epoch rises when the cell came from another
// channel, whose sequences say nothing here (R2).
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
	a.Forward = forwardOnly(d, head)
	return a
}

// Last is the newest assignment that is known of: the grant, or without one, what it runs.
func (s *CellState) Last() *cells.Assignment {
	if s == nil {
		return nil
	}
	if s.Granted != nil {
		return s.Granted
	}
	return s.Running
}
