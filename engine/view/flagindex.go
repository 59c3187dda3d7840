package view

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// FlagState is the state of a flag in one cell: the state of its announcement there, on if the flag is not gated,
// killed, or one of the states below.
type FlagState string

const (
	FlagOff    FlagState = "off"    // gated, and no announcement of its feature reaches the cell
	FlagAbsent FlagState = "absent" // the cell's bundle does not have the flag, or not yet
)

// FlagCell is one flag in one cell.
type FlagCell struct {
	Cell      string    `json:"cell"`
	Channel   string    `json:"channel"`
	State     FlagState `json:"state" doc:"waiting, ready, armed, ramping, on, suspended, killed, held, left out, retired; off: no announcement turns it on there; absent: its channel does not have the flag"`
	Why       string    `json:"why,omitempty"`
	Confirmed bool      `json:"confirmed" doc:"the cell confirmed this state. A kill that is not confirmed may not be in force there"`
	Offline   bool      `json:"offline,omitempty" doc:"the cell is out of contact"`
}

// FlagStatus is one flag in all channels.
type FlagStatus struct {
	Key           string        `json:"key"`
	Feature       string        `json:"feature,omitempty" doc:"the feature of releases that gates it; none: it is not gated"`
	Defined       bool          `json:"defined" doc:"the flags repository has it"`
	Disabled      bool          `json:"disabled,omitempty"`
	Killed        bool          `json:"killed,omitempty" doc:"in at least one cell"`
	Announcements []string      `json:"announcements,omitempty" doc:"announcements that turn its feature on"`
	Channels      []FlagChannel `json:"channels" doc:"upstreams first"`
}

// FlagChannel is one flag in one channel.
type FlagChannel struct {
	Channel string            `json:"channel"`
	State   announce.State    `json:"state,omitempty" doc:"state of its announcement; none: it is not gated, or no announcement has its feature"`
	At      time.Time         `json:"at,omitzero" doc:"when it is, or was, published; none: as soon as a cell is ready, or never"`
	Percent int               `json:"percent,omitempty" doc:"how far the ramp is now"`
	Cells   map[FlagState]int `json:"cells" doc:"how many cells are in each state"`
}

// FlagKill is a kill: its flag is off, whatever else holds, until a commit lifts the kill (R43). A flag without an off
// variant gives NotOff.
type FlagKill struct {
	Flag        string    `json:"flag"`
	Reason      string    `json:"reason"`
	By          string    `json:"by,omitempty"`
	Until       time.Time `json:"until,omitzero" doc:"when a person should review the kill, which does not end by itself"`
	Committed   bool      `json:"committed" doc:"it is in the flags repository: only a commit lifts it"`
	Cells       int       `json:"cells" doc:"cells that the kill is for"`
	Confirmed   int       `json:"confirmed" doc:"cells that confirmed that the kill is in force"`
	Unconfirmed int       `json:"unconfirmed" doc:"cells in contact that have not confirmed it yet"`
	NotOff      string    `json:"notOff,omitempty" doc:"what the flag gives all the same, since it has no off variant, or why it is unknown; none: it is off"`
	Next        string    `json:"next,omitempty" doc:"the next step for a flag that is not off"`
	Offline     []string  `json:"offline,omitempty" doc:"the first 100 cells out of contact that never confirmed it: the flag may still be on there"`
}

// FlagIndex answers questions about the flags of one View, by flag, channel and cell. It decodes each cell's orders
// once, and is for a single goroutine.
type FlagIndex struct {
	view     *View
	flags    *Flags // never nil
	features map[string][]*announce.Status
	// Kill reasons by flag, by the digest of the orders they were decoded from
	killsByOrders map[releases.Digest]map[string]string
}

