package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// cellCache caches what every plan needs about a channel's cells as the repository has them. Each Desired has its own.
// A nil cellCache caches nothing.
type cellCache struct {
	mu      sync.Mutex
	orders  map[releases.Digest]*waveOrder // by head
	misfits map[string][]string            // by release
}

// waveOrder is the order in which a head reaches a channel's cells: first the cells that the first wave names by label,
// then all others. Within each part, cells are ordered by a hash of cell and digest, so that each release begins with
// other cells.
type waveOrder struct {
	indexes  []int32 // of indexes in Channel.Cells
	labelled []bool  // by index in Channel.Cells: named by the first wave; nil: none is
}

func (c *Channel) waveOrder() *waveOrder {
	build := func() *waveOrder { return newWaveOrder(c) }
	if c.cache == nil {
		return build()
	}
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	order := c.cache.orders[c.Effective.Digest]
	if order == nil || len(order.indexes) != len(c.Cells) {
		order = build()
		c.cache.orders = map[releases.Digest]*waveOrder{c.Effective.Digest: order}
	}
	return order
}

// WaveOrder returns the indexes of c's cells in the order in which they are offered its head.
func (c *Channel) WaveOrder() []int32 { return c.waveOrder().indexes }

func newWaveOrder(c *Channel) *waveOrder {
	order := &waveOrder{indexes: make([]int32, len(c.Cells))}
	var labels map[string]string
	if c.Valid != nil && len(c.Valid.Rollout.Waves) > 0 {
		labels = c.Valid.Rollout.Waves[0].Labels
	}
	if len(labels) > 0 {
		order.labelled = make([]bool, len(c.Cells))
	}
	ranks := make([]uint64, len(c.Cells))
	for i, cell := range c.Cells {
		sum := sha256.Sum256([]byte(cell.Name + "\x00" + string(c.Effective.Digest)))
		ranks[i] = binary.BigEndian.Uint64(sum[:8])>>1 | 1<<63
		if len(labels) > 0 && hasLabels(cell, labels) {
			order.labelled[i] = true
			ranks[i] &^= 1 << 63
		}
		order.indexes[i] = int32(i)
	}
	slices.SortFunc(order.indexes, func(a, b int32) int {
		return cmp.Or(cmp.Compare(ranks[a], ranks[b]), cmp.Compare(a, b))
	})
	return order
}

func hasLabels(cell *Cell, labels map[string]string) bool {
	for k, v := range labels {
		if cell.Labels[k] != v {
			return false
		}
	}
	return true
}

// misfits returns for each cell of c, by index, why its profile or values don't fit a release; empty: they fit.
func (c *Channel) misfits(r *Release) []string {
	if c.cache == nil {
		return findMisfits(c, r)
	}
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	all, known := c.cache.misfits[r.Version.String()]
	if !known || len(all) != len(c.Cells) {
		all = findMisfits(c, r)
		if c.cache.misfits == nil {
			c.cache.misfits = map[string][]string{}
		}
		c.cache.misfits[r.Version.String()] = all
	}
	return all
}

func findMisfits(c *Channel, r *Release) []string {
	all := make([]string, len(c.Cells))
	for i, cell := range c.Cells {
		if _, ok := r.Profile(cell.Profile); !ok {
			all[i] = fmt.Sprintf("%s has no profile %q", r.Version, cell.Profile)
		} else if wrong := releases.CheckValues(&r.Release, cell.Values); len(wrong) > 0 {
			all[i] = strings.Join(wrong, ", ")
		}
	}
	return all
}

// skipOfHead returns the skip by which a person opened a wave of c's head early; zero: none.
func (c *Channel) skipOfHead() (s channels.Skip) {
	for _, skip := range c.Skips {
		if skip.Sequence == c.Effective.Sequence {
			return skip
		}
	}
	return s
}
