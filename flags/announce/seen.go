package announce

import (
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
)

// Published gives the features that are published, sorted, by channel: what gates see. In an entry channel, that is all whose
// time has come. What was edited since and not approved does not show.
func (p *Plan) Published() map[string][]string {
	all := map[string][]string{}
	if p.p == nil {
		return all
	}
	for _, c := range p.p.channels {
		features := map[string]bool{}
		for _, s := range c.standings {
			if !s.published() {
				continue
			}
			for _, f := range s.rules.Features {
				features[f] = true
			}
		}
		if len(features) > 0 {
			all[c.Name] = slices.Sorted(maps.Keys(features))
		}
	}
	return all
}

// published tells whether s is on record as published and in force or, in an entry channel, in force and due.
func (s *standing) published() bool {
	return s.sent && s.tally.due && (s.c.entry || s.rec.Outcome == repository.Published)
}
