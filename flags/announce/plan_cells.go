package announce

import (
	"slices"

	"github.com/sluice-cd/sluice/flags"
)

// tell settles what each cell is told. Whom an announcement reaches is decided here, so that cells whose memberships are equal
// share one Told, and those that the same gates reach one Bundle.
func (p *planner) tell() {
	for _, c := range p.channels {
		c.tellChannel()
	}
	for i := range p.in.Cells {
		if c := &p.in.Cells[i]; p.named[c.Channel] == nil { // kills reach it all the same (R43)
			p.plan.Told[c.Name] = &Told{Orders: p.orders(&cell{Cell: c}, nil)}
		}
	}
}

func (c *channel) tellChannel() {
	var sent, some, held []*channelState
	defs, hidden := c.define(), c.hidden()
	for _, s := range c.states {
		s.retire()
		s.mourn()
		if s.sent {
			sent = append(sent, s)
		}
		if s.sent && (!s.reach.all() || len(s.holds) > 0) {
			some = append(some, s)
		}
		if s.held != "" || len(s.holds) > 0 {
			held = append(held, s)
		}
	}
	bundles, told := map[string]*flags.Bundle{}, map[string]*Told{}
	var key []byte
	for _, cell := range c.cells {
		key = key[:0]
		for _, s := range some {
			key = append(key, bit(s.reaches(cell)))
		}
		gates := len(key)
		for _, k := range c.p.kills {
			key = append(key, bit(k.Cells.Selects(cell.Name, cell.Channel, cell.Labels)))
		}
		for _, s := range held {
			key = append(key, bit(s.reach.selects(cell) && s.holder(cell) != ""))
		}
		t := told[string(key)]
		if t == nil {
			b := bundles[string(key[:gates])]
			if b == nil {
				b = &flags.Bundle{Version: flags.BundleVersion, Channel: c.Name, Flags: defs, Gates: gatesOf(cell, sent)}
				b.Hidden = without(hidden, b.Gates)
				bundles[string(key[:gates])] = b
			}
			t = &Told{Bundle: b, Orders: c.p.orders(cell, held)}
			told[string(key)] = t
		}
		c.p.plan.Told[cell.Name] = t
	}
}

// retire learns whether no flag of what was told long ago is left: then no cell needs its gate.
func (s *channelState) retire() {
	if s.state != Archived || s.rules == nil {
		return
	}
	left := func(d *flags.Definition) bool { return s.c.base.Flags[d.Key] != nil }
	for _, f := range s.rules.Features {
		if slices.ContainsFunc(s.p.index(s.c.base)[f], left) || s.tree != nil && slices.ContainsFunc(s.p.index(s.tree)[f], left) {
			return
		}
	}
	s.retired, s.sent = true, false
}

// mourn learns which of its flags are killed, somewhere.
func (s *channelState) mourn() {
	for _, k := range s.p.kills {
		if s.sent && s.tree.Flags[k.Flag] != nil && slices.Contains(s.rules.Features, s.tree.Flags[k.Flag].Feature()) {
			s.dead = append(s.dead, k)
		}
	}
}

func bit(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// orders gives what is off at once in a cell (R43): killed flags, and what is held and not published.
func (p *planner) orders(c *cell, held []*channelState) flags.Orders {
	var o flags.Orders
	for _, k := range p.kills { // by flag
		again := len(o.Killed) > 0 && o.Killed[len(o.Killed)-1].Flag == k.Flag
		if !again && k.Cells.Selects(c.Name, c.Channel, c.Labels) {
			o.Killed = append(o.Killed, flags.KilledFlag{Flag: k.Flag, Reason: k.Reason})
		}
	}
	for _, s := range held {
		if s.reach.selects(c) && s.holder(c) != "" {
			o.Held = append(o.Held, s.a.id)
		}
	}
	return o
}
