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
		input: in, now: in.Now.Truncate(time.Second).UTC(),
		channelsByName: map[string]*channel{},
		indexes:        map[*repository.Tree]map[string][]*flags.Definition{}, encoded: map[*flags.Definition][]byte{},
		plan: Plan{CellFlags: make(map[string]*CellFlags, len(in.Cells))},
	}
	for _, c := range in.Channels {
		known := &channel{Channel: c, planner: p, entry: len(c.After) == 0}
		p.channels = append(p.channels, known)
		p.channelsByName[c.Name] = known
	}
	p.groupCells()
	p.input.Proven = slices.Clone(in.Proven)
	slices.SortFunc(p.input.Proven, func(a, b ProvenApproval) int {
		return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Hash, b.Hash))
	})
	ids := slices.Collect(maps.Keys(in.Tip.Announcements))
	for id := range in.Tip.Records {
		if in.Tip.Announcements[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		p.addAnnouncement(id)
	}
	return p
}

// groupCells adds cells to their channels, by name, and indexes their feature sets, bundles and reported states.
func (p *planner) groupCells() {
	type slice struct {
		first  *string
		length int
	}
	same, sets := map[slice]int{}, map[string]int{}
	bundles := map[*flags.Bundle]int{}
	for i := range p.input.Cells {
		c := &cell{Cell: &p.input.Cells[i]}
		var key slice
		if len(c.Features) > 0 {
			key = slice{&c.Features[0], len(c.Features)}
		}
		code, known := same[key]
		if !known {
			text := strings.Join(c.Features, "\x00")
			if code, known = sets[text]; !known {
				code = len(p.featureSets)
				sets[text] = code
				p.featureSets = append(p.featureSets, setOf(c.Features))
			}
			same[key] = code
		}
		c.featureSet = code
		if c.bundleIndex, known = bundles[c.Bundle]; !known {
			c.bundleIndex = len(p.bundleGates)
			bundles[c.Bundle] = c.bundleIndex
			p.bundleGates = append(p.bundleGates, gateIDs(c.Bundle))
		}
		if c.Report != nil && c.Current {
			for id, state := range c.Report.States {
				if state != flags.On {
					c.notOn = append(c.notOn, reported{id, state})
				}
			}
		}
		if in := p.channelsByName[c.Channel]; in != nil {
			in.cells = append(in.cells, c)
		}
	}
	for _, c := range p.channels {
		slices.SortFunc(c.cells, func(x, y *cell) int { return cmp.Compare(x.Name, y.Name) })
	}
}

// addAnnouncement adds an announcement to the channels that it is for and to those with a record of it.
func (p *planner) addAnnouncement(id string) {
	a := &announcement{planner: p, id: id, tip: p.input.Tip.Announcements[id]}
	if a.tip != nil {
		a.hash, a.text = p.input.Tip.Hash(a.tip)
		a.countApprovals()
	}
	for _, c := range p.channels {
		s := &channelState{planner: p, announcement: a, scope: scope{channel: c}}
		if rec, ok := p.input.Tip.Records[id][c.Name]; ok && !c.entry {
			s.record = &rec
		}
		if s.record == nil && (a.tip == nil || !inChannel(a.tip.Cells, c)) {
			continue
		}
		for _, ids := range p.bundleGates {
			s.knownTo = append(s.knownTo, ids[id])
		}
		a.states = append(a.states, s)
		c.states = append(c.states, s)
	}
	p.announcements = append(p.announcements, a)
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	addNames(set, names)
	return set
}

func addNames(set map[string]bool, names []string) {
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