// NewFlagIndex returns the index of a View that has Flags.
func NewFlagIndex(v *View) *FlagIndex {
	x := &FlagIndex{
		view: v, flags: v.Flags, features: map[string][]*announce.Status{},
		killsByOrders: map[releases.Digest]map[string]string{},
	}
	for i := range x.flags.Plan.Announcements {
		a := &x.flags.Plan.Announcements[i]
		for _, feature := range a.Announcement.Features {
			x.features[feature] = append(x.features[feature], a)
		}
	}
	return x
}

// Keys returns the flags of the tip, and killed flags that the tip lacks, sorted.
func (x *FlagIndex) Keys() []string {
	all := map[string]bool{}
	if x.flags.Tip != nil {
		for key := range x.flags.Tip.Flags {
			all[key] = true
		}
	}
	x.EachKill(func(o repository.Override, _ bool) { all[o.Flag] = true })
	return slices.Sorted(maps.Keys(all))
}

// Exists reports whether Keys has a flag.
func (x *FlagIndex) Exists(key string) bool {
	exists := x.Definition(key) != nil
	x.EachKill(func(o repository.Override, _ bool) { exists = exists || o.Flag == key })
	return exists
}

// EachKill calls each for every kill: those in the repository, and those that are not committed yet.
func (x *FlagIndex) EachKill(each func(o repository.Override, committed bool)) {
	for _, o := range x.flags.Kills {
		each(o, false)
	}
	if x.flags.Tip == nil {
		return
	}
	for _, o := range x.flags.Tip.Overrides {
		isPending := func(k repository.Override) bool {
			return k.Flag == o.Flag && k.Reason == o.Reason && k.By == o.By && k.Until.Equal(o.Until)
		}
		if o.Kind == repository.Kill && !slices.ContainsFunc(x.flags.Kills, isPending) {
			each(o, true)
		}
	}
}

// Definition returns the tip's definition of a flag; nil: it has none.
func (x *FlagIndex) Definition(key string) *flags.Definition {
	if x.flags.Tip == nil {
		return nil
	}
	return x.flags.Tip.Flags[key]
}

// Killed returns the flags that a cell's orders turn off, with the reasons.
func (x *FlagIndex) Killed(cellFlags *cells.Flags) map[string]string {
	if cellFlags == nil {
		return nil
	}
	if known, ok := x.killsByOrders[cellFlags.Orders.Digest]; ok {
		return known
	}
	var o flags.Orders
	_ = json.Unmarshal(cellFlags.Orders.Payload, &o) // our own encoding; a missing kill is not shown
	all := map[string]string{}
	for _, k := range o.Killed {
		all[k.Flag] = k.Reason
	}
	x.killsByOrders[cellFlags.Orders.Digest] = all
	return all
}

// Confirmed reports whether a cell reported that the orders and the bundle it is sent now are in force.
func (x *FlagIndex) Confirmed(cell string, cellFlags *cells.Flags) (orders, bundle bool) {
	state := x.view.Observed.Cells[cell]
	if state == nil || state.Flags == nil || cellFlags == nil {
		return false, false
	}
	return state.Flags.Orders == cellFlags.Orders.Digest, state.Flags.Bundle == cellFlags.Bundle.Digest
}

// Offline reports whether a cell is out of contact.
func (x *FlagIndex) Offline(cell string) bool {
	state := x.view.Observed.Cells[cell]
	return state == nil || state.LastReport.IsZero() || x.view.Silent(state)
}

// Kills returns the kills of one flag, or of all if key is empty, by flag, with how many cells confirmed each.
func (x *FlagIndex) Kills(key string) []FlagKill {
	all := []FlagKill{}
	x.EachKill(func(o repository.Override, committed bool) {
		if key != "" && o.Flag != key {
			return
		}
		k := FlagKill{Flag: o.Flag, Reason: o.Reason, By: o.By, Until: o.Until, Committed: committed}
		for name, cell := range x.view.Desired.Cells {
			if !o.Cells.Selects(name, cell.Channel, cell.Labels) {
				continue
			}
			k.Cells++
			cellFlags := x.flags.ByCell[name]
			_, there := x.Killed(cellFlags)[o.Flag]
			orders, _ := x.Confirmed(name, cellFlags)
			switch {
			case there && orders:
				k.Confirmed++
			case x.Offline(name):
				k.Offline = append(k.Offline, name)
			default:
				k.Unconfirmed++
			}
		}
		k.NotOff, k.Next = x.notOff(o)
		slices.Sort(k.Offline)
		k.Offline = k.Offline[:min(len(k.Offline), MaxFaults)]
		all = append(all, k)
	})
	slices.SortStableFunc(all, func(x, y FlagKill) int { return cmp.Compare(x.Flag, y.Flag) })
	return all
}

