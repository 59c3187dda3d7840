package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// rollBackOrHalt moves the channel off a head that failed or was quarantined: down to its last good release or, where
// no rollback is possible, to a halt. It reports whether the head moves or waits to move.
func (c *channelPlan) rollBackOrHalt() bool {
	e := c.Effective
	if e == nil {
		return false
	}
	cause, failed := c.headFailure()
	if !failed {
		q := c.planner.findQuarantine(c.Name, e.Release, e.Digest)
		if q == nil || q.FailedIn != "" && q.FailedIn != c.Name {
			return false
		}
		cause = fmt.Sprintf("%s is quarantined: %s", e.Release, q.Why())
		stays := ""
		switch {
		// an unreadable quarantine stops the release that its file is named after, and rolls nothing back
		case q.Digest == "":
			stays = "nothing goes back for that"
		case !c.rollsBackByItself():
			stays = "onFailure is halt, so nothing moves by itself"
		}
		if stays != "" {
			v := channels.Blocked("quarantine", reason.QuarantineStays, cause, stays)
			c.planner.block(v.WithSubject(c.Name, e.Release))
			return false
		}
	}
	target, why := c.findRollbackTarget()
	switch {
	case !c.rollsBackByItself():
		why = "onFailure is halt"
	case e.Kind == Rollback && failed:
		why = "it was a rollback itself"
	case why == "":
		if c.isPushRefused(target.Release) {
			return true
		}
		c.addRollback(target, cause, failed)
		return true
	}
	return c.addHalt(cause, why, failed)
}

func (c *Channel) rollsBackByItself() bool {
	return c.Valid == nil || c.Valid.OnFailure == channels.OnFailureRollback
}

// headFailure reports whether more cells failed the head than its failure budget allows, and why.
func (c *channelPlan) headFailure() (reason string, failed bool) {
	t := c.tally
	if len(t.failed) <= t.failureBudget() {
		return "", false
	}
	return t.describeFailure(), true
}

// describeFailure says in which cells the head failed and why, and in which it stalled.
func (t *tally) describeFailure() string {
	var failed, silent []string
	e := t.channel.Effective
	counts := make(map[string]bool, len(t.failed))
	for _, name := range t.failed {
		counts[name] = true
	}
	for i := range t.cells {
		switch cell := &t.cells[i]; {
		case !counts[t.channel.Cells[i].Name]:
		case cell.outcome == stalled:
			silent = append(silent, t.channel.Cells[i].Name)
		default:
			failed = append(failed, t.channel.Cells[i].Name)
		}
	}
	var parts []string
	if len(failed) > 0 {
		part := fmt.Sprintf("%s failed in %s", e.Release, words.Some(failed, 3))
		if s := t.channel.planner.observed.Cells[failed[0]]; s != nil {
			if why := failureReason(s, e.Digest); why != "" {
				part += ": " + why
			}
		}
		parts = append(parts, part)
	}
	if len(silent) > 0 {
		parts = append(parts, fmt.Sprintf("%s stalled in %s: no result for %s", e.Release, words.Some(silent, 3),
			words.FormatElapsed(t.channel.Valid.Rollout.Stall)))
	}
	return strings.Join(parts, "; ")
}

func failureReason(s *CellState, digest releases.Digest) string {
	for _, f := range slices.Backward(s.Failures) {
		if f.Assignment.Digest == digest {
			return f.Reason
		}
	}
	return s.Message
}

// findRollbackTarget finds the newest finished head of another digest that c may roll back to (R19). why says why there
// is none.
func (c *channelPlan) findRollbackTarget() (target EffectiveHead, why string) {
	e := c.Effective
	finished := map[int64]bool{}
	for i := range c.History {
		h := &c.History[i]
		if c.isFinished(h) {
			finished[h.Sequence] = true
		}
		if h.ReplacedFinished && i > 0 {
			finished[c.History[i-1].Sequence] = true
		}
	}
	why = "there is no earlier release to go back to"
	for _, h := range slices.Backward(c.History) {
		switch v, err := releases.ParseVersion(h.Release); {
		case err != nil || h.Digest == e.Digest || !isBelow(h.Release, c.planner.headVersion(e)):
			continue // the same release, or a newer one that the channel left before
		case c.crossedBarrier(v) != "":
			why = c.crossedBarrier(v) + " is forward-only"
		case c.rollbackObstacle(h.Release, h.Digest) != "":
			why = c.rollbackObstacle(h.Release, h.Digest)
		case !finished[h.Sequence]:
			why = h.Release + " never finished here"
		default:
			return h, ""
		}
	}
	return EffectiveHead{}, why
}

