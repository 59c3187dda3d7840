package engine

import (
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/channels"
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
	c     *Channel
	free  int // slots; negative: any number
	heads map[string]*grants
}

// grants are those of one head.
type grants struct {
	head         *EffectiveHead
	cells, slots []string
}

// offer grants if there is a slot, or the cell has one.
func (g *granter) offer(n *need) (v channels.Verdict) {
	if !n.slot && g.free == 0 {
		return channels.Verdict{Gate: "maxInFlight", Reason: "updating at once: at most " + count(g.c.Valid.Rollout.MaxInFlight, "cell")}
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
	of.cells = append(of.cells, n.cell.Name)
	if slot {
		of.slots = append(of.slots, n.cell.Name)
	}
}

func (g *granter) act(p *planner, wave int) {
	for _, release := range slices.Sorted(maps.Keys(g.heads)) {
		of := g.heads[release]
		slices.Sort(of.cells)
		slices.Sort(of.slots)
		a := Action{Kind: Grant, Channel: g.c.Name, Release: release, Digest: of.head.Digest, Sequence: of.head.Sequence, Cells: of.cells, Evidence: []string{}}
		if of.head == g.c.Effective {
			a.Wave = wave
		}
		if a.Cap = g.c.Valid.Rollout.MaxInFlight; a.Cap > 0 {
			a.Slots = of.slots
		}
		p.act(a)
	}
}
