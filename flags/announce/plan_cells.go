package announce

import (
	"slices"

	"github.com/sluice-cd/sluice/flags"
)

// planChannels decides what each cell is sent. Cells with equal memberships share one Told, and cells with the same
// gates share one Bundle.
func (p *planner) planChannels() {
	for _, c := range p.channels {
		c.planCells()
	}
	for i := range p.input.Cells {
		// kills reach cells of unknown channels too (R43)
		if c := &p.input.Cells[i]; p.channelsByName[c.Channel] == nil {
			p.plan.CellFlags[c.Name] = &CellFlags{Orders: p.cellOrders(&cell{Cell: c}, nil)}
		}
	}
}

func (c *channel) planCells() {
	var sent, partial, held []*channelState
	definitions, hidden := c.channelFlags(), c.hiddenFeatures()
	for _, s := range c.states {
		s.detectRetired()
		s.findKills()
		if s.sent {
			sent = append(sent, s)
		}
		if s.sent && (!s.reach.isWholeChannel() || len(s.holds) > 0) {
			partial = append(partial, s)
		}
		if s.heldReason != "" || len(s.holds) > 0 {
			held = append(held, s)
		}
	}
	bundles, toldByKey := map[string]*flags.Bundle{}, map[string]*CellFlags{}
	var key []byte
	for _, cell := range c.cells {
		key = key[:0]
		for _, s := range partial {
			key = append(key, boolByte(s.reaches(cell)))
		}
		gates := len(key)
		for _, k := range c.planner.kills {
			key = append(key, boolByte(k.Cells.Selects(cell.Name, cell.Channel, cell.Labels)))
		}
		for _, s := range held {
			key = append(key, boolByte(s.reach.selects(cell) && s.holdReason(cell) != ""))
		}
		t := toldByKey[string(key)]
		if t == nil {
			b := bundles[string(key[:gates])]
			if b == nil {
				b = &flags.Bundle{
					Version: flags.BundleVersion, Channel: c.Name, Flags: definitions, Gates: cellGates(cell, sent),
				}
				b.Hidden = ungatedFeatures(hidden, b.Gates)
				bundles[string(key[:gates])] = b
			}
			t = &CellFlags{Bundle: b, Orders: c.planner.cellOrders(cell, held)}
			toldByKey[string(key)] = t
		}
		c.planner.plan.CellFlags[cell.Name] = t
	}
}

// detectRetired detects that no flag of an archived announcement is left, so that no cell needs the gate.
func (s *channelState) detectRetired() {
	if s.state != Archived || s.rules == nil {
		return
	}
	remains := func(d *flags.Definition) bool { return s.channel.baseTree.Flags[d.Key] != nil }
	for _, f := range s.rules.Features {
		if slices.ContainsFunc(s.planner.flagsByFeature(s.channel.baseTree)[f], remains) ||
			s.tree != nil && slices.ContainsFunc(s.planner.flagsByFeature(s.tree)[f], remains) {
			return
		}
	}
	s.retired, s.sent = true, false
}

// findKills finds the kills of the announcement's flags.
func (s *channelState) findKills() {
	for _, k := range s.planner.kills {
		if s.sent && s.tree.Flags[k.Flag] != nil && slices.Contains(s.rules.Features, s.tree.Flags[k.Flag].Feature()) {
			s.kills = append(s.kills, k)
		}
	}
}

func boolByte(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// cellOrders returns what is off at once in a cell (R43): killed flags, and held announcements that are not published.
func (p *planner) cellOrders(c *cell, held []*channelState) flags.Orders {
	var o flags.Orders
	for _, k := range p.kills { // by flag
		duplicate := len(o.Killed) > 0 && o.Killed[len(o.Killed)-1].Flag == k.Flag
		if !duplicate && k.Cells.Selects(c.Name, c.Channel, c.Labels) {
			o.Killed = append(o.Killed, flags.KilledFlag{Flag: k.Flag, Reason: k.Reason})
		}
	}
	for _, s := range held {
		if s.reach.selects(c) && s.holdReason(c) != "" {
			o.Held = append(o.Held, s.announcement.id)
		}
	}
	return o
}
