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

// findBarrier finds c's. What its decisions recorded counts, whatever has become of the releases since: one may be pruned,
// or was skipped on the way up.
func (c *channelPlan) findBarrier() barrier {
	if c.barrier != nil {
		return *c.barrier
	}
	b := barrier{none: true}
	for i := range c.History {
		h := &c.History[i]
		for _, name := range []string{h.Forward, c.planner.forwardOnlyRelease(*h)} {
			if v, err := releases.ParseVersion(name); err == nil && (b.none || b.version.Less(v)) {
				b = barrier{version: v}
			}
		}
	}
	c.barrier = &b
	return b
}

// crossedBarrier names the forward-only release that a move of c, or of a cell from c, down to a version would go back over;
// empty: none.
func (c *channelPlan) crossedBarrier(to releases.Version) string {
	if b := c.findBarrier(); !b.none && to.Less(b.version) {
		return b.version.String()
	}
	return ""
}

// forwardOnlyRelease names h's release if it is forward-only itself.
func (p *planner) forwardOnlyRelease(h EffectiveHead) string {
	if isForwardOnly(p.desired, &h) {
		return h.Release
	}
	return ""
}

func isForwardOnly(d *Desired, h *EffectiveHead) bool {
	if h.Forward == h.Release {
		return true
	}
	r := d.Releases[h.Release]
	return r != nil && r.ForwardOnly()
}

// forwardOnlyUpTo names the greatest forward-only release above c's head, up to r: r may rest on its migration even if c
// never ran it.
func (c *channelPlan) forwardOnlyUpTo(r *Release) string {
	for _, x := range slices.Backward(c.planner.desired.Versions) {
		if r.Version.Less(x.Version) {
			continue
		}
		if c.Effective != nil && !isBelow(c.Effective.Release, x.Version) || c.Effective == nil && x != r {
			return ""
		}
		if x.ForwardOnly() {
			return x.Version.String()
		}
	}
	return ""
}

// headVersion is a head's version; zero if it has none.
func (p *planner) headVersion(h *EffectiveHead) releases.Version { return p.parseVersion(h.Release) }

// parseVersion is what a text says; zero if that is no version. Many cells say the same.
func (p *planner) parseVersion(text string) releases.Version {
	if r := p.desired.Releases[text]; r != nil {
		return r.Version
	}
	v, known := p.versions[text]
	if !known {
		v, _ = releases.ParseVersion(text) // zero with an error
		p.versions[text] = v
	}
	return v
}
