package announce

import (
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/flags"
)

// cellGates returns the gates of a cell, in the order of sent, by ID.
func cellGates(c *cell, told []*channelState) []flags.Gate {
	gates := make([]flags.Gate, 0, len(told))
	for _, s := range told {
		if s.reaches(c) {
			gates = append(gates, s.buildGate())
		}
	}
	return gates
}

// buildGate returns the announcement as a cell needs it.
func (s *channelState) buildGate() flags.Gate {
	g := s.rules.Gate()
	g.ID = s.announcement.id
	if !s.at.IsZero() {
		g.At = flags.Instant(s.at)
	}
	return g
}

// hiddenFeatures returns the features of embargoed announcements that are not revealed in c (R45).
func (c *channel) hiddenFeatures() []string {
	features := map[string]bool{}
	for _, a := range c.planner.announcements {
		if a.tip != nil && a.tip.Embargo && !a.isRevealed(c) {
			addNames(features, a.tip.Features)
		}
	}
	return slices.Sorted(maps.Keys(features))
}

// isRevealed reports whether an announcement is published in c or, if it is not for c, in any channel.
func (a *announcement) isRevealed(c *channel) bool {
	anywhere := false
	for _, s := range a.states {
		out := s.state == Publishing || s.state == Retracted || s.state == Archived && s.sent
		if s.channel == c && s.state != "" {
			return out
		}
		anywhere = anywhere || out && !s.channel.entry
	}
	return anywhere
}

// ungatedFeatures returns the features without a gate.
func ungatedFeatures(features []string, gates []flags.Gate) (left []string) {
	gated := map[string]bool{}
	for _, g := range gates {
		addNames(gated, g.Features)
	}
	for _, f := range features {
		if !gated[f] {
			left = append(left, f)
		}
	}
	return left
}
