package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// hotfix gives the open lane of r into c, if there is one (R17).
func (c *channelPlan) hotfix(r *Release) *channels.Hotfix {
	return c.lane(r.Version.String(), r.Digest)
}

// lane gives c's open lane for a release: one that is neither closed nor past its expiry.
func (c *channelPlan) lane(release string, digest releases.Digest) *channels.Hotfix {
	for i := range c.Hotfixes {
		if h := &c.Hotfixes[i]; h.Release == release && h.Digest == digest && c.p.open(h) {
			return h
		}
	}
	return nil
}

func (p *planner) open(h *channels.Hotfix) bool {
	p.at(h.Expiry)
	return h.Closed == "" && p.now.Before(h.Expiry)
}

// deadLanes adds a verdict for each open lane that leads nowhere.
func (c *channelPlan) deadLanes() {
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if !c.p.open(h) || slices.ContainsFunc(c.History, func(e EffectiveHead) bool { return e.Release == h.Release }) {
			continue
		}
		var v channels.Verdict
		switch r := c.p.d.Releases[h.Release]; {
		case r == nil || r.Loaded && r.Digest != h.Digest:
			v = channels.Blocked("hotfix", reason.HotfixMissing, h.File, h.Release, h.Digest)
		case c.Effective != nil && !below(c.Effective.Release, r.Version):
			v = channels.Blocked("hotfix", reason.HotfixBelow, h.Release, c.Effective.Release)
		default:
			continue
		}
		c.p.block(v.About(c.Name, h.Release))
	}
}

// debt is what h's fixes demand of r and r lacks. It binds once the channel took h's release, until it went back below.
func (c *channelPlan) debt(h *channels.Hotfix, r *Release) []string {
	if h.Closed != "" || h.Release == r.Version.String() {
		return nil
	}
	fixed, err := releases.ParseVersion(h.Release)
	if err != nil {
		return nil
	}
	binds := false
	for _, e := range slices.Backward(c.History) {
		if binds = e.Release == h.Release; binds || e.Kind == Rollback && below(e.Release, fixed) {
			break
		}
	}
	if !binds {
		return nil
	}
	var missing []string
	for _, fix := range h.Fixes {
		if !slices.Contains(r.Fixes, fix) {
			missing = append(missing, fix)
		}
	}
	return missing
}
