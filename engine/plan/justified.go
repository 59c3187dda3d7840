package plan

import (
	"io/fs"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// isJustified reports whether d can be what the engine decided, whoever signed it (R46): its release's commit is one that the
// history has for it, and its verdicts are those of the policy in force at its base.
func (h *History) isJustified(d Decision, open func(string) (fs.FS, error), cache *manifest.Cache) bool {
	return h.namesOrigin(d) && d.isComplete(h.policyAt(d, open, cache))
}

// namesOrigin reports whether d's commit is where the history has the release: the commit that brought it, the base, or that of
// an earlier head.
func (h *History) namesOrigin(d Decision) bool {
	if o := h.Releases[d.Release]; o == nil || o.Commit == d.Commit || d.Commit == d.Base {
		return o != nil
	}
	for _, past := range h.Channels {
		if slices.ContainsFunc(past.Heads, func(e EffectiveHead) bool { return e.Release == d.Release && e.Commit == d.Commit }) {
			return true
		}
	}
	return false
}

// policyAt returns the policy that d was decided by, its base's or the newest valid one before; nil: it can't be read any more.
func (h *History) policyAt(d Decision, open func(string) (fs.FS, error), cache *manifest.Cache) *channels.Channel {
	for _, commit := range slices.Backward(append(slices.Clone(h.pastChannel(d.Channel).Policies), d.Base)) {
		files, err := open(commit)
		if err != nil {
			return nil
		}
		if policy, _ := channels.ParsePolicy(cache, files, d.Channel); policy != nil {
			return policy
		}
	}
	return nil
}

// isComplete reports whether d has a verdict that holds for every gate of the policy that it had to pass.
func (d Decision) isComplete(policy *channels.Channel) bool {
	holds := func(gate string) bool {
		return slices.ContainsFunc(d.Verdicts, func(e Evidence) bool { return e.Gate == gate })
	}
	switch {
	case slices.ContainsFunc(d.Verdicts, func(e Evidence) bool { return !e.Holds }):
		return false
	case d.Kind != Promote, policy == nil:
		return true
	case holds("people"):
		return policy.People == channels.PeopleFree && d.Requested != ""
	case policy.Promote == channels.PromoteManual && d.Requested == "" && !d.Hotfix:
		return false
	case !d.Hotfix && len(policy.After) > 0 && !holds(upstreamGateID(policy)):
		return false
	}
	for _, g := range policy.Gates {
		if g.Soak == nil && !(d.Hotfix && g.Window != nil) && !holds(g.ID) {
			return false
		}
	}
	return true
}
