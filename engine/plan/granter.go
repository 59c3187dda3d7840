package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
)

// free is how many slots are left; negative: any number.
func (p *planner) free(c *Channel, r *rollout) int {
	limit := c.Valid.Rollout.MaxInFlight
	if limit == 0 {
		return -1
	}
	return max(limit-r.slots, 0)
}

// granter gathers grants of a channel, by head.
type granter struct {
	p     *planner
	c     *Channel
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
		return channels.Verdict{Gate: "maxInFlight", Reason: "updating at once: at most " + words.Count(g.c.Valid.Rollout.MaxInFlight, "cell")}
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
	o := Offer{Granted: Granted{Cell: n.cell.Name, At: g.p.now, Assignment: Assign(g.p.d, n.cell, n.head, g.p.o.Cells[n.cell.Name])}}
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
		g.p.act(a)
	}
}
