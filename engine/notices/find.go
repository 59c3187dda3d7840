package notices

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// How long something must last before it is told: what ends by itself meanwhile is not told at all.
const (
	settleRollout = 30 * time.Second // so that the first message counts more than one cell
	settleUnread  = 2 * time.Minute
	settleKill    = time.Minute
	settleStuck   = time.Minute
	unreadLong    = time.Hour // from then on it is critical
)

// condition is something that goes on in a view, and is worth a thread.
type condition struct {
	thread string // stays the same while it goes on
	notice Notice // without ID, number and time; its cells are all of them
	cells  []string
	settle time.Duration
	over   string // the title of the message at its end; empty: its end is not told
}

// find returns what goes on, by channel; the empty channel has what concerns none.
func find(v *view.View) map[string][]condition {
	all := map[string][]condition{}
	waiting, stalled := verdictsByChannel(v)
	for _, name := range v.Desired.Order {
		c := v.Desired.Channels[name]
		found := waitingConditions(c, waiting[name])
		found = append(found, rolloutConditions(v, c, stalled)...)
		found = append(found, maintenanceConditions(v, c)...)
		if len(found) > 0 {
			all[name] = found
		}
	}
	general := slices.Concat(unreadableConditions(v), shutOutConditions(v), killConditions(v),
		infrastructureConditions(v))
	if len(general) > 0 {
		all[""] = general
	}
	return all
}

// verdictsByChannel returns the verdicts about approvals that are missing, by channel, and the cells that stalled.
func verdictsByChannel(v *view.View) (waiting map[string][]channels.Verdict, stalled map[string]bool) {
	waiting, stalled = map[string][]channels.Verdict{}, map[string]bool{}
	for _, b := range v.Plan.Blocked {
		switch {
		case b.Code == reason.ApprovalMissing && b.Cell == "":
			waiting[b.Channel] = append(waiting[b.Channel], b)
		case b.Code == reason.Stalled && b.Cell != "":
			stalled[b.Cell] = true
		}
	}
	return waiting, stalled
}

func waitingConditions(c *plan.Channel, missing []channels.Verdict) (found []condition) {
	for _, b := range missing {
		found = append(found, condition{
			thread: "waiting/" + c.Name + "/" + b.Release + "/" + b.Gate,
			notice: Notice{Kind: Waiting, Severity: Info, Channel: c.Name, Release: b.Release,
				Title: fmt.Sprintf("%s waits for approval to go to %s", b.Release, c.Name),
				Lines: []string{b.Gate + ": " + b.Reason,
					fmt.Sprintf("next step: sluice approve %s %s", c.Name, b.Release)}},
		})
	}
	return found
}

// rolloutConditions returns one condition for the rollout of a channel's head, and one for cells that are stuck on
// something else.
func rolloutConditions(v *view.View, c *plan.Channel, stalled map[string]bool) (found []condition) {
	e := c.Effective
	var failed, stuckHere, stuckElsewhere []string
	for _, cell := range c.Cells {
		s := v.Observed.Cells[cell.Name]
		if s == nil {
			continue
		}
		onHead := e != nil && s.Digest == e.Digest
		isStuck := s.State == cells.StateStuck || stalled[cell.Name]
		switch {
		case e != nil && failedHead(s, e):
			failed = append(failed, cell.Name)
		case isStuck && (onHead || e != nil && s.Last() != nil && s.Last().Sequence == e.Sequence):
			stuckHere = append(stuckHere, cell.Name)
		case isStuck:
			stuckElsewhere = append(stuckElsewhere, cell.Name)
		}
	}
	if e != nil {
		if r, ok := rolloutCondition(c, failed, stuckHere); ok {
			found = append(found, r)
		}
	}
	if len(stuckElsewhere) > 0 {
		found = append(found, condition{
			thread: "stuck/" + c.Name, cells: stuckElsewhere, settle: settleStuck,
			notice: Notice{Kind: Stuck, Severity: Warning, Channel: c.Name,
				Title: fmt.Sprintf("%s of %s can go neither forward nor back", words.Count(len(stuckElsewhere), "cell"),
					c.Name),
				Lines: []string{"next step: sluice why " + stuckElsewhere[0]}},
			over: "no cell of " + c.Name + " is stuck any more",
		})
	}
	return found
}

