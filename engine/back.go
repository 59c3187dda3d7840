package engine

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// back moves a channel off a head that failed or was quarantined: to its last good release, or, where
// there is no way back, to a halt. It tells whether the head moves.
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
	}
	automatic := c.Valid == nil || c.Valid.OnFailure == channels.OnFailureRollback
	target, why := p.target(c)
	switch {
	case !automatic && !failed:
		p.block(channels.Verdict{Channel: c.Name, Release: e.Release, Gate: "quarantine", Reason: reason + "; onFailure is halt, so nothing moves by itself"})
		return false
	case !automatic:
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
	return p.halt(c, reason, why, automatic && failed)
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
		if h.Finished || p.finished[finishKey{c.Name, h.Sequence}] {
			finished[h.Sequence] = true
		}
		if h.ReplacedFinished && i > 0 {
			finished[c.History[i-1].Sequence] = true
		}
	}
	why = "there is no earlier release to go back to"
	for _, h := range slices.Backward(c.History) {
		if h.Digest == e.Digest {
			if r := p.d.Releases[h.Release]; r != nil && r.ForwardOnly() {
				return EffectiveHead{}, h.Release + " is forward-only"
			}
			continue
		}
		if blocked := p.unfit(c, h.Release, h.Digest); blocked != "" {
			why = blocked
		} else if !finished[h.Sequence] {
			why = h.Release + " never finished here"
		} else if crossed := p.crosses(c, h.Release); crossed != "" {
			why = crossed + " is forward-only"
		} else {
			return h, ""
		}
		if r := p.d.Releases[h.Release]; r != nil && r.ForwardOnly() {
			return EffectiveHead{}, h.Release + " is forward-only"
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

// crosses names a forward-only release that a move of c down to version would go back over (R20); empty: none.
func (p *planner) crosses(c *Channel, version string) string {
	to, err := releases.ParseVersion(version)
	if err != nil {
		return ""
	}
	for _, h := range slices.Backward(c.History) {
		r := p.d.Releases[h.Release]
		if r != nil && r.ForwardOnly() && to.Less(r.Version) {
			return h.Release
		}
	}
	return ""
}

func (p *planner) rollback(c *Channel, target EffectiveHead, reason string, failed bool) {
	e := c.Effective
	p.act(Action{
		Kind: Rollback, Channel: c.Name, Release: target.Release, Digest: target.Digest, commit: target.Commit,
		From: "last good, sequence " + fmt.Sprint(target.Sequence), Replaces: e.Release, Sequence: p.sequence(c),
		Reason: reason, Evidence: []string{reason},
	})
	if failed && p.quarantined(c.Name, e.Release, e.Digest) == nil {
		p.quarantine(c, reason)
	}
}

func (p *planner) quarantine(c *Channel, reason string) {
	e := c.Effective
	p.act(Action{Kind: Quarantines, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason, Evidence: []string{reason}})
}

// halt stops c where it is, once: the hold that it leaves is for a person to lift. It tells whether there is something to do.
func (p *planner) halt(c *Channel, reason, why string, quarantine bool) bool {
	e := c.Effective
	if slices.Contains(c.Halted, e.Sequence) {
		return false // the hold says the rest; lifted, it was a person's word to go on
	}
	if p.refused(c, e.Release) {
		return true
	}
	reason = fmt.Sprintf("%s; no way back: %s", reason, why)
	p.act(Action{Kind: Halt, Channel: c.Name, Release: e.Release, Digest: e.Digest, Reason: reason, Evidence: []string{reason}})
	if quarantine && p.quarantined(c.Name, e.Release, e.Digest) == nil {
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

// request answers a person's change of head.yaml (R1): downward it is a rollback and leaves a hold; upward
// the gates decide. It tells whether the head moves, or waits for what was asked.
func (p *planner) request(c *Channel) bool {
	q := c.Request
	if q == nil {
		return false
	}
	answer := func(format string, args ...any) bool {
		p.block(channels.Verdict{Channel: c.Name, Release: q.Release, Gate: "request", Reason: fmt.Sprintf(format, args...)})
		return false
	}
	if q.Fault != "" {
		return answer("%s; the head stays", q.Fault)
	}
	r := p.d.Releases[q.Release]
	if r == nil {
		return answer("%s asks for %s, which is not in the repository", q.By, q.Release)
	}
	if c.Effective == nil || c.Effective.Release != q.Release && p.older(c.Effective.Release, r) {
		return p.asked(c, r)
	}
	if c.Effective.Release == q.Release {
		return answer("%s asks for %s, which is the head already; the head's other fields are the engine's", q.By, q.Release)
	}
	digest := r.Digest
	for _, h := range slices.Backward(c.History) {
		if h.Release == q.Release {
			digest = h.Digest
			break
		}
	}
	if why := p.unfit(c, q.Release, digest); why != "" {
		return answer("%s asks to go back to %s: %s", q.By, q.Release, why)
	}
	if crossed := p.crosses(c, q.Release); crossed != "" {
		return answer("%s asks to go back to %s: %s is forward-only", q.By, q.Release, crossed)
	}
	if digest == "" || len(r.Faults) > 0 {
		return answer("%s asks to go back to %s, which has faults", q.By, q.Release)
	}
	if p.refused(c, q.Release) {
		return true
	}
	reason := fmt.Sprintf("%s asked for it in %s", q.By, short(q.Commit))
	p.act(Action{
		Kind: Rollback, Channel: c.Name, Release: q.Release, Digest: digest, commit: r.Origin,
		From: "request@" + short(q.Commit), Replaces: c.Effective.Release, Sequence: p.sequence(c),
		Requested: q.By, Reason: reason, Evidence: []string{reason}, Holds: true,
	})
	return true
}

func (p *planner) older(version string, r *Release) bool {
	v, err := releases.ParseVersion(version)
	return err == nil && v.Less(r.Version)
}
