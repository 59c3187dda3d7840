package swarm

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// peer is a cell's mind: what it runs, what it was offered, its failures and its events. Its methods are pure but for
// the boot id. One at a time uses it.
type peer struct {
	name  string
	boot  string
	seed  uint64
	apply [2]time.Duration
	fails map[string]float64

	desired  *cells.Assignment // the control plane's last word
	accepted *cells.Assignment
	offer    *cells.Assignment // accepted, and not begun: the control plane has not confirmed that it knows
	running  *cells.Assignment // last good
	applying *cells.Assignment
	failures []cells.Failure
	message  string
	refused  string             // key of the assignment that was refused last
	began    []cells.Assignment // all, in order
	events   []cells.Event      // not acknowledged yet, in order
	last     int64              // number of the newest event
	known    int64              // acknowledged up to here
}

func newPeer(name string, o *Options) peer {
	boot := make([]byte, 8)
	_, _ = rand.Read(boot) // never fails
	return peer{name: name, boot: hex.EncodeToString(boot), seed: o.Seed, apply: o.Apply, fails: o.Fails}
}

// resume goes on from what the cell had on its disk. What was being applied is begun anew when it is offered again.
func (p *peer) resume(w Word) {
	p.running, p.accepted, p.failures = w.Running, w.Running, w.Failures
	p.began, p.events, p.last, p.known = w.Began, w.Pending, w.Last, w.Confirmed
}

// offered takes the control plane's word, and tells whether there is something new to report.
func (p *peer) offered(a *cells.Assignment, now time.Time) bool {
	p.desired = a
	if a == nil || p.accepted != nil && a.Equal(*p.accepted) || p.failed(a) {
		return false
	}
	if old := p.accepted; old != nil && (cells.Newer(*old, *a) || cells.Conflict(*a, *old)) { // R2
		if p.refused == a.Key() {
			return false
		}
		p.refused = a.Key()
		p.note("refused", a, fmt.Sprintf("epoch %d, sequence %d after epoch %d, sequence %d", a.Epoch, a.Sequence, old.Epoch, old.Sequence), now)
		return true
	}
	p.accepted, p.offer = a, a
	return true
}

func (p *peer) failed(a *cells.Assignment) bool {
	key := a.Key()
	return slices.ContainsFunc(p.failures, func(f cells.Failure) bool { return f.Assignment.Key() == key })
}

// confirmed: the control plane knows that a was accepted. It gives how long the apply takes; begun is false if nothing begins.
func (p *peer) confirmed(a *cells.Assignment, now time.Time) (takes time.Duration, begun bool) {
	o := p.offer
	if o == nil || a == nil || !o.Equal(*a) || p.desired == nil || !p.desired.Equal(*o) { // withdrawn meanwhile
		return 0, false
	}
	p.offer = nil
	if p.applying != nil {
		p.note("superseded", p.applying, "by "+o.Release, now)
	}
	p.note("started", o, "", now)
	p.began = append(p.began, *o)
	p.message = ""
	if p.applying == nil && p.running != nil && p.running.SameContent(*o) {
		p.running = o
		p.note("applied", o, "nothing to change", now)
		return 0, false
	}
	p.applying = o
	least, most := p.apply[0], p.apply[1]
	return least + time.Duration(share(p.seed, "apply", p.name, o.Key())*float64(max(0, most-least))), true
}

// applied ends what is being applied, well or not, as the seed has it.
func (p *peer) applied(fetched error, now time.Time) {
	a := p.applying
	if a == nil {
		return
	}
	p.applying = nil
	reason := ""
	switch {
	case fetched != nil:
		reason = fetched.Error()
	case share(p.seed, "fails", p.name, string(a.Digest)) < p.fails[a.Release]:
		reason = "made to fail"
	}
	if reason == "" {
		p.running = a
		p.note("applied", a, "", now)
		p.note("healthy", a, "", now)
		return
	}
	p.failures = append(slices.Clone(p.failures), cells.Failure{
		Assignment: *a, Reason: reason, At: now,
		Values: p.running != nil && p.running.SameRelease(*a) && !p.running.SameContent(*a),
	})
	p.failures = p.failures[max(0, len(p.failures)-cells.MaxFailures):]
	p.message = a.Release + " failed: " + reason
	p.note("failed", a, reason, now)
	if p.running != nil {
		p.note("rolled-back", p.running, "", now)
	}
}

func (p *peer) note(kind string, a *cells.Assignment, detail string, now time.Time) {
	p.last++
	p.events = append(p.events, cells.Event{Number: p.last, At: now, Kind: kind, Release: a.Release, Digest: string(a.Digest), Detail: detail})
}

func (p *peer) state() cells.State {
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

// batch is the most events that one report carries.
const batch = 64

func (p *peer) report(now time.Time) cells.Report {
	return cells.Report{
		Cell: p.name, Boot: p.boot, Sent: now, Agent: "swarm", State: p.state(), Running: p.running, Applying: p.applying,
		Acknowledged: p.accepted, Message: p.message, Failures: p.failures, Confirmed: p.known,
		Events: slices.Clone(p.events[:min(batch, len(p.events))]),
	}
}

// acknowledged forgets events that the control plane has, and gives how many they were.
func (p *peer) acknowledged(number int64) int64 {
	number = min(number, p.last)
	if number <= p.known {
		return 0
	}
	n := number - p.known
	p.known = number
	p.events = slices.DeleteFunc(slices.Clone(p.events), func(e cells.Event) bool { return e.Number <= number })
	return n
}
