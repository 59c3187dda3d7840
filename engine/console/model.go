package console

import (
	"cmp"
	"slices"
	"sync"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// Model is a View with what its pages share. Each part is computed once, when a page first needs it.
type Model struct {
	// ActsAs is the address of the person whom the control plane takes everyone on its machine for; empty: for nobody.
	// It is set before the first page is rendered.
	ActsAs string

	view     *view.View
	status   func() view.Status              // with all cells
	rollouts func() map[string]plan.Progress // by channel
	blocked  func() map[place][]channels.Verdict
	needs    func() []Need
	index    func() *view.FlagIndex // nil without flags
	indexMu  sync.Mutex             // held while index is used: it is for a single goroutine
}

// place is a release in a channel.
type place struct{ channel, release string }

// New returns the Model of a View.
func New(v *view.View) *Model {
	m := &Model{view: v}
	m.status = sync.OnceValue(func() view.Status { return view.StatusOf(v, view.StatusPage{}) })
	m.rollouts = sync.OnceValue(func() map[string]plan.Progress {
		all := map[string]plan.Progress{}
		for _, p := range view.Rollouts(v, "") {
			all[p.Channel] = p
		}
		return all
	})
	m.blocked = sync.OnceValue(func() map[place][]channels.Verdict {
		all := map[place][]channels.Verdict{}
		for _, b := range v.Plan.Blocked {
			if b.Cell == "" {
				at := place{b.Channel, b.Release}
				all[at] = append(all[at], b)
			}
		}
		return all
	})
	m.needs = sync.OnceValue(m.findNeeds)
	m.index = sync.OnceValue(func() *view.FlagIndex {
		if v.Flags == nil {
			return nil
		}
		return view.NewFlagIndex(v)
	})
	return m
}

// channelStatus returns a channel's status; ok is false if there is none.
func (m *Model) channelStatus(name string) (s view.ChannelStatus, ok bool) {
	all := m.status().Channels
	i := slices.IndexFunc(all, func(c view.ChannelStatus) bool { return c.Name == name })
	if i < 0 {
		return s, false
	}
	return all[i], true
}

// cellStatus returns a cell's status; ok is false if there is none.
func (m *Model) cellStatus(name string) (s *view.CellStatus, ok bool) {
	all := m.status().Cells
	i, ok := slices.BinarySearchFunc(all, name,
		func(c view.CellStatus, name string) int { return cmp.Compare(c.Name, name) })
	if !ok {
		return nil, false
	}
	return &all[i], true
}

// lanes returns the channels by how many channels they are after, upstreams first.
func (m *Model) lanes() [][]view.ChannelStatus {
	depth := map[string]int{}
	var all [][]view.ChannelStatus
	for _, c := range m.status().Channels { // upstreams come first
		at := 0
		for _, up := range c.After {
			if d, known := depth[up]; known {
				at = max(at, d+1)
			}
		}
		depth[c.Name] = at
		for len(all) <= at {
			all = append(all, nil)
		}
		all[at] = append(all[at], c)
	}
	return all
}

// newestReleases returns at most n releases, greatest first; with onTheWay only those that are not below every head.
func (m *Model) newestReleases(n int, onTheWay bool) []*plan.Release {
	d := m.view.Desired
	var least *plan.Release
	for _, c := range d.Channels {
		if c.Effective == nil {
			continue
		}
		if head := d.Releases[c.Effective.Release]; head != nil && (least == nil || head.Version.Less(least.Version)) {
			least = head
		}
	}
	var all []*plan.Release
	for _, r := range slices.Backward(d.Versions) {
		if len(all) == n || onTheWay && least != nil && r.Version.Less(least.Version) {
			break
		}
		all = append(all, r)
	}
	return all
}

// withIndex calls do with the index of flags, unless there are none.
func (m *Model) withIndex(do func(x *view.FlagIndex)) {
	m.indexMu.Lock()
	defer m.indexMu.Unlock()
	if x := m.index(); x != nil {
		do(x)
	}
}