// failedHead reports whether a cell failed its channel's head, or is ill on it, other than by its values alone (R13).
func failedHead(s *plan.CellState, e *plan.EffectiveHead) bool {
	onHead := s.Digest == e.Digest
	if onHead {
		switch s.State {
		case cells.StateHealthy:
			return false
		case cells.StateUnhealthy, cells.StateFailed:
			return true
		case cells.StateStuck, cells.StatePending, cells.StateApplying:
		}
	}
	return slices.ContainsFunc(s.Failures, func(f plan.Failure) bool {
		return f.Assignment.Digest == e.Digest && f.Assignment.Sequence == e.Sequence && !f.Values
	})
}

// rolloutCondition returns what is wrong with the rollout of a head; ok is false if nothing is.
func rolloutCondition(c *plan.Channel, failed, stuck []string) (r condition, ok bool) {
	e := c.Effective
	ill := slices.Sorted(slices.Values(slices.Concat(failed, stuck)))
	r = condition{thread: rolloutThread(c.Name, e.Sequence), cells: ill, settle: settleRollout,
		notice: Notice{Severity: Warning, Channel: c.Name, Release: e.Release},
		over:   fmt.Sprintf("the trouble with %s in %s is over", e.Release, c.Name)}
	n := &r.notice
	if len(failed) > 0 {
		n.Lines = append(n.Lines, fmt.Sprintf("%d of %s failed it", len(failed), words.Count(len(c.Cells), "cell")))
	}
	if len(stuck) > 0 {
		n.Lines = append(n.Lines, words.Count(len(stuck), "cell")+" stuck, or without a result for long")
	}
	switch {
	case c.IsHalted():
		n.Kind, n.Severity, r.settle = Halt, Critical, 0
		n.Title = fmt.Sprintf("the rollout of %s to %s is halted: a person must decide", e.Release, c.Name)
		for _, h := range c.Holds {
			n.Lines = append(n.Lines, "hold: "+h.Reason)
		}
		n.Lines = append(n.Lines, "next step: sluice rollout status "+c.Name)
	case len(failed) > 0:
		n.Kind = Failing
		n.Title = fmt.Sprintf("%s fails in %s: %d of %s so far", e.Release, c.Name, len(failed),
			words.Count(len(c.Cells), "cell"))
		n.Lines = append(n.Lines, "next step: sluice rollout status "+c.Name)
	case len(stuck) > 0:
		n.Kind = Stuck
		n.Title = fmt.Sprintf("%s of %s: no result of %s", words.Count(len(stuck), "cell"), c.Name, e.Release)
		n.Lines = append(n.Lines, "next step: sluice why "+stuck[0])
	default:
		return r, false
	}
	return r, true
}

func rolloutThread(channel string, sequence int64) string {
	return fmt.Sprintf("rollout/%s/%d", channel, sequence)
}

func unreadableConditions(v *view.View) (found []condition) {
	if u := v.Unread; u != nil {
		severity := Warning
		if v.Plan.Now.Sub(u.Since) >= unreadLong {
			severity = Critical
		}
		found = append(found, condition{thread: "unreadable/releases", settle: settleUnread,
			notice: Notice{Kind: Unreadable, Severity: severity,
				Title: "the release repository can't be read: everything stays as it is",
				Lines: []string{u.String()}},
			over: "the release repository can be read again"})
	}
	if d := v.Observed.Diverged; d != nil {
		found = append(found, condition{thread: "diverged/releases",
			notice: Notice{Kind: Unreadable, Severity: Critical,
				Title: "the branch of the release repository was rewritten: nothing moves until a person accepts that",
				Lines: []string{"it no longer contains " + words.ShortCommit(d.Seen), "next step: sluice status"}},
			over: "the branch of the release repository is accepted again"})
	}
	if f := v.Flags; f != nil && f.Fault != "" {
		found = append(found, condition{thread: "unreadable/flags", settle: settleUnread,
			notice: Notice{Kind: Unreadable, Severity: Warning,
				Title: "the flags repository is not in force: cells keep the flags that they have",
				Lines: []string{f.Fault}},
			over: "the flags repository is in force again"})
	}
	return found
}

