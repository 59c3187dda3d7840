package announce

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

func newPlanner(in Input) *planner {
	p := &planner{
		in: in, now: in.Now.Truncate(time.Second).UTC(),
		named:   map[string]*channel{},
		indexes: map[*repository.Tree]map[string][]*flags.Definition{}, encoded: map[*flags.Definition][]byte{},
		plan: Plan{Told: make(map[string]*Told, len(in.Cells))},
	}
	for _, c := range in.Channels {
		known := &channel{Channel: c, p: p, entry: len(c.After) == 0}
		p.channels = append(p.channels, known)
		p.named[c.Name] = known
	}
	p.sortCells()
	p.in.Proven = slices.Clone(in.Proven)
	slices.SortFunc(p.in.Proven, func(a, b Proven) int { return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Hash, b.Hash)) })
	ids := slices.Collect(maps.Keys(in.Tip.Announcements))
	for id := range in.Tip.Records {
		if in.Tip.Announcements[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		p.place(id)
	}
	return p
}

// sortCells puts cells in their channels, by name.
func (p *planner) sortCells() {
	type slice struct {
		first  *string
		length int
	}
	same, sets := map[slice]int{}, map[string]int{}
	bundles := map[*flags.Bundle]int{}
	for i := range p.in.Cells {
		c := &cell{Cell: &p.in.Cells[i]}
		var key slice
		if len(c.Features) > 0 {
			key = slice{&c.Features[0], len(c.Features)}
		}
		code, known := same[key]
		if !known {
			text := strings.Join(c.Features, "\x00")
			if code, known = sets[text]; !known {
				code = len(p.codes)
				sets[text] = code
				p.codes = append(p.codes, setOf(c.Features))
			}
			same[key] = code
		}
		c.code = code
		if c.bundle, known = bundles[c.Bundle]; !known {
			c.bundle = len(p.bundles)
			bundles[c.Bundle] = c.bundle
			p.bundles = append(p.bundles, gateIDs(c.Bundle))
		}
		if c.Report != nil && c.Current {
			for id, state := range c.Report.States {
				if state != flags.On {
					c.odd = append(c.odd, said{id, state})
				}
			}
		}
		if in := p.named[c.Channel]; in != nil {
			in.cells = append(in.cells, c)
		}
	}
	for _, c := range p.channels {
		slices.SortFunc(c.cells, func(x, y *cell) int { return cmp.Compare(x.Name, y.Name) })
	}
}

// place says where an announcement may matter: in the channels that it names, and where it has been decided on.
func (p *planner) place(id string) {
	a := &announcement{p: p, id: id, tip: p.in.Tip.Announcements[id]}
	if a.tip != nil {
		a.hash, a.text = p.in.Tip.Hash(a.tip)
		a.approve()
	}
	for _, c := range p.channels {
		s := &channelState{p: p, a: a, scope: scope{c: c}}
		if rec, ok := p.in.Tip.Records[id][c.Name]; ok && !c.entry {
			s.rec = &rec
		}
		if s.rec == nil && (a.tip == nil || !inChannel(a.tip.Cells, c)) {
			continue
		}
		for _, ids := range p.bundles {
			s.known = append(s.known, ids[id])
		}
		a.states = append(a.states, s)
		c.states = append(c.states, s)
	}
	p.announcements = append(p.announcements, a)
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	add(set, names)
	return set
}

func add(set map[string]bool, names []string) {
	for _, n := range names {
		set[n] = true
	}
}

func gateIDs(b *flags.Bundle) map[string]bool {
	if b == nil {
		return nil
	}
	ids := make(map[string]bool, len(b.Gates))
	for _, g := range b.Gates {
		ids[g.ID] = true
	}
	return ids
}
