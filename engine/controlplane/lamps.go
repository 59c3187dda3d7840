package controlplane

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/releases"
)

// FlagState is what a flag is in one cell: that of its announcement there, on where it is not gated, killed, or one of those that follow.
type FlagState string

const (
	FlagOff    FlagState = "off"    // gated, and no announcement that reaches the cell has its feature
	FlagAbsent FlagState = "absent" // the cell's channel does not have the flag, or not yet
)

// FlagCell is a flag in one cell.
type FlagCell struct {
	Cell      string    `json:"cell"`
	Channel   string    `json:"channel"`
	State     FlagState `json:"state" doc:"waiting, armed, ramping, on, suspended, killed, held, left out, retired; off: no announcement turns it on there; absent: its channel does not have the flag"`
	Why       string    `json:"why,omitempty"`
	Confirmed bool      `json:"confirmed" doc:"the cell said so itself, of what it is told now. A kill that is not confirmed may not be in force there"`
	Offline   bool      `json:"offline,omitempty" doc:"it is not heard of"`
}

// lamps looks at flags in one view. It is for one goroutine.
type lamps struct {
	v        *view.View
	f        *view.Flags // never nil
	features map[string][]*announce.Status
	orders   map[releases.Digest]map[string]string // what is decoded of orders: reasons by flag
}

func newLamps(v *view.View) *lamps {
	b := &lamps{v: v, f: v.Flags, features: map[string][]*announce.Status{}, orders: map[releases.Digest]map[string]string{}}
	for i := range b.f.Plan.Announcements {
		a := &b.f.Plan.Announcements[i]
		for _, feature := range a.Announcement.Features {
			b.features[feature] = append(b.features[feature], a)
		}
	}
	return b
}

// keys are the flags of the tip, and those that are killed though no tip has them.
func (b *lamps) keys() []string {
	all := map[string]bool{}
	if b.f.Tip != nil {
		for key := range b.f.Tip.Flags {
			all[key] = true
		}
	}
	b.overrides(func(o flags.Override, _ bool) { all[o.Flag] = true })
	return slices.Sorted(maps.Keys(all))
}

// exists tells whether a flag is one of keys.
func (b *lamps) exists(key string) bool {
	is := b.definition(key) != nil
	b.overrides(func(o flags.Override, _ bool) { is = is || o.Flag == key })
	return is
}

// overrides gives all kills: those of the repository, and those on their way there.
func (b *lamps) overrides(each func(o flags.Override, committed bool)) {
	for _, o := range b.f.Kills {
		each(o, false)
	}
	if b.f.Tip == nil {
		return
	}
	for _, o := range b.f.Tip.Overrides {
		again := func(k flags.Override) bool {
			return k.Flag == o.Flag && k.Reason == o.Reason && k.By == o.By && k.Until.Equal(o.Until)
		}
		if o.Kind == flags.Kill && !slices.ContainsFunc(b.f.Kills, again) {
			each(o, true)
		}
	}
}

func (b *lamps) definition(key string) *flags.Definition {
	if b.f.Tip == nil {
		return nil
	}
	return b.f.Tip.Flags[key]
}

// killed gives the flags that a cell is told to turn off, and why.
func (b *lamps) killed(told *cells.Flags) map[string]string {
	if told == nil {
		return nil
	}
	if known, ok := b.orders[told.Orders.Digest]; ok {
		return known
	}
	var o flags.Orders
	_ = json.Unmarshal(told.Orders.Payload, &o) // ours; what it does not have is not told
	all := map[string]string{}
	for _, k := range o.Killed {
		all[k.Flag] = k.Reason
	}
	b.orders[told.Orders.Digest] = all
	return all
}

// confirmed tells whether a cell said that it has the orders in force that it is told now.
func (b *lamps) confirmed(cell string, told *cells.Flags) (orders, bundle bool) {
	state := b.v.Observed.Cells[cell]
	if state == nil || state.Flags == nil || told == nil {
		return false, false
	}
	return state.Flags.Orders == told.Orders.Digest, state.Flags.Bundle == told.Bundle.Digest
}

// offline tells whether a cell is not heard of.
func (b *lamps) offline(cell string) bool {
	state := b.v.Observed.Cells[cell]
	return state == nil || state.LastReport.IsZero() || b.v.Silent(state)
}

