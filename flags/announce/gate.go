package announce

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

func gatesOf(c *cell, all, some []*standing) []flags.Gate {
	gates := make([]flags.Gate, 0, len(all))
	for _, s := range all {
		gates = append(gates, s.gate())
	}
	for _, s := range some {
		if s.reaches(c) {
			gates = append(gates, s.gate())
		}
	}
	slices.SortFunc(gates, func(x, y flags.Gate) int { return cmp.Compare(x.ID, y.ID) })
	return gates
}

// gate is the announcement as a cell needs it.
func (s *standing) gate() flags.Gate {
	g := flags.Gate{ID: s.a.id, Features: sorted(s.rules.Features), By: s.rules.Ramp.By, Embargo: s.rules.Embargo}
	if !s.at.IsZero() {
		g.At = flags.Instant(s.at)
	}
	for _, step := range s.rules.Ramp.Steps {
		g.Steps = append(g.Steps, flags.GateStep{Percent: step.Percent, After: int64(time.Duration(step.After) / time.Second)})
	}
	return g
}

// hidden gives the features of announcements under embargo that c was not told yet (R45): in a channel that they are not for,
// nobody was told while no other channel was.
func (p *planner) hidden(c *channel) []string {
	features := map[string]bool{}
	for _, a := range p.announcements {
		if a.tip == nil || !a.tip.Embargo || a.out(c) {
			continue
		}
		for _, f := range a.tip.Features {
			features[f] = true
		}
	}
	return slices.Sorted(maps.Keys(features))
}

// out tells whether an announcement is published in c or, where it is not for c, anywhere.
func (a *announcement) out(c *channel) bool {
	anywhere := false
	for _, s := range a.standings {
		out := s.state == Publishing || s.state == Retracted || s.state == Archived && s.sent
		if s.c == c && s.state != "" {
			return out
		}
		anywhere = anywhere || out && !s.c.entry
	}
	return anywhere
}

// without gives the features that have no gate.
func without(features []string, gates []flags.Gate) (left []string) {
	gated := map[string]bool{}
	for _, g := range gates {
		for _, f := range g.Features {
			gated[f] = true
		}
	}
	for _, f := range features {
		if !gated[f] {
			left = append(left, f)
		}
	}
	return left
}

func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }
