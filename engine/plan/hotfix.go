package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// openHotfixFor returns the open hotfix of r into c; nil: none (R17).
func (c *channelPlan) openHotfixFor(r *Release) *channels.Hotfix {
	return c.openHotfix(r.Version.String(), r.Digest)
}

// openHotfix returns c's open hotfix of a release, neither closed nor expired; nil: none.
func (c *channelPlan) openHotfix(release string, digest releases.Digest) *channels.Hotfix {
	for i := range c.Hotfixes {
		if h := &c.Hotfixes[i]; h.Release == release && h.Digest == digest && c.planner.isHotfixOpen(h) {
			return h
		}
	}
	return nil
}

func (p *planner) isHotfixOpen(h *channels.Hotfix) bool {
	p.replanAt(h.Expiry)
	return h.Closed == "" && p.now.Before(h.Expiry)
}

// blockDeadHotfixes adds a verdict for each open hotfix that can have no effect.
func (c *channelPlan) blockDeadHotfixes() {
	for i := range c.Hotfixes {
		h := &c.Hotfixes[i]
		if !c.planner.isHotfixOpen(h) ||
			slices.ContainsFunc(c.History, func(e EffectiveHead) bool { return e.Release == h.Release }) {
			continue
		}
		var v channels.Verdict
		switch r := c.planner.desired.Releases[h.Release]; {
		case r == nil || r.Loaded && r.Digest != h.Digest:
			v = channels.Blocked("hotfix", reason.HotfixMissing, h.File, h.Release, h.Digest)
		case c.Effective != nil && !isBelow(c.Effective.Release, r.Version):
			v = channels.Blocked("hotfix", reason.HotfixBelow, h.Release, c.Effective.Release)
		default:
			continue
		}
		c.planner.block(v.WithSubject(c.Name, h.Release))
	}
}

// hotfixDebt returns the fixes that h demands and r lacks. The debt binds from when the channel took h's release until
// it rolled back below that release.
func (c *Channel) hotfixDebt(h *channels.Hotfix, r *Release) []string {
	if h.Closed != "" || h.Release == r.Version.String() {
		return nil
	}
	fixed, err := releases.ParseVersion(h.Release)
	if err != nil {
		return nil
	}
	binds := false
	for _, e := range slices.Backward(c.History) {
		if binds = e.Release == h.Release; binds || e.Kind == Rollback && isBelow(e.Release, fixed) {
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
