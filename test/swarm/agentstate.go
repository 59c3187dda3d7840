package swarm

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// agentState is the state machine of one cell: what it runs, what it was assigned, its failures and its events. Except
// for the boot ID its methods are pure. One goroutine at a time may use it.
type agentState struct {
	name         string
	bootID       string
	seed         uint64
	applyRange   [2]time.Duration
	failureRates map[string]float64

	desired  *cells.Assignment // newest from the control plane
	accepted *cells.Assignment
	// accepted but not begun: the control plane has not confirmed the acknowledgement
	unconfirmed     *cells.Assignment
	running         *cells.Assignment // last good
	applying        *cells.Assignment
	failures        []cells.Failure
	message         string
	lastRefused     string             // key of the last refused assignment
	began           []cells.Assignment // all, in order
	events          []cells.Event      // not acknowledged, in order
	lastNumber      int64              // of the newest event
	confirmedNumber int64              // events up to this number are acknowledged
}

func newAgentState(name string, o *Options) agentState {
	boot := make([]byte, 8)
	_, _ = rand.Read(boot) // never fails
	return agentState{name: name, bootID: hex.EncodeToString(boot), seed: o.Seed, applyRange: o.Apply,
		failureRates: o.Fails}
}

// resume restores what the cell had on its disk. An interrupted apply begins again when the assignment is offered
// again.
func (p *agentState) resume(w Snapshot) {
	p.running, p.accepted, p.failures = w.Running, w.Running, w.Failures
	p.began, p.events, p.lastNumber, p.confirmedNumber = w.Began, w.Pending, w.Last, w.Confirmed
}

// handleAssignment takes the newest assignment, and reports whether there is something new to report.
func (p *agentState) handleAssignment(a *cells.Assignment, now time.Time) bool {
	p.desired = a
	if a == nil || p.accepted != nil && a.Equal(*p.accepted) || p.hasFailed(a) {
		return false
	}
	if old := p.accepted; old != nil && (cells.Newer(*old, *a) || cells.Conflicts(*a, *old)) { // R2
		if p.lastRefused == a.Key() {
			return false
		}
		p.lastRefused = a.Key()
		p.addEvent("refused", a, fmt.Sprintf("epoch %d, sequence %d after epoch %d, sequence %d", a.Epoch, a.Sequence,
			old.Epoch, old.Sequence), now)
		return true
	}
	p.accepted, p.unconfirmed = a, a
	return true
}

func (p *agentState) hasFailed(a *cells.Assignment) bool {
	key := a.Key()
	return slices.ContainsFunc(p.failures, func(f cells.Failure) bool { return f.Assignment.Key() == key })
}

// startConfirmed begins a if the control plane has confirmed that a was accepted. It returns how long the apply takes;
// begun is false if no apply begins.
func (p *agentState) startConfirmed(a *cells.Assignment, now time.Time) (takes time.Duration, begun bool) {
	o := p.unconfirmed
	if o == nil || a == nil || !o.Equal(*a) || p.desired == nil || !p.desired.Equal(*o) { // withdrawn meanwhile
		return 0, false
	}
	p.unconfirmed = nil
	if p.applying != nil {
		p.addEvent("superseded", p.applying, "by "+o.Release, now)
	}
	p.addEvent("started", o, "", now)
	p.began = append(p.began, *o)
	p.message = ""
	if p.applying == nil && p.running != nil && p.running.SameContent(*o) {
		p.running = o
		p.addEvent("applied", o, "nothing to change", now)
		return 0, false
	}
	p.applying = o
	least, most := p.applyRange[0], p.applyRange[1]
	return least + time.Duration(deriveFraction(p.seed, "apply", p.name, o.Key())*float64(max(0, most-least))), true
}

// finishApply ends the apply in progress; the seed decides whether it succeeds.
func (p *agentState) finishApply(fetched error, now time.Time) {
	a := p.applying
	if a == nil {
		return
	}
	p.applying = nil
	reason := ""
	switch {
	case fetched != nil:
		reason = fetched.Error()
	case deriveFraction(p.seed, "fails", p.name, string(a.Digest)) < p.failureRates[a.Release]:
		reason = "made to fail"
	}
	if reason == "" {
		p.running = a
		p.addEvent("applied", a, "", now)
		p.addEvent("healthy", a, "", now)
		return
	}
	p.failures = append(slices.Clone(p.failures), cells.Failure{
		Assignment: *a, Reason: reason, At: now,
		Values: p.running != nil && p.running.SameRelease(*a) && !p.running.SameContent(*a),
	})
	p.failures = p.failures[max(0, len(p.failures)-cells.MaxFailures):]
	p.message = a.Release + " failed: " + reason
	p.addEvent("failed", a, reason, now)
	if p.running != nil {
		p.addEvent("rolled-back", p.running, "", now)
	}
}

func (p *agentState) addEvent(kind string, a *cells.Assignment, detail string, now time.Time) {
	p.lastNumber++
	p.events = append(p.events, cells.Event{Number: p.lastNumber, At: now, Kind: kind, Release: a.Release,
		Digest: string(a.Digest), Detail: detail})
}

func (p *agentState) currentState() cells.State {
	switch {
	case p.applying != nil:
		return cells.StateApplying
	case p.running != nil:
		return cells.StateHealthy
	case len(p.failures) > 0:
		return cells.StateFailed
	default:
		return cells.StatePending
	}
}

// maxBatch is the most events that one report carries.
const maxBatch = 64

func (p *agentState) makeReport(now time.Time) cells.Report {
	return cells.Report{
		Cell: p.name, Boot: p.bootID, Sent: now, Agent: "swarm", State: p.currentState(), Running: p.running,
		Applying:     p.applying,
		Acknowledged: p.accepted, Message: p.message, Failures: p.failures, Confirmed: p.confirmedNumber,
		Events: slices.Clone(p.events[:min(maxBatch, len(p.events))]),
	}
}

// dropAcknowledged drops events that the control plane has, and returns how many.
func (p *agentState) dropAcknowledged(number int64) int64 {
	number = min(number, p.lastNumber)
	if number <= p.confirmedNumber {
		return 0
	}
	n := number - p.confirmedNumber
	p.confirmedNumber = number
	p.events = slices.DeleteFunc(slices.Clone(p.events), func(e cells.Event) bool { return e.Number <= number })
	return n
}
