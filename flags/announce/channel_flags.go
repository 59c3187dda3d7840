package announce

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// channelFlags returns the definitions of a channel (R42): for features with a record from the approved commit, for all
// others from the channel's base. A flag that claims a recorded feature but was not approved with it is shut.
func (c *channel) channelFlags() map[string]json.RawMessage {
	all := make(map[string]json.RawMessage, len(c.baseTree.Flags))
	decided := map[string]bool{}
	if !c.entry {
		c.precedence = byPrecedence(c.states)
		for _, s := range c.precedence {
			for _, feature := range s.rules.Features {
				decided[feature] = true
				for _, d := range c.planner.flagsByFeature(s.tree)[feature] {
					// archived: removed flags leave as flags without an announcement do
					if s.state != Archived || c.baseTree.Flags[d.Key] != nil {
						all[d.Key] = c.planner.encodeDefinition(d)
					}
				}
			}
		}
	}
	for key, d := range c.baseTree.Flags {
		switch _, ok := all[key]; {
		case ok:
		case decided[d.Feature()]:
			all[key] = d.Shut().Encode()
		default:
			all[key] = c.planner.encodeDefinition(d)
		}
	}
	return all
}

// byPrecedence returns the states whose definitions are in force, lowest precedence first: published goes over armed,
// and later records go over earlier ones.
func byPrecedence(states []*channelState) []*channelState {
	in := slices.DeleteFunc(slices.Clone(states), func(s *channelState) bool { return !s.sent })
	published := func(s *channelState) int {
		if s.record.Outcome == repository.Published {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(in, func(x, y *channelState) int {
		return cmp.Or(cmp.Compare(published(x), published(y)), x.record.At.Compare(y.record.At))
	})
	return in
}

// flagsByFeature returns a tree's definitions by feature.
func (p *planner) flagsByFeature(t *repository.Tree) map[string][]*flags.Definition {
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