// notOff returns what a killed flag gives in some cell of the kill although it is not off, and the next step; empty: it
// is off.
func (x *FlagIndex) notOff(o repository.Override) (gives, next string) {
	seen, tip := map[*flags.Bundle]bool{}, x.Definition(o.Flag)
	if tip != nil && tip.Kill().Gives != "" {
		return tip.Kill().Gives, NotOffHint
	}
	for _, name := range slices.Sorted(maps.Keys(x.view.Desired.Cells)) {
		cell, planned := x.view.Desired.Cells[name], x.flags.Plan.CellFlags[name]
		if planned == nil || planned.Bundle == nil || seen[planned.Bundle] ||
			!o.Cells.Selects(name, cell.Channel, cell.Labels) {
			continue
		}
		seen[planned.Bundle] = true
		if raw, known := planned.Bundle.Flags[o.Flag]; known {
			switch d, err := flags.ParseDefinition(o.Flag, raw); {
			case err != nil || d.Kill().Gives == "":
			case tip == nil:
				return d.Kill().Gives, NotOffHint
			default:
				return OlderNotOff(x.flags.Tip, tip, cell.Channel, d.Kill().Gives)
			}
		}
	}
	if tip == nil && x.flags.Tip != nil {
		return "the flags repository has no such flag", ""
	}
	return "", ""
}

// NotOffHint is the next step after a kill that does not turn a flag off, by the newest definition.
const NotOffHint = "commit another default or rule, or name its off variant in metadata.off, and kill the flag again"

// OlderNotOff says what a killed flag gives in a channel by a definition that is not the tip's, and how the channel
// gets the tip's (R42).
func OlderNotOff(tip *repository.Tree, d *flags.Definition, channel, gives string) (text, next string) {
	text = fmt.Sprintf("%s has an older definition of it: %s", channel, gives)
	if id, _ := tip.Deciding(d.Feature(), channel); id != "" {
		return text, fmt.Sprintf("sluice announce approve %s brings the newest definition there", id)
	}
	return text, fmt.Sprintf("sluice flag promote %s --reason WHY brings the newest definition there", channel)
}

// Status returns a flag's state in every channel.
func (x *FlagIndex) Status(key string) FlagStatus {
	s := FlagStatus{Key: key, Channels: []FlagChannel{}}
	if d := x.Definition(key); d != nil {
		s.Defined, s.Feature, s.Disabled = true, d.Feature(), d.Disabled
	}
	x.EachKill(func(o repository.Override, _ bool) { s.Killed = s.Killed || o.Flag == key })
	for _, a := range x.features[s.Feature] {
		s.Announcements = append(s.Announcements, a.Announcement.ID)
	}
	var at map[string]announce.CellStatus // a killed flag is counted cell by cell
	if s.Killed {
		at = x.CellStates(key)
	}
	for _, name := range x.view.Desired.Order {
		c := FlagChannel{Channel: name, Cells: map[FlagState]int{}}
		in := x.view.Desired.Channels[name]
		best := x.bestAnnouncement(s.Feature, name)
		if best != nil {
			c.State, c.At, c.Percent = best.State, best.At, best.Percent
		}
		switch {
		case s.Killed:
			for _, cell := range in.Cells {
				c.Cells[x.Cell(key, cell.Name, at).State]++
			}
		case s.Feature == "":
			addCount(c.Cells, FlagState(flags.On), len(in.Cells))
		case best == nil:
			addCount(c.Cells, FlagOff, len(in.Cells))
		default:
			rest := len(in.Cells)
			for state, n := range best.Counts {
				addCount(c.Cells, FlagState(state), n)
				rest -= n
			}
			addCount(c.Cells, FlagOff, rest)
		}
		s.Channels = append(s.Channels, c)
	}
	return s
}