// kills are the kills of one flag, or of all, by flag, and how far each is.
func (b *lamps) kills(key string) []FlagKill {
	all := []FlagKill{}
	b.overrides(func(o flags.Override, committed bool) {
		if key != "" && o.Flag != key {
			return
		}
		k := FlagKill{Flag: o.Flag, Reason: o.Reason, By: o.By, Until: o.Until, Committed: committed}
		for name, cell := range b.v.Desired.Cells {
			if !o.Cells.Selects(name, cell.Channel, cell.Labels) {
				continue
			}
			k.Cells++
			told := b.f.Told[name]
			_, there := b.killed(told)[o.Flag]
			orders, _ := b.confirmed(name, told)
			switch {
			case there && orders:
				k.Confirmed++
			case b.offline(name):
				k.Offline = append(k.Offline, name)
			default:
				k.Unconfirmed++
			}
		}
		slices.Sort(k.Offline)
		k.Offline = k.Offline[:min(len(k.Offline), maxFaults)]
		all = append(all, k)
	})
	slices.SortStableFunc(all, func(x, y FlagKill) int { return cmp.Compare(x.Flag, y.Flag) })
	return all
}

// status is a flag in every channel.
func (b *lamps) status(key string) FlagStatus {
	s := FlagStatus{Key: key, Channels: []FlagChannel{}}
	if d := b.definition(key); d != nil {
		s.Defined, s.Feature, s.Disabled = true, d.Feature(), d.Disabled
	}
	b.overrides(func(o flags.Override, _ bool) { s.Killed = s.Killed || o.Flag == key })
	for _, a := range b.features[s.Feature] {
		s.Announcements = append(s.Announcements, a.Announcement.ID)
	}
	var at map[string]announce.CellStatus // where counts don't do
	if s.Killed {
		at = b.places(key)
	}
	for _, name := range b.v.Desired.Order {
		c := FlagChannel{Channel: name, Cells: map[FlagState]int{}}
		in := b.v.Desired.Channels[name]
		best := b.best(s.Feature, name)
		if best != nil {
			c.State, c.At, c.Percent = best.State, best.At, best.Percent
		}
		switch {
		case s.Killed:
			for _, cell := range in.Cells {
				c.Cells[b.cell(key, cell.Name, at).State]++
			}
		case s.Feature == "":
			count(c.Cells, FlagState(flags.On), len(in.Cells))
		case best == nil:
			count(c.Cells, FlagOff, len(in.Cells))
		default:
			rest := len(in.Cells)
			for state, n := range best.Counts {
				count(c.Cells, FlagState(state), n)
				rest -= n
			}
			count(c.Cells, FlagOff, rest)
		}
		s.Channels = append(s.Channels, c)
	}
	return s
}

func count(of map[FlagState]int, state FlagState, n int) {
	if n > 0 {
		of[state] += n
	}
}

// best is the announcement of a feature that shows most of it in a channel; nil: none.
func (b *lamps) best(feature, channel string) *announce.ChannelStatus {
	var best *announce.ChannelStatus
	if feature == "" {
		return nil
	}
	for _, a := range b.features[feature] {
		for i := range a.Channels {
			if c := &a.Channels[i]; c.Channel == channel && c.State != "" && (best == nil || rank(c.State) > rank(best.State)) {
				best = c
			}
		}
	}
	return best
}

// places are what the best announcements of a flag's feature are in each cell that they reach, by cell.
func (b *lamps) places(key string) map[string]announce.CellStatus {
	d := b.definition(key)
	if d == nil || d.Feature() == "" {
		return nil
	}
	all, ranks := map[string]announce.CellStatus{}, map[string]int{}
	for _, a := range b.features[d.Feature()] {
		detail, ok := b.f.Plan.Detail(a.Announcement.ID)
		if !ok {
			continue
		}
		for _, c := range detail.Channels {
			for _, cell := range c.Cells {
				if old, known := ranks[cell.Cell]; !known || rank(c.State) > old {
					all[cell.Cell], ranks[cell.Cell] = cell, rank(c.State)
				}
			}
		}
	}
	return all
}

// cell is a flag in one cell. at is what places gave.
func (b *lamps) cell(key, name string, at map[string]announce.CellStatus) FlagCell {
	told := b.f.Told[name]
	c := FlagCell{Cell: name, Channel: b.v.Desired.Cells[name].Channel, Offline: b.offline(name)}
	orders, bundle := b.confirmed(name, told)
	if why, killed := b.killed(told)[key]; killed {
		c.State, c.Why, c.Confirmed = FlagState(flags.Dead), why, orders
		return c
	}
	d := b.definition(key)
	place, reached := at[name]
	switch {
	case d == nil || !b.has(name, key):
		c.State, c.Confirmed = FlagAbsent, bundle
	case reached:
		c.State, c.Why, c.Confirmed = FlagState(place.State), place.Why, place.Confirmed
	case d.Feature() == "":
		c.State, c.Confirmed = FlagState(flags.On), bundle
	default:
		c.State, c.Confirmed = FlagOff, bundle
	}
	return c
}

// has tells whether the cell's bundle has a flag.
func (b *lamps) has(cell, key string) bool {
	told := b.f.Plan.Told[cell]
	if told == nil || told.Bundle == nil {
		return false
	}
	_, ok := told.Bundle.Flags[key]
	return ok
}