// maintenanceConditions returns the maintenances that cells of a channel will have, by release, and those that overran.
func maintenanceConditions(v *view.View, c *plan.Channel) (found []condition) {
	var overran []string
	ahead, first := map[string][]string{}, map[string]time.Time{}
	for _, cell := range c.Cells {
		s := v.Observed.Cells[cell.Name]
		if s == nil || s.Maintenance == nil {
			continue
		}
		m := s.Maintenance
		if !m.Overran.IsZero() {
			overran = append(overran, cell.Name)
		}
		begins := s.OurTime(m.Begins)
		if m.Phase != maintenance.Announced || !begins.After(v.Plan.Now) {
			continue
		}
		ahead[m.Release] = append(ahead[m.Release], cell.Name)
		if at := first[m.Release]; at.IsZero() || begins.Before(at) {
			first[m.Release] = begins
		}
	}
	for _, release := range slices.Sorted(maps.Keys(ahead)) {
		found = append(found, condition{thread: "maintenance/" + c.Name + "/" + release, cells: ahead[release],
			settle: settleRollout,
			notice: Notice{Kind: Maintenance, Severity: Info, Channel: c.Name, Release: release,
				Title: fmt.Sprintf("%s takes a maintenance in %s of %s", release, words.Count(len(ahead[release]), "cell"),
					c.Name),
				Lines: []string{"the first begins at " + words.FormatTime(first[release])}}})
	}
	if len(overran) > 0 {
		found = append(found, condition{thread: "overran/" + c.Name, cells: overran,
			notice: Notice{Kind: Overran, Severity: Critical, Channel: c.Name,
				Title: fmt.Sprintf("a maintenance ended before its update was through, in %s of %s",
					words.Count(len(overran), "cell"), c.Name),
				Lines: []string{"users' operations meet a component that is being replaced",
					"next step: sluice why " + overran[0]}},
			over: "the updates of " + c.Name + " whose maintenance overran are through"})
	}
	return found
}

func shutOutConditions(v *view.View) (found []condition) {
	var cloned, revoked []string
	for _, name := range slices.Sorted(maps.Keys(v.Desired.Cells)) {
		switch id := v.Identity(name); {
		case id.Quarantined != "":
			cloned = append(cloned, name)
		case id.Revoked:
			revoked = append(revoked, name)
		}
	}
	if len(cloned) > 0 {
		found = append(found, condition{thread: "shut-out/cloned", cells: cloned,
			notice: Notice{Kind: ShutOut, Severity: Critical,
				Title: fmt.Sprintf("%s shut out: the key is used from two places", words.Count(len(cloned), "cell")),
				Lines: []string{"next step: sluice why " + cloned[0]}},
			over: "no cell is shut out for a copied key any more"})
	}
	if len(revoked) > 0 {
		found = append(found, condition{thread: "shut-out/revoked", cells: revoked,
			notice: Notice{Kind: ShutOut, Severity: Info,
				Title: fmt.Sprintf("%s shut out: a person revoked the key", words.Count(len(revoked), "cell")),
				Lines: []string{"next step: sluice why " + revoked[0]}}})
	}
	return found
}

func killConditions(v *view.View) (found []condition) {
	if v.Flags == nil {
		return nil
	}
	for _, k := range view.NewFlagIndex(v).Kills("") {
		if k.Unconfirmed == 0 {
			continue
		}
		found = append(found, condition{thread: "kill/" + k.Flag, settle: settleKill,
			notice: Notice{Kind: KillUnconfirmed, Severity: Critical, Count: k.Unconfirmed,
				Title: fmt.Sprintf("the kill of %s is not confirmed by %s in contact: it may still be on there", k.Flag,
					words.Count(k.Unconfirmed, "cell")),
				Lines: []string{fmt.Sprintf("%d of %s confirmed it, %d are out of contact", k.Confirmed,
					words.Count(k.Cells, "cell"), len(k.Offline)), "next step: sluice flag show " + k.Flag}},
			over: "every cell in contact confirmed the kill of " + k.Flag})
	}
	return found
}
