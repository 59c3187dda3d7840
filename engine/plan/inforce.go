package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// dispute is what the store and a channel's cells say against the branch (R51).
type dispute struct {
	channel *channelPlan
	lost    *EffectiveHead // the head in force, which the branch has lost; nil: the branch has it
	by      string         // whose word lost is
	missing bool           // the branch does not have lost's release with its digest
	ahead   []claim        // by cell
	most    *channels.Head // what more than half of the cells claim, until a person accepts it; nil: nothing
}

// claim is what a cell reports to run or apply, and neither the branch nor a grant explains.
type claim struct {
	cell *Cell
	head channels.Head
}

// findDispute compares what the branch says with what the store and the cells say. If the branch has lost the head in
// force, that head is the channel's in this plan, and decisions go on from there.
func (c *channelPlan) findDispute() {
	c.dispute.channel = c
	o := c.planner.observed
	if o.Diverged != nil || o.Seen != "" && o.Seen != c.planner.desired.Commit {
		return // the plan for the branch as the store knows it decides
	}
	c.compareCells()
	c.weighClaims()
	c.acceptClaims()
	if c.lost != nil || c.most != nil || len(c.ahead) > 0 {
		c.memory = new(Memory).recall(c.planner, c.Channel) // what holds without the dispute does not count
	}
	if c.lost == nil {
		return
	}
	clone := *c.Channel
	if e := c.Effective; e != nil && c.lost.Moved.IsZero() {
		c.lost.Moved = e.Moved
	}
	clone.History = append(slices.Clip(clone.History), *c.lost)
	clone.Effective = &clone.History[len(clone.History)-1]
	if clone.Request != nil && clone.Request.Lapsed {
		clone.Request = nil
	}
	c.Channel, c.barrier = &clone, nil
	r := c.planner.desired.Releases[c.lost.Release]
	c.missing = r == nil || r.Tombstone != nil || r.Digest != c.lost.Digest
}

// contradicts reports whether cells that were told this can't take the branch's head after it (R2).
func (c *Channel) contradicts(sequence int64, digest releases.Digest) bool {
	e := c.Effective
	if e == nil {
		return sequence > 0
	}
	return sequence > e.Sequence || sequence == e.Sequence && digest != e.Digest
}

// isBelievable reports whether a sequence is close enough to the branch's. One beyond would use up the channel's.
func (c *Channel) isBelievable(sequence int64) bool {
	return sequence <= c.gitSequence()+MaxAhead
}

func (c *Channel) gitSequence() int64 {
	if c.Effective == nil {
		return 0
	}
	return c.Effective.Sequence
}

// compareCells looks at the cells of which it is not known that they agree. It finds the newest head that was decided
// or granted, by the store, and that the branch has lost; and what cells report and neither the branch nor a grant
// explains. Reports raise no sequence.
func (d *dispute) compareCells() {
	c := d.channel
	lose := func(found channels.Head, at time.Time, by string) {
		if c.contradicts(found.Sequence, found.Digest) && c.isBelievable(found.Sequence) &&
			(d.lost == nil || found.Sequence > d.lost.Sequence) {
			d.lost, d.by = &EffectiveHead{Head: found, Kind: Rollback, Moved: at}, by
		}
	}
	if last, ok := c.planner.observed.Decided[c.Name]; ok {
		lose(channels.Head{Release: last.Release, Digest: last.Digest, Sequence: last.Sequence}, last.At,
			"it was decided before")
	}
	m := c.memory
	for i := range m.unknown(agrees) {
		cell, s := c.Cells[i], m.cells[i].last
		lost := s != nil && isIn(s.Granted, c.Name) && c.contradicts(s.Granted.Sequence, s.Granted.Digest)
		if lost {
			lose(headOf(s.Granted), s.GrantedAt, cell.Name+" was granted it")
		}
		claimed := c.unexplained(cell, s)
		if claimed != nil {
			d.ahead = append(d.ahead, claim{cell, headOf(claimed)})
		}
		if !lost && claimed == nil {
			m.known[agrees].Add(i)
		}
	}
}

