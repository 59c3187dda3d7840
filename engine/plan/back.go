package plan

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// back moves a channel off a head that failed or was quarantined: to its last good release, or, where
// there is no way back, to a halt. It tells whether the head moves, or waits to.
func (p *planner) back(c *Channel) bool {
	e := c.Effective
	if e == nil {
		return false
	}
	reason, failed := p.failure(c)
	if !failed {
		q := p.quarantined(c.Name, e.Release, e.Digest)
		if q == nil || q.FailedIn != "" && q.FailedIn != c.Name {
			return false
		}
		reason = fmt.Sprintf("%s is quarantined: %s", e.Release, q.Reason)
		stays := ""
		switch {
		case q.Digest == "": // it can't be read: it stops what it is named after, and says nothing of going back
			stays = "nothing goes back for that"
		case !p.automatic(c):
			stays = "onFailure is halt, so nothing moves by itself"
		}
		if stays != "" {
			p.block(channels.Verdict{Channel: c.Name, Release: e.Release, Gate: "quarantine", Reason: reason + "; " + stays})
			return false
		}
	}
	target, why := p.target(c)
	switch {
	case !p.automatic(c):
		why = "onFailure is halt"
	case e.Kind == Rollback && failed:
		why = "it was a rollback itself"
	case why == "":
		if p.refused(c, target.Release) {
			return true
		}
		p.rollback(c, target, reason, failed)
		return true
	}
	return p.halt(c, reason, why, failed)
}

// restate writes the head anew where cells were granted what the branch has lost, under a sequence that is not below the
// head's: they would refuse it (R2, R5). It tells whether the head moves, or waits to.
func (p *planner) restate(c *Channel, needy []need) bool {
	e := c.Effective
	i := slices.IndexFunc(needy, func(n need) bool {
		g := n.state.Granted
		return g != nil && g.Channel == c.Name && (g.Sequence > e.Sequence && g.Sequence <= e.Sequence+MaxAhead || g.Sequence == e.Sequence && g.Digest != e.Digest)
	})
	if i < 0 {
		return false
	}
	if p.refused(c, e.Release) {
		return true
	}
	g := needy[i].state.Granted
	reason := fmt.Sprintf("the branch has lost sequence %d, under which %s was granted %s", g.Sequence, needy[i].cell.Name, g.Release)
	p.act(Action{
		Kind: Rollback, Channel: c.Name, Release: e.Release, Digest: e.Digest, Commit: e.Commit, forward: p.own(*e),
		From: fmt.Sprintf("the branch as it is, sequence %d", e.Sequence), Replaces: e.Release, Sequence: p.sequence(c),
		Reason: reason, Evidence: []string{reason}, Finished: p.done(c.Name, e),
	})
	return true
}

// automatic tells whether c goes back by itself.
func (p *planner) automatic(c *Channel) bool {
	return c.Valid == nil || c.Valid.OnFailure == channels.OnFailureRollback
}

// failure tells whether the head spent its failure budget.
func (p *planner) failure(c *Channel) (reason string, failed bool) {
	t := p.tallies[c.Name]
	if len(t.failed) <= p.budget(c) {
		return "", false
	}
	reason = fmt.Sprintf("%s failed in %s", c.Effective.Release, names(t.failed))
	if s := p.o.Cells[t.failed[0]]; s != nil {
		if why := failureOf(s, c.Effective.Digest); why != "" {
			reason += ": " + why
		}
	}
	return reason, true
}

func failureOf(s *CellState, digest releases.Digest) string {
	for _, f := range slices.Backward(s.Failures) {
		if f.Assignment.Digest == digest {
			return f.Reason
		}
	}
	return s.Message
}

// target finds the newest finished head of another digest that c may go back to (R19). why says why there is none.
func (p *planner) target(c *Channel) (target EffectiveHead, why string) {
	e := c.Effective
	finished := map[int64]bool{}
	for i := range c.History {
		h := &c.History[i]
		if p.done(c.Name, h) {
			finished[h.Sequence] = true
		}
		if h.ReplacedFinished && i > 0 {
			finished[c.History[i-1].Sequence] = true
		}
	}
	why = "there is no earlier release to go back to"
	for _, h := range slices.Backward(c.History) {
		switch v, err := releases.ParseVersion(h.Release); {
		case err != nil || h.Digest == e.Digest || !p.below(h.Release, p.versionOf(e)):
			continue // the same, or newer: somebody moved away from it
		case p.crosses(c, v) != "":
			why = p.crosses(c, v) + " is forward-only"
		case p.unfit(c, h.Release, h.Digest) != "":
			why = p.unfit(c, h.Release, h.Digest)
		case !finished[h.Sequence]:
			why = h.Release + " never finished here"
		default:
			return h, ""
		}
	}
	return EffectiveHead{}, why
}

// unfit says why c may not be moved down to a release; empty: it may.
func (p *planner) unfit(c *Channel, version string, digest releases.Digest) string {
	r := p.d.Releases[version]
	switch {
	case r == nil || r.Tombstone != nil:
		return version + " is gone from the repository"
	case p.quarantined(c.Name, version, digest) != nil:
		return version + " is quarantined"
	case c.Valid != nil && c.Valid.Floor != nil && r.Version.Less(*c.Valid.Floor):
		return fmt.Sprintf("%s is below the floor %s", version, c.Valid.Floor)
	}
	return ""
}

func (p *planner) rollback(c *Channel, target EffectiveHead, reason string, failed bool) {
	e := c.Effective
	why := reason
	if q := c.Request; q != nil && q.Release != "" {
		reason += fmt.Sprintf("; %s's request for %s lapses: ask again", q.By, q.Release)
	}
	p.act(Action{
		Kind: Rollback, Channel: c.Name, Release: target.Release, Digest: target.Digest, Commit: target.Commit, forward: p.own(target),
		From: "last good, sequence " + fmt.Sprint(target.Sequence), Replaces: e.Release, Sequence: p.sequence(c),
		Reason: reason, Evidence: []string{reason},
	})
	if failed {
		p.quarantine(c, why)
	}
}

// quarantine stops c's head everywhere, because it failed here (R21). What a rollback went to was good here before: that
// it fails now says nothing of it elsewhere.
func (p *planner) quarantine(c *Channel, reason string) {
	e := c.Effective
	if !p.automatic(c) || e.Kind == Rollback || p.quarantined(c.Name, e.Release, e.Digest) != nil {
		return
	}
	p.act(Action{Kind: Quarantines, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason, Evidence: []string{reason}})
}

// halt stops c where it is, once: the hold that it leaves is for a person to lift. It tells whether there is something to do.
func (p *planner) halt(c *Channel, reason, why string, failed bool) bool {
	e := c.Effective
	if slices.Contains(c.Halted, e.Sequence) {
		return false // the hold says the rest; lifted, it was a person's word to go on
	}
	if p.refused(c, e.Release) {
		return true
	}
	reason = fmt.Sprintf("%s; no way back: %s", reason, why)
	p.act(Action{Kind: Halt, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason, Evidence: []string{reason}})
	if failed {
		p.quarantine(c, reason)
	}
	return true
}

// haltFile is the name of the hold that a halt leaves, one for each head.
func haltFile(sequence int64) string { return fmt.Sprintf("halt-%d.yaml", sequence) }

func haltSequence(file string) (sequence int64, ok bool) {
	n, err := fmt.Sscanf(file, "halt-%d.yaml", &sequence)
	return sequence, n == 1 && err == nil && file == haltFile(sequence)
}
