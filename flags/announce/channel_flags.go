package announce

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// define gives the definitions that a channel has (R42): of features that were decided on, from the commit that was approved;
// of all others, from its base. A flag that claims a feature which is decided on, but was not approved with it, is shut.
func (c *channel) define() map[string]json.RawMessage {
	all := make(map[string]json.RawMessage, len(c.base.Flags))
	decided := map[string]bool{}
	if !c.entry {
		c.ranked = ranked(c.states)
		for _, s := range c.ranked {
			for _, feature := range s.rules.Features {
				decided[feature] = true
				for _, d := range c.p.index(s.tree)[feature] {
					if s.state != Archived || c.base.Flags[d.Key] != nil { // told long ago: it goes as flags without an announcement do
						all[d.Key] = c.p.encode(d)
					}
				}
			}
		}
	}
	for key, d := range c.base.Flags {
		switch _, is := all[key]; {
		case is:
		case decided[d.Feature()]:
			all[key] = shut(d).Encode()
		default:
			all[key] = c.p.encode(d)
		}
	}
	return all
}

// ranked gives the states whose definitions are in force, those that others go before first: what is published goes before
// what is armed, and what was decided later before what was decided earlier.
func ranked(states []*channelState) []*channelState {
	in := slices.DeleteFunc(slices.Clone(states), func(s *channelState) bool { return !s.sent })
	published := func(s *channelState) int {
		if s.rec.Outcome == repository.Published {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(in, func(x, y *channelState) int {
		return cmp.Or(cmp.Compare(published(x), published(y)), x.rec.At.Compare(y.rec.At))
	})
	return in
}

// shut gives d without any way to be on.
func shut(d *flags.Definition) *flags.Definition {
	out := *d
	out.Targeting = nil
	if _, ok := d.Variants[d.Off()]; ok {
		out.DefaultVariant = d.Off()
	}
	return &out
}

// index gives a tree's definitions by feature.
func (p *planner) index(t *repository.Tree) map[string][]*flags.Definition {
	index, ok := p.indexes[t]
	if !ok {
		index = map[string][]*flags.Definition{}
		for _, d := range t.Flags {
			if f := d.Feature(); f != "" {
				index[f] = append(index[f], d)
			}
		}
		p.indexes[t] = index
	}
	return index
}
