package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/releases"
)

// barrier is the greatest forward-only release in a channel's past: no move crosses downward over it (R20).
type barrier struct {
	version releases.Version
	none    bool
}

// barrier finds c's. What its decisions recorded counts, whatever has become of the releases since: one may be pruned,
// or was skipped on the way up.
func (c *channelPlan) barrier() barrier {
	if c.floor != nil {
		return *c.floor
	}
	b := barrier{none: true}
	for i := range c.History {
		h := &c.History[i]
		for _, name := range []string{h.Forward, c.p.own(*h)} {
			if v, err := releases.ParseVersion(name); err == nil && (b.none || b.version.Less(v)) {
				b = barrier{version: v}
			}
		}
	}
	c.floor = &b
	return b
}

// crosses names the forward-only release that a move of c, or of a cell from c, down to a version would go back over;
// empty: none.
func (c *channelPlan) crosses(to releases.Version) string {
	if b := c.barrier(); !b.none && to.Less(b.version) {
		return b.version.String()
	}
	return ""
}

// own names h's release if it is forward-only itself.
func (p *planner) own(h EffectiveHead) string {
	if forwardOnly(p.d, &h) {
		return h.Release
	}
	return ""
}

func forwardOnly(d *Desired, h *EffectiveHead) bool {
	if h.Forward == h.Release {
		return true
	}
	r := d.Releases[h.Release]
	return r != nil && r.ForwardOnly()
}

// forwardUpTo names the greatest forward-only release above c's head, up to r: r may rest on its migration even if c
// never ran it.
func (c *channelPlan) forwardUpTo(r *Release) string {
	for _, x := range slices.Backward(c.p.d.Versions) {
		if r.Version.Less(x.Version) {
			continue
		}
		if c.Effective != nil && !below(c.Effective.Release, x.Version) || c.Effective == nil && x != r {
			return ""
		}
		if x.ForwardOnly() {
			return x.Version.String()
		}
	}
	return ""
}

// versionOf is a head's version; zero if it has none.
func (p *planner) versionOf(h *EffectiveHead) releases.Version { return p.version(h.Release) }

// version is what a text says; zero if that is no version. Many cells say the same.
func (p *planner) version(text string) releases.Version {
	if r := p.d.Releases[text]; r != nil {
		return r.Version
	}
	v, known := p.versions[text]
	if !known {
		v, _ = releases.ParseVersion(text) // zero with an error
		p.versions[text] = v
	}
	return v
}
