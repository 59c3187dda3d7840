package announce

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags"
)

// findOn returns, by feature, the announcements whose time has come in the channel and that cells receive: an archived
// one keeps its features on.
func (c *channel) findOn() map[string][]*channelState {
	if c.on != nil {
		return c.on
	}
	c.on = map[string][]*channelState{}
	for _, s := range c.states {
		if !s.sent || s.rules == nil || !s.at.IsZero() && !c.planner.isDue(s.at) {
			continue
		}
		if g := s.buildGate(); g.Percent(flags.Instant(c.planner.now)) == 0 {
			continue
		}
		for _, feature := range s.rules.Features {
			c.on[feature] = append(c.on[feature], s)
		}
	}
	return c.on
}

// countAlreadyOn returns how many of the cells that will have the announcement's features have all of them by now, and
// which other announcements turned them on.
func (s *channelState) countAlreadyOn() (n int, by []string) {
	on := s.channel.findOn()
	if slices.ContainsFunc(s.rules.Features, func(f string) bool { return len(on[f]) == 0 }) {
		return 0, nil
	}
	for _, c := range s.channel.cells {
		if state, _, ok := s.inCell(c).cellState(); !ok || !countsAsOn(state) {
			continue
		}
		var others []string
		for _, feature := range s.rules.Features {
			i := slices.IndexFunc(on[feature], func(o *channelState) bool {
				return o != s && o.reaches(c) && o.contained[c.featureSet]
			})
			if i < 0 {
				others = nil
				break
			}
			others = append(others, on[feature][i].announcement.id)
		}
		if len(others) > 0 {
			n++
			by = append(by, others...)
		}
	}
	slices.Sort(by)
	return n, slices.Compact(by)
}

// describeStart says what the time will change in the cells that will have the announcement's features.
func (s *channelState) describeStart() string {
	will := "will light up " + s.describeTime()
	n, by := s.countAlreadyOn()
	names := strings.Join(by, " and ")
	switch {
	case n == 0:
		return will
	case n == s.counts.withIt:
		return choosePlural(n, "has", "have") + " it already, by " + names + ", whatever happens " + s.describeTime()
	}
	return fmt.Sprintf("%s, though %d of them %s it already, by %s", will, n, choosePlural(n, "has", "have"), names)
}