// rollbackObstacle returns why c may not roll back to a release; empty: it may.
func (c *channelPlan) rollbackObstacle(version string, digest releases.Digest) string {
	r := c.planner.desired.Releases[version]
	switch {
	case r == nil || r.Tombstone != nil:
		return version + " is gone from the repository"
	case c.planner.findQuarantine(c.Name, version, digest) != nil:
		return version + " is quarantined"
	case c.Valid != nil && c.Valid.Floor != nil && r.Version.Less(*c.Valid.Floor):
		return fmt.Sprintf("%s is below the floor %s", version, c.Valid.Floor)
	case c.planner.desired.Trust.Binds(c.Name):
		return c.planner.desired.Trust.Obstacle(c.Name, r.Version, digest)
	}
	return ""
}

func (c *channelPlan) addRollback(target EffectiveHead, reason string, failed bool) {
	e := c.Effective
	cause := reason
	if q := c.Request; q != nil && q.Release != "" {
		reason += fmt.Sprintf("; %s's request for %s lapses: ask again", q.By, q.Release)
	}
	c.planner.addAction(Action{
		Kind: Rollback, Channel: c.Name, Release: target.Release, Digest: target.Digest, Commit: target.Commit,
		From: fmt.Sprintf("last good, sequence %d", target.Sequence), Replaces: e.Release,
		Sequence: c.nextSequence(), Reason: reason, Evidence: []string{reason},
		forwardOnly: c.planner.forwardOnlyRelease(target),
	})
	if failed {
		c.addQuarantine(cause)
	}
}

// addQuarantine quarantines the head because it failed here (R21). The release of a rollback is not quarantined: it was
// good here before, so its failure says nothing about other channels.
func (c *channelPlan) addQuarantine(reason string) {
	e := c.Effective
	if !c.rollsBackByItself() || e.Kind == Rollback || c.planner.findQuarantine(c.Name, e.Release, e.Digest) != nil {
		return
	}
	c.planner.addAction(Action{
		Kind: Quarantine, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason,
		Evidence: []string{reason}, Channels: c.planner.quarantinedChannels(c),
	})
}

// quarantinedChannels returns the channels that a quarantine of c's head names: c, and all others but those that have
// or had the release as a finished head (R49). None: all channels.
func (p *planner) quarantinedChannels(c *channelPlan) []string {
	e, names := c.Effective, []string{}
	for _, q := range p.desired.Quarantine { // the file may be there, for other channels
		if q.Release == e.Release {
			names = append(names, q.Channels...)
		}
	}
	for name, other := range p.channels {
		if slices.Contains(names, name) {
			continue
		}
		if other == c || !slices.ContainsFunc(other.History, func(h EffectiveHead) bool {
			return h.Digest == e.Digest && other.isFinished(&h)
		}) {
			names = append(names, name)
		}
	}
	if len(names) == len(p.channels) {
		return nil
	}
	slices.Sort(names)
	return names
}

// addHalt stops the channel at its head with a hold that a person must lift. A head is halted only once. It reports
// whether the halt is added or waits to be pushed.
func (c *channelPlan) addHalt(reason, why string, failed bool) bool {
	e := c.Effective
	if slices.Contains(c.Halted, e.Sequence) {
		return false // halted before: the hold blocks, or a person lifted it
	}
	if c.isPushRefused(e.Release) {
		return true
	}
	reason = fmt.Sprintf("%s; no way back: %s", reason, why)
	c.planner.addAction(Action{
		Kind: Halt, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason, Evidence: []string{reason},
	})
	if failed {
		c.addQuarantine(reason)
	}
	return true
}

// haltFileName returns the file name of the hold that a halt leaves; each head has its own.
func haltFileName(sequence int64) string { return fmt.Sprintf("halt-%d.yaml", sequence) }

// IsHalted reports whether a halt holds the channel at its head.
func (c *Channel) IsHalted() bool {
	return c.Effective != nil && slices.ContainsFunc(c.Holds, func(h channels.Hold) bool {
		sequence, ok := parseHaltFileName(path.Base(h.File))
		return ok && sequence == c.Effective.Sequence
	})
}

func parseHaltFileName(file string) (sequence int64, ok bool) {
	n, err := fmt.Sscanf(file, "halt-%d.yaml", &sequence)
	return sequence, n == 1 && err == nil && file == haltFileName(sequence)
}

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
