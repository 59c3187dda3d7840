package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// whyRelease says what keeps a release from everywhere, and then of each channel where the release is there.
func (v *View) whyRelease(r *plan.Release) (lines []string, about []channels.Verdict) {
	version := r.Version.String()
	for _, b := range v.Plan.Blocked {
		if b.Release == version {
			about = append(about, b)
		}
	}
	first := version
	if r.Digest != "" {
		first += ", digest " + r.Digest.Short()
	}
	if r.Origin != "" {
		first += ", came with commit " + words.ShortCommit(r.Origin)
	}
	lines = append(lines, first)
	if r.Tombstone != nil {
		return append(lines, "it was pruned: no channel takes it, and its version is not used again"), about
	}
	for _, f := range r.Faults {
		if !f.Warning {
			lines = append(lines, "no channel takes it, because it has a fault: "+f.String())
			break
		}
	}
	for _, q := range v.Desired.Quarantine {
		if q.Release != version && (q.Digest == "" || q.Digest != r.Digest) {
			continue
		}
		where := "everywhere"
		if len(q.Channels) > 0 {
			where = "in " + strings.Join(q.Channels, ", ")
		}
		lines = append(lines, fmt.Sprintf("quarantined %s: %s", where, words.OneLine(q.Why())))
	}
	for _, name := range v.Desired.Order {
		c := v.Desired.Channels[name]
		lines = append(lines, v.releaseIn(c, r, about)...)
	}
	return lines, about
}

// releaseIn says where a release is in one channel, or what it waits for. about are the verdicts about the release.
func (v *View) releaseIn(c *plan.Channel, r *plan.Release, about []channels.Verdict) (lines []string) {
	version := r.Version.String()
	add := func(format string, args ...any) {
		lines = append(lines, "  "+c.Name+": "+words.OneLine(fmt.Sprintf(format, args...)))
	}
	var ofChannel []channels.Verdict
	waiting, reasons := map[string][]string{}, map[string][]string{} // cells, and why, by gate
	for _, b := range about {
		switch {
		case b.Channel != c.Name:
		case b.Cell == "":
			ofChannel = append(ofChannel, b)
		default:
			waiting[b.Gate], reasons[b.Gate] = append(waiting[b.Gate], b.Cell), append(reasons[b.Gate], b.Reason)
		}
	}
	if e := c.Effective; e != nil && e.Release == version {
		healthy := 0
		for _, cell := range c.Cells {
			if s := v.Observed.Cells[cell.Name]; s != nil && s.Digest == e.Digest && s.State == cells.StateHealthy {
				healthy++
			}
		}
		add("runs it since %s, sequence %d; %d of %s healthy on it", words.FormatTime(e.Moved), e.Sequence, healthy,
			words.Count(len(c.Cells), "cell"))
	} else if len(ofChannel) == 0 {
		add("%s", v.whereabouts(c, r))
	}
	for _, b := range ofChannel {
		add("%s", b)
	}
	for _, gate := range slices.Sorted(maps.Keys(waiting)) {
		slices.Sort(reasons[gate])
		add("%s keeps it from %s: %s", gate, words.Some(waiting[gate], 3), words.Some(slices.Compact(reasons[gate]), 2))
	}
	return lines
}

// whereabouts says why a release that is not a channel's head has no verdict there.
func (v *View) whereabouts(c *plan.Channel, r *plan.Release) string {
	version := r.Version.String()
	for _, a := range v.Plan.Actions {
		if a.Channel == c.Name && a.Release == version && (a.Kind == plan.Promote || a.Kind == plan.Rollback) {
			return "nothing is blocked: the engine moves the channel to it"
		}
	}
	for _, q := range v.Desired.Quarantine {
		if q.Stops(c.Name, version, r.Digest) {
			return "quarantined here"
		}
	}
	for i, h := range slices.Backward(c.History) {
		if h.Release == version && i+1 < len(c.History) {
			next := c.History[i+1]
			return fmt.Sprintf("had it until %s, and then %s", words.FormatTime(next.Moved), next.Release)
		}
	}
	if e := c.Effective; e != nil {
		if head := v.Desired.Releases[e.Release]; head != nil && r.Version.Less(head.Version) {
			return fmt.Sprintf("runs %s, which is greater, and never had it: it will not go there by itself", e.Release)
		}
	}
	policy := c.Policy
	if policy == nil {
		return "its policy has faults: see sluice validate"
	}
	if r.Version.IsPrerelease() && !policy.Prereleases {
		return "takes no pre-releases"
	}
	if r.Unread {
		return "it is being read"
	}
	if missing := v.upstreamsWithout(policy.After, version); len(missing) > 0 {
		return fmt.Sprintf("takes it after %s, where it is not yet", strings.Join(missing, " and "))
	}
	for _, other := range slices.Backward(v.Desired.Versions) {
		if r.Version.Less(other.Version) && len(other.Faults) == 0 &&
			(policy.Prereleases || !other.Version.IsPrerelease()) &&
			len(v.upstreamsWithout(policy.After, other.Version.String())) == 0 {
			return fmt.Sprintf("%s goes first, which is greater", other.Version)
		}
	}
	return "nothing is blocked: the engine has not looked at it yet"
}

// upstreamsWithout returns those upstream channels that never had a release.
func (v *View) upstreamsWithout(upstreams []string, version string) (missing []string) {
	for _, name := range upstreams {
		up := v.Desired.Channels[name]
		hadIt := func(h plan.EffectiveHead) bool { return h.Release == version }
		if up == nil || !slices.ContainsFunc(up.History, hadIt) {
			missing = append(missing, name)
		}
	}
	return missing
}
