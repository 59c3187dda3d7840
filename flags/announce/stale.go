package announce

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// StaleFlag is a flag that decides nothing any more: the next release can drop it from its code, and then it can be removed.
type StaleFlag struct {
	Key     string `json:"key"`
	Feature string `json:"feature,omitempty"` // empty: the flag is not gated
	Variant string `json:"variant"`           // what it always is
	Since   string `json:"since,omitempty"`   // the oldest release in support: it and all later ones contain the feature, so the next can drop the flag's code
	File    string `json:"file"`
	Line    int    `json:"line"`
}

// Stale gives, by key, the flags that have the same variant for everybody everywhere: gated ones that are announced to all at
// 100 % in every channel, and that no release in support lacks; and such as were never more than a constant.
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
			if d.DefaultVariant == d.Off() || len(in.Releases) == 0 || slices.ContainsFunc(in.Releases, lacks) || !p.isOnEverywhere(flag.Feature) {
				continue
			}
			flag.Since = in.Releases[0].Version
		}
		stale = append(stale, flag)
	}
	slices.SortFunc(stale, func(a, b StaleFlag) int { return cmp.Compare(a.Key, b.Key) })
	return stale
}

// isConstant reports whether a flag has the same variant for everybody, in every channel, by a definition that all have.
func (p *planner) isConstant(d *flags.Definition) bool {
	if d.Disabled || len(d.Targeting) > 0 || d.DefaultVariant == "" || slices.ContainsFunc(p.kills, func(k repository.Override) bool { return k.Flag == d.Key }) {
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

// definition gives the definition that a channel with an upstream has of a flag; nil: none.
func (c *channel) definition(key string) *flags.Definition {
	had := c.baseTree.Flags[key]
	for _, s := range c.precedence {
		if d := s.tree.Flags[key]; d != nil && slices.Contains(s.rules.Features, d.Feature()) {
			had = d
		}
	}
	return had
}

// isOnEverywhere reports whether every cell of every channel has a feature for everybody.
func (p *planner) isOnEverywhere(feature string) bool {
	for _, c := range p.channels {
		all := slices.ContainsFunc(c.states, func(s *channelState) bool {
			return s.isPublished() && s.counts.percent >= 100 && s.reach.isWholeChannel() && len(s.holds) == 0 && slices.Contains(s.rules.Features, feature)
		})
		if !all {
			return false
		}
	}
	return len(p.channels) > 0
}
