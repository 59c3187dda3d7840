package announce

import "github.com/sluice-cd/sluice/flags"

// tell settles what each cell is told. Whom an announcement reaches is decided here, so that cells whose memberships are equal
// share one Told, and those that the same gates reach one Bundle.
func (p *planner) tell() {
	for _, c := range p.channels {
		p.tellChannel(c)
	}
	for i := range p.in.Cells {
		if c := &p.in.Cells[i]; p.named[c.Channel] == nil { // kills reach it all the same (R43)
			p.plan.Told[c.Name] = &Told{Orders: p.orders(&cell{Cell: c}, nil)}
		}
	}
}

func (p *planner) tellChannel(c *channel) {
	var all, some, held []*standing
	defs, hidden := p.define(c), p.hidden(c)
	for _, s := range c.standings {
		p.retire(s)
		p.mourn(s)
		switch {
		case s.sent && s.tree != nil && s.reach.all() && len(s.holds) == 0:
			all = append(all, s)
		case s.sent && s.tree != nil:
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
		for _, k := range p.kills {
			key = append(key, bit(k.Cells.Selects(cell.Name, cell.Channel, cell.Labels)))
		}
		for _, s := range held {
			key = append(key, bit(s.reach.selects(cell) && s.holder(cell) != ""))
		}
		t := told[string(key)]
		if t == nil {
			b := bundles[string(key[:gates])]
			if b == nil {
				b = &flags.Bundle{Version: flags.BundleVersion, Channel: c.Name, Flags: defs, Gates: gatesOf(cell, all, some)}
				b.Hidden = without(hidden, b.Gates)
				bundles[string(key[:gates])] = b
			}
			t = &Told{Bundle: b, Orders: p.orders(cell, held)}
			told[string(key)] = t
		}
		p.plan.Told[cell.Name] = t
	}
}

// retire learns whether no flag of what was told long ago is left: then no cell needs its gate.
func (p *planner) retire(s *standing) {
	if s.state != Archived || s.rules == nil {
		return
	}
	s.retired = true
	for _, f := range s.rules.Features {
		left := len(p.index(s.c.base)[f]) > 0
		for _, d := range p.keys(s, f) {
			left = left || s.c.base.Flags[d.Key] != nil
		}
		s.retired = s.retired && !left
	}
	s.sent = s.sent && !s.retired
}

// mourn learns which of its flags are killed, somewhere.
func (p *planner) mourn(s *standing) {
	if !s.sent || len(p.kills) == 0 {
		return
	}
	keys := map[string]bool{}
	for _, f := range s.rules.Features {
		for _, d := range p.keys(s, f) {
			keys[d.Key] = true
		}
	}
	for _, k := range p.kills {
		if keys[k.Flag] {
			s.dead = append(s.dead, k)
		}
	}
}

// keys gives the flags of a feature as they were decided on.
func (p *planner) keys(s *standing, feature string) []*flags.Definition {
	if s.tree == nil {
		return nil
	}
	return p.index(s.tree)[feature]
}

func bit(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// orders gives what is off at once in a cell (R43): killed flags, and what is held and not published.
func (p *planner) orders(c *cell, held []*standing) flags.Orders {
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
