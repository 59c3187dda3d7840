package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
)

// wave tells which wave is open, and which cells are in it and those before; nil: all. Waves are cumulative, over
// the cells that are in contact, in an order that each release shuffles anew.
func (p *planner) wave(c *Channel) (number int, open map[string]bool) {
	waves := c.Valid.Rollout.Waves
	if len(waves) == 0 || c.Effective.Kind == Rollback {
		return 1, nil
	}
	order := p.order(c, waves[0])
	open = map[string]bool{}
	for i, w := range waves {
		size := w.Cells
		if w.Percent > 0 {
			size = int(math.Ceil(w.Percent * float64(len(order)) / 100))
		}
		for _, cell := range order {
			if len(w.Labels) > 0 && matches(cell, w.Labels) {
				open[cell.Name] = true
			}
		}
		for _, cell := range order[:min(size, len(order))] {
			open[cell.Name] = true
		}
		if !p.through(c, order, open, w.Soak) {
			return i + 1, open
		}
	}
	return len(waves), nil
}

// through tells whether every open cell runs the head and soaked; those that failed it within the budget hold nobody up.
func (p *planner) through(c *Channel, order []*Cell, open map[string]bool, soak time.Duration) bool {
	for _, cell := range order {
		s := p.o.Cells[cell.Name]
		if open[cell.Name] && !p.failedOn(c, s) && (s.Digest != c.Effective.Digest || s.State != cells.StateHealthy || s.Soaked < soak) {
			return false
		}
	}
	return true
}

// order lists the cells in contact: those that the first wave names by label, then by a stable hash of cell and release.
func (p *planner) order(c *Channel, first channels.Wave) []*Cell {
	type place struct {
		cell *Cell
		rank uint64
	}
	var places []place
	for _, cell := range c.Cells {
		if !p.fresh(p.o.Cells[cell.Name]) {
			continue
		}
		sum := sha256.Sum256([]byte(cell.Name + "\x00" + string(c.Effective.Digest)))
		rank := binary.BigEndian.Uint64(sum[:8])>>1 | 1<<63
		if len(first.Labels) > 0 && matches(cell, first.Labels) {
			rank &^= 1 << 63
		}
		places = append(places, place{cell, rank})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.cell.Name, b.cell.Name))
	})
	ordered := make([]*Cell, len(places))
	for i, at := range places {
		ordered[i] = at.cell
	}
	return ordered
}

func matches(cell *Cell, labels map[string]string) bool {
	for k, v := range labels {
		if cell.Labels[k] != v {
			return false
		}
	}
	return true
}