func addCount(of map[FlagState]int, state FlagState, n int) {
	if n > 0 {
		of[state] += n
	}
}

// bestAnnouncement returns the announcement of a feature that shows most of it in a channel; nil: none.
func (x *FlagIndex) bestAnnouncement(feature, channel string) *announce.ChannelStatus {
	var best *announce.ChannelStatus
	if feature == "" {
		return nil
	}
	for _, a := range x.features[feature] {
		for i := range a.Channels {
			if c := &a.Channels[i]; c.Channel == channel && c.State != "" &&
				(best == nil || stateRank(c.State) > stateRank(best.State)) {
				best = c
			}
		}
	}
	return best
}

// CellStates returns the state of a flag's best announcement in each cell that one reaches, by cell.
func (x *FlagIndex) CellStates(key string) map[string]announce.CellStatus {
	d := x.Definition(key)
	if d == nil || d.Feature() == "" {
		return nil
	}
	all, ranks := map[string]announce.CellStatus{}, map[string]int{}
	for _, a := range x.features[d.Feature()] {
		detail, ok := x.flags.Plan.Detail(a.Announcement.ID)
		if !ok {
			continue
		}
		for _, c := range detail.Channels {
			for _, cell := range c.Cells {
				if old, known := ranks[cell.Cell]; !known || stateRank(c.State) > old {
					all[cell.Cell], ranks[cell.Cell] = cell, stateRank(c.State)
				}
			}
		}
	}
	return all
}

// InCell returns a flag's state in one cell, without a look at all others.
func (x *FlagIndex) InCell(key, name string) FlagCell {
	at := map[string]announce.CellStatus{}
	if d := x.Definition(key); d != nil && d.Feature() != "" {
		best := -1
		for _, a := range x.features[d.Feature()] {
			status, state, ok := x.flags.Plan.InCell(a.Announcement.ID, name)
			if rank := stateRank(state); ok && (rank > best || len(at) == 0) {
				at[name], best = status, rank
			}
		}
	}
	return x.Cell(key, name, at)
}

// Cell returns a flag's state in one cell. at is the result of CellStates.
func (x *FlagIndex) Cell(key, name string, at map[string]announce.CellStatus) FlagCell {
	cellFlags := x.flags.ByCell[name]
	c := FlagCell{Cell: name, Channel: x.view.Desired.Cells[name].Channel, Offline: x.Offline(name)}
	orders, bundle := x.Confirmed(name, cellFlags)
	if why, killed := x.Killed(cellFlags)[key]; killed {
		c.State, c.Why, c.Confirmed = FlagState(flags.Killed), why, orders
		return c
	}
	d := x.Definition(key)
	place, reached := at[name]
	switch {
	case d == nil || !x.bundleHas(name, key):
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

func (x *FlagIndex) bundleHas(cell, key string) bool {
	planned := x.flags.Plan.CellFlags[cell]
	if planned == nil || planned.Bundle == nil {
		return false
	}
	_, ok := planned.Bundle.Flags[key]
	return ok
}

// stateRank orders states by how much of a feature they show. Of several announcements the highest rank counts.
func stateRank(s announce.State) int {
	return slices.Index([]announce.State{
		announce.Archived, announce.Cancelled, announce.Retracted, announce.Missed, announce.Held, announce.Draft,
		announce.Approved, announce.Scheduled, announce.Armed, announce.Publishing, announce.Published,
	}, s)
}
