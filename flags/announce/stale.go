package announce

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// StaleFlag is a flag that decides nothing any more: the next release can drop the flag from its code, and then the
// definition can be removed.
type StaleFlag struct {
	Key     string `json:"key"`
	Feature string `json:"feature,omitempty"` // empty: the flag is not gated
	Variant string `json:"variant"`           // the constant variant
	// the oldest supported release: from there on all releases contain the feature, so that the next one can drop the
	// flag's code
	Since string `json:"since,omitempty"`
	File  string `json:"file"`
	Line  int    `json:"line"`
}

// Stale returns, by key, the flags that have the same variant for all users everywhere: gated flags that are at 100 %
// in every channel and whose feature every supported release contains, and ungated constants.
func Stale(in Input) (stale []StaleFlag) {
	if in.Tip == nil {
		return nil
	}
	plan := Make(in)
	p := plan.planner
	for _, d := range in.Tip.Flags {
		if !p.isConstant(d) {
			continue
		}
		flag := StaleFlag{Key: d.Key, Feature: d.Feature(), Variant: d.DefaultVariant, File: d.File, Line: d.Line}
		if flag.Feature != "" {
			lacks := func(r Release) bool { return !slices.Contains(r.Features, flag.Feature) }
			if d.DefaultVariant == d.Off() || len(in.Releases) == 0 || slices.ContainsFunc(in.Releases, lacks) ||
				!p.isOnEverywhere(flag.Feature) {
				continue
			}
			flag.Since = in.Releases[0].Version
		}
		stale = append(stale, flag)
	}
	slices.SortFunc(stale, func(a, b StaleFlag) int { return cmp.Compare(a.Key, b.Key) })
	return stale
}

// isConstant reports whether a flag has the same variant for all users in every channel, by a definition that all
// channels have.
func (p *planner) isConstant(d *flags.Definition) bool {
	if d.Disabled || len(d.Targeting) > 0 || d.DefaultVariant == "" ||
		slices.ContainsFunc(p.kills, func(k repository.Override) bool { return k.Flag == d.Key }) {
		return false
	}
	for _, c := range p.channels {
		if c.entry {
			continue
		}
		if had := c.definition(d.Key); had == nil || !bytes.Equal(p.encodeDefinition(had), p.encodeDefinition(d)) {
			return false
		}
	}
	return true
}

// definition returns a flag's definition in a channel with an upstream; nil: none.
func (c *channel) definition(key string) *flags.Definition {
	had := c.baseTree.Flags[key]
	for _, s := range c.precedence {
		if d := s.tree.Flags[key]; d != nil && slices.Contains(s.rules.Features, d.Feature()) {
			had = d
		}
	}
	return had
}

// isOnEverywhere reports whether every cell of every channel has a feature for all users.
func (p *planner) isOnEverywhere(feature string) bool {
	for _, c := range p.channels {
		all := slices.ContainsFunc(c.states, func(s *channelState) bool {
			return s.isPublished() && s.counts.percent >= 100 && s.reach.isWholeChannel() && len(s.holds) == 0 &&
				slices.Contains(s.rules.Features, feature)
		})
		if !all {
			return false
		}
	}
	return len(p.channels) > 0
}