// unexplained returns what a cell reports to apply or run and neither the branch nor a grant explains; nil: nothing.
func (c *Channel) unexplained(cell *Cell, s *CellState) *cells.Assignment {
	if s == nil || cell.Identity.Revoked || cell.Identity.Quarantined != "" {
		return nil
	}
	for _, a := range []*cells.Assignment{s.Applying, s.Running} {
		if isIn(a, c.Name) && a.Epoch >= cell.Identity.Epoch && c.contradicts(a.Sequence, a.Digest) &&
			!s.grantExplains(a) {
			return a
		}
	}
	return nil
}

func headOf(a *cells.Assignment) channels.Head {
	return channels.Head{Release: a.Release, Digest: a.Digest, Sequence: a.Sequence}
}

// isAhead reports whether a cell claims what neither the branch nor a grant explains: it would refuse a grant.
func (d *dispute) isAhead(cell *Cell) bool {
	_, found := slices.BinarySearchFunc(d.ahead, cell.Name, func(x claim, name string) int {
		return strings.Compare(x.cell.Name, name)
	})
	return found
}

func isIn(a *cells.Assignment, channel string) bool { return a != nil && a.Channel == channel }

// grantExplains reports whether a is the cell's newest grant, or one that it leaves for that grant.
func (s *CellState) grantExplains(a *cells.Assignment) bool {
	g := s.Granted
	return g != nil && !cells.Newer(*a, *g) && !cells.Conflicts(*a, *g)
}

