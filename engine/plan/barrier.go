package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/releases"
)

// barrier is the greatest forward-only release in a channel's past. No rollback crosses it (R20).
type barrier struct {
	version releases.Version
	none    bool
}

// findBarrier returns c's barrier. What decisions recorded counts, whatever became of the releases since: a
// forward-only release may have been pruned, or skipped on the way up.
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

// crossedBarrier returns the forward-only release that a move of c, or of a cell from c, down to a version would cross;
// empty: none.
func (c *channelPlan) crossedBarrier(to releases.Version) string {
	if b := c.findBarrier(); !b.none && to.Less(b.version) {
		return b.version.String()
	}
	return ""
}

// forwardOnlyRelease returns h's release if it is forward-only, else an empty string.
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
	return r != nil && r.IsForwardOnly()
}

// forwardOnlyUpTo returns the greatest forward-only release above c's head, up to r; empty: none. r may depend on that
// release's migration even if c never ran it.
func (c *channelPlan) forwardOnlyUpTo(r *Release) string {
	for _, x := range slices.Backward(c.planner.desired.Versions) {
		if r.Version.Less(x.Version) {
			continue
		}
		if c.Effective != nil && !isBelow(c.Effective.Release, x.Version) || c.Effective == nil && x != r {
			return ""
		}
		if x.IsForwardOnly() {
			return x.Version.String()
		}
	}
	return ""
}

// headVersion returns a head's version; zero: it has none.
func (p *planner) headVersion(h *EffectiveHead) releases.Version { return p.parseVersion(h.Release) }

// parseVersion returns the version that a text names; zero: the text is no version. It caches results, since many cells
// report the same release.
func (p *planner) parseVersion(text string) releases.Version {
	if r := p.desired.Releases[text]; r != nil {
		return r.Version
	}
	v, known := p.versions[text]
	if !known {
		v, _ = releases.ParseVersion(text) // zero on error
		p.versions[text] = v
	}
	return v
}
