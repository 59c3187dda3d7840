package announce

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// gatesOf gives the gates of a cell, by ID, as told is.
func gatesOf(c *cell, told []*channelState) []flags.Gate {
	gates := make([]flags.Gate, 0, len(told))
	for _, s := range told {
		if s.reaches(c) {
			gates = append(gates, s.gate())
		}
	}
	return gates
}

// gate is the announcement as a cell needs it.
func (s *channelState) gate() flags.Gate {
	g := flags.Gate{ID: s.a.id, Features: slices.Compact(slices.Sorted(slices.Values(s.rules.Features))), By: s.rules.Ramp.By, Embargo: s.rules.Embargo}
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
func (c *channel) hidden() []string {
	features := map[string]bool{}
	for _, a := range c.p.announcements {
		if a.tip != nil && a.tip.Embargo && !a.out(c) {
			add(features, a.tip.Features)
		}
	}
	return slices.Sorted(maps.Keys(features))
}

// out reports whether an announcement is published in c or, where it is not for c, anywhere.
func (a *announcement) out(c *channel) bool {
	anywhere := false
	for _, s := range a.states {
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
		add(gated, g.Features)
	}
	for _, f := range features {
		if !gated[f] {
			left = append(left, f)
		}
	}
	return left
}