// weighClaims finds the newest head that more than half of the cells claim to have or to have passed: of those with a
// grant or, where the store is younger than the branch's head, of those that report to be in the channel.
func (d *dispute) weighClaims() {
	c := d.channel
	isNew := c.Effective == nil || c.planner.observed.Since.After(c.Effective.Moved)
	votes := func(cell *Cell) bool {
		s := c.planner.observed.Cells[cell.Name]
		return s != nil && (isIn(s.Granted, c.Name) || isNew && (isIn(s.Running, c.Name) || isIn(s.Applying, c.Name)))
	}
	var claimed []channels.Head
	for _, x := range d.ahead {
		_, err := releases.ParseVersion(x.head.Release) // people are to copy it
		if err == nil && c.isBelievable(x.head.Sequence) && votes(x.cell) {
			claimed = append(claimed, x.head)
		}
	}
	if len(claimed) == 0 {
		return
	}
	half := 0
	for _, cell := range c.Cells {
		if votes(cell) {
			half++
		}
	}
	half /= 2
	if len(claimed) <= half {
		return
	}
	slices.SortFunc(claimed, func(a, b channels.Head) int {
		return cmp.Or(cmp.Compare(b.Sequence, a.Sequence), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	if most := claimed[half]; d.lost == nil || most.Sequence > d.lost.Sequence {
		d.most = &most
	}
}

// acceptClaims takes a person's word on what is in force: what most cells claim or, in its place or that of a head that
// the store has, a release that was in the channel before. Another release has to pass its gates.
func (d *dispute) acceptClaims() {
	c := d.channel
	of := d.most
	if of == nil && d.lost != nil {
		of = &d.lost.Head
	}
	if of == nil {
		return
	}
	sequence, release := c.planner.desired.acceptedHead(c.Name, of.Sequence)
	target := *of
	if release != of.Release {
		earlier, why := c.findEarlierHead(release)
		if release == "" || why != "" {
			return
		}
		target = earlier.Head
	}
	target.Sequence = sequence
	d.lost, d.by, d.most = &EffectiveHead{Head: target, Kind: Rollback}, "a person accepted it", nil
	d.ahead = slices.DeleteFunc(d.ahead, func(x claim) bool { return x.head.Sequence <= sequence })
}

// acceptedHead returns what a person accepted last as the head of a channel whose cells claim a sequence: the trailer's
// value is "CHANNEL SEQUENCE RELEASE". An empty release says that nobody did.
func (d *Desired) acceptedHead(channel string, claimed int64) (sequence int64, release string) {
	for _, accepted := range slices.Backward(d.Acknowledged) {
		parts := strings.Fields(accepted.Loss)
		if len(parts) != 3 || parts[0] != channel || !accepted.ByOwner {
			continue
		}
		if n, err := strconv.ParseInt(parts[1], 10, 64); err == nil && n == claimed {
			return n, parts[2]
		}
	}
	return 0, ""
}

// AcceptsLossOf reports whether somebody accepted that the branch no longer contains a commit (R5). may says who can.
func (d *Desired) AcceptsLossOf(commit string, may func(Acknowledgement) bool) bool {
	return slices.ContainsFunc(d.Acknowledged, func(accepted Acknowledgement) bool {
		first, _, _ := strings.Cut(accepted.Loss, " ")
		return first == commit && may(accepted)
	})
}

// isDiverged reports whether nothing of the channel may move until a person accepts the branch, and says so. It also
// raises the alarm about each cell that claims what neither the branch nor a grant explains.
func (d *dispute) isDiverged() bool {
	c := d.channel
	release := ""
	if c.Effective != nil {
		release = c.Effective.Release
	}
	for _, x := range d.ahead {
		v := channels.Blocked("diverged", reason.CellAhead, describeHead(x.head), c.gitSequence(),
			x.cell.Name).WithSubject(c.Name, release)
		v.Cell = x.cell.Name
		c.planner.block(v)
	}
	switch gone := c.planner.observed.Diverged; {
	case gone != nil:
		c.planner.block(channels.Blocked("diverged", reason.Diverged, words.ShortCommit(gone.Seen),
			c.planner.acceptCommand(gone.Seen)).WithSubject(c.Name, ""))
	case d.most != nil:
		c.planner.block(channels.Blocked("diverged", reason.CellsAhead, describeHead(*d.most), c.gitSequence(),
			c.planner.acceptCommand(lossOf(c.Name, *d.most, d.most.Release))).WithSubject(c.Name, ""))
	default:
		return false
	}
	return true
}

func describeHead(h channels.Head) string {
	return fmt.Sprintf("%s, sequence %d,", h.Release, h.Sequence)
}

// acceptCommand is the command with which a person, an owner where there are any, accepts the loss of what a trailer's
// value names.
func (p *planner) acceptCommand(loss string) string {
	sign := ""
	if len(p.desired.Authority.Owners) > 0 {
		sign = "-S "
	}
	return fmt.Sprintf("git commit %s--allow-empty -m 'accept the branch' -m '%s: %s'", sign,
		releases.AcknowledgeTrailer, loss)
}

// lossOf is the value of the trailer that accepts a release in place of a lost head.
func lossOf(channel string, head channels.Head, release string) string {
	return fmt.Sprintf("%s %d %s", channel, head.Sequence, words.OneLine(release))
}

// restateHead writes the head in force anew under a higher sequence, if the branch has lost it (R5, R51). If the branch
// lacks the release too, it says so: a person decides. It reports whether the head moves or waits to move.
func (d *dispute) restateHead() bool {
	c := d.channel
	e := d.lost
	if e == nil {
		return false
	}
	if d.missing {
		earlier := "RELEASE"
		if n := len(c.History); n > 1 {
			earlier = c.History[n-2].Release
		}
		c.planner.block(channels.Blocked("diverged", reason.HeadLost, describeHead(e.Head), d.by, c.Name,
			c.planner.acceptCommand(lossOf(c.Name, e.Head, earlier))).WithSubject(c.Name, e.Release))
		return false
	}
	if c.isPushRefused(e.Release) {
		return true
	}
	why := fmt.Sprintf("the branch has lost sequence %d of %s, which was at %s: %s", e.Sequence, c.Name, e.Release,
		d.by)
	if q := c.Request; q != nil && q.Release != "" {
		why += fmt.Sprintf("; %s's request for %s lapses: ask again", q.By, q.Release)
	}
	r := c.planner.desired.Releases[e.Release]
	a := Action{
		Kind: Rollback, Channel: c.Name, Release: e.Release, Digest: e.Digest, Commit: r.Origin,
		From: fmt.Sprintf("the head in force, sequence %d", e.Sequence), Sequence: c.nextSequence(), Reason: why,
		Evidence: []string{why}, forwardOnly: c.planner.forwardOnlyRelease(*e),
	}
	if git := c.planner.desired.Channels[c.Name].Effective; git != nil {
		a.Replaces, a.Finished = git.Release, c.isFinished(git)
	}
	c.planner.addAction(a)
	return true
}
