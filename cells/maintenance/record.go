package maintenance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Phase is the progress of a maintenance.
type Phase string

const (
	Off       Phase = "off"       // there is no maintenance; no Record has this phase
	Announced Phase = "announced" // it begins at Record.Begins
	Draining  Phase = "draining"
	Drained   Phase = "drained"
)

// Record is a maintenance for an update, as the agent journals it. The values behind its pointers and maps are
// immutable.
type Record struct {
	Phase   Phase     `json:"phase"`
	Release string    `json:"release"`          // that the update brings
	Back    bool      `json:"back,omitempty"`   // it is the return to the last good release
	Begins  time.Time `json:"begins"`           // when operations are refused, or were first
	Drain   time.Time `json:"drain,omitzero"`   // operations under way have until then
	Until   time.Time `json:"until,omitzero"`   // refusing ends then by itself
	Limit   time.Time `json:"limit,omitzero"`   // Until never moves beyond
	PutOff  int       `json:"putOff,omitempty"` // how often the update was put off for operations that took too long
	Why     string    `json:"why,omitempty"`    // why Until was moved last

	Shows releases.Maintenance `json:"shows,omitzero"` // of the release that the update brings
}

// Refuses reports whether operations are refused at now.
func (r *Record) Refuses(now time.Time) bool {
	return r != nil && r.Phase != Announced && now.Before(r.Until)
}

// Holds reports whether the update may be applied at now: operations are refused, and none is under way.
func (r *Record) Holds(now time.Time) bool { return r.Refuses(now) && r.Phase == Drained }

// Restore returns the record as an agent goes on with it that starts at now. Its instants are anchored anew: a clock
// that goes back, before or after, does not move the end away with it.
func (r *Record) Restore(p Policy, now time.Time) *Record {
	if r == nil {
		return nil
	}
	p = p.WithDefaults()
	restored := *r
	restored.Begins = anchor(r.Begins, now, max(p.Lead, p.Again))
	restored.Drain = anchor(r.Drain, now, p.Drain)
	restored.Until = anchor(r.Until, now, p.Maximum)
	restored.Limit = anchor(r.Limit, now, prolongBy*p.Maximum)
	return &restored
}

// RestorePause returns when the next maintenance may begin after one that overran, for an agent that starts at now: see
// Record.Restore.
func (p Policy) RestorePause(end, now time.Time) time.Time {
	return anchor(end, now, p.WithDefaults().Again)
}

// anchor returns t as an instant of the clock that now is of, at most so far ahead.
func anchor(t, now time.Time, ahead time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(min(t.Sub(now), ahead))
}

// Stage is what the agent is doing about an update.
type Stage int

const (
	Idle      Stage = iota // nothing: what runs is known, or nothing more can be done
	Preparing              // a release is fetched and rendered; it may replace the one that the record is for
	Ready                  // the next step writes to the target
	Writing                // the target is being written
	Watching               // all is written, and health is awaited
)

// Facts are what the agent knows of its update.
type Facts struct {
	Stage     Stage
	Changes   bool // see Changes
	Release   string
	Back      bool      // see Record
	Resumes   bool      // the target was written already: there is nothing to announce ahead
	NotBefore time.Time // after a maintenance that overran, the next does not begin before then
	Shows     releases.Maintenance
}

// Busy is what is known of the operations under way.
type Busy struct {
	Quiet bool   `json:"quiet,omitempty"` // operations are refused, and none is under way
	Count int    `json:"count,omitempty"` // under way, of the kinds that are refused
	Names string `json:"names,omitempty"` // some of them, for people
	// Refused says how many operations were refused in this maintenance, by kind.
	Refused map[string]int64 `json:"refused,omitempty"`
	// Unasked says that no program asked since the process started, neither for an operation nor for the state.
	Unasked bool    `json:"unasked,omitempty"`
	Ignored Ignored `json:"ignored,omitzero"` // in this maintenance
}

// Event is what a step of Advance did, for the cell's history.
type Event struct{ Kind, Detail string }

// Kinds of events.
const (
	EventAnnounced = "maintenance-announced"
	EventEntered   = "maintenance-entered"
	EventPutOff    = "maintenance-put-off"
	EventForced    = "maintenance-forced"
	EventProlonged = "maintenance-prolonged"
	EventLeft      = "maintenance-left"
	EventWithdrawn = "maintenance-withdrawn" // it never began
	EventOverran   = "maintenance-overran"   // it ended by its limit, and not because the update was through
	EventUnasked   = "maintenance-unasked"   // the update begins, and no program asked whether it may start something
	EventIgnored   = "maintenance-ignored"   // operations ran although they were refused
)

// Advance returns the record that follows r, which may be nil, and what happened. It makes one step at a time, and is
// called again after each change.
func Advance(r *Record, f Facts, p Policy, ops Busy, now time.Time) (*Record, []Event) {
	p = p.WithDefaults()
	switch {
	case r == nil:
		return begin(f, p, now)
	case r.Phase != Announced && !now.Before(r.Until):
		return nil, append(ops.Ignored.events(), Event{EventOverran, "operations are accepted again since " +
			words.FormatTime(r.Until) + ", and the update to " + r.Release + " is not through"})
	case f.Stage == Idle:
		return leave(r, ops, "", now)
	case f.Stage == Ready && !f.Changes:
		return leave(r, ops, f.Release+" changes no component that takes a maintenance", now)
	case f.Stage == Preparing:
		return r, nil // a newer assignment keeps what was announced, and the drain
	}
	if r.Release != f.Release || r.Back != f.Back {
		next := *r
		next.Release, next.Back, next.Shows = f.Release, f.Back, f.Shows
		r = &next
	}
	switch {
	case f.Stage == Ready && r.Phase == Announced && !now.Before(r.Begins):
		return enter(r, p, now)
	case f.Stage == Ready && r.Phase == Draining:
		return drain(r, p, ops, now)
	case f.Stage != Ready || r.Phase == Drained:
		return prolong(r, f, p, now)
	}
	return r, nil
}

// begin announces a maintenance, if the update takes one.
func begin(f Facts, p Policy, now time.Time) (*Record, []Event) {
	if f.Stage != Ready || !f.Changes {
		return nil, nil
	}
	r := &Record{Phase: Announced, Release: f.Release, Back: f.Back, Begins: now.Add(p.Lead), Shows: f.Shows}
	if f.Back || f.Resumes {
		r.Begins = now
	}
	if f.NotBefore.After(r.Begins) {
		r.Begins = f.NotBefore
	}
	return r, []Event{{EventAnnounced, "operations will be refused from " + words.FormatTime(r.Begins) +
		", for at most " + p.Maximum.String()}}
}

func enter(r *Record, p Policy, now time.Time) (*Record, []Event) {
	next := *r
	next.Phase, next.Begins, next.Drain = Draining, now, now.Add(p.Drain)
	next.Until, next.Limit = now.Add(p.Maximum), now.Add(prolongBy*p.Maximum)
	return &next, []Event{{EventEntered, "operations are refused until " + words.FormatTime(next.Until) +
		" at the latest"}}
}

// drain waits for the operations under way. The return to the last good release is never put off: what runs is broken.
func drain(r *Record, p Policy, ops Busy, now time.Time) (*Record, []Event) {
	next := *r
	switch {
	case ops.Quiet:
		next.Phase = Drained
		if ops.Unasked {
			return &next, []Event{{EventUnasked, "no program asked since the agent started: whatever the product " +
				"does is not waited for"}}
		}
		return &next, nil
	case now.Before(r.Drain):
		return r, nil
	}
	busy := fmt.Sprintf("%s still under way after %s", words.Count(ops.Count, "operation"), p.Drain)
	if ops.Names != "" {
		busy += " (" + ops.Names + ")"
	}
	if p.Overdue == Force || r.Back {
		next.Phase = Drained
		return &next, []Event{{EventForced, busy + ": the update goes on without them"}}
	}
	next.Phase, next.Begins, next.PutOff = Announced, now.Add(p.Again), r.PutOff+1
	next.Drain, next.Until, next.Limit = time.Time{}, time.Time{}, time.Time{}
	return &next, append(ops.Ignored.events(),
		Event{EventPutOff, busy + ": the update is put off until " + words.FormatTime(next.Begins)})
}

// events returns what is to be said once of a maintenance, when it ends.
func (i Ignored) events() []Event {
	if i.Count == 0 {
		return nil
	}
	return []Event{{EventIgnored, words.Count(int(i.Count), "operation") + " ran although refused (" + i.Names +
		"): the product does not heed refusals"}}
}

// prolong moves the end of a maintenance whose update is under way, shortly before it comes.
func prolong(r *Record, f Facts, p Policy, now time.Time) (*Record, []Event) {
	until := now.Add(p.Maximum / 2)
	if until.After(r.Limit) {
		until = r.Limit
	}
	if r.Phase == Announced || r.Until.Sub(now) > p.Maximum/4 || !until.After(r.Until) {
		return r, nil
	}
	next := *r
	next.Until, next.Why = until, f.Release+" is being applied"
	switch f.Stage {
	case Ready:
		next.Why = f.Release + " could not be applied yet, and is tried again"
	case Watching:
		next.Why = f.Release + " is applied, and is not healthy yet"
	}
	return &next, []Event{{EventProlonged, next.Why + ": operations are refused until " + words.FormatTime(until)}}
}

func leave(r *Record, ops Busy, why string, now time.Time) (*Record, []Event) {
	if r.Phase == Announced {
		return nil, []Event{{EventWithdrawn, why}}
	}
	lasted := now.Sub(r.Begins).Round(time.Second / 10)
	detail := "operations were refused for " + lasted.String()
	if len(ops.Refused) > 0 {
		detail += " (" + countByKind(ops.Refused) + ")"
	}
	if why != "" {
		detail += ": " + why
	}
	return nil, append(ops.Ignored.events(), Event{EventLeft, detail})
}

func countByKind(counts map[string]int64) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, strconv.FormatInt(counts[kind], 10)+" "+kind)
	}
	return words.Some(all, maxNames)
}

// Next returns when time alone may change the record; zero: it doesn't. Within a drain it is soon: leases end by time.
func (r *Record) Next(p Policy, now time.Time) time.Time {
	switch {
	case r == nil:
		return time.Time{}
	case r.Phase == Announced && r.Begins.After(now):
		return r.Begins
	case r.Phase == Announced: // it waits for what comes
		return time.Time{}
	case r.Phase == Draining:
		return now.Add(drainPause)
	}
	if early := r.Until.Add(-p.WithDefaults().Maximum / 4); early.After(now) {
		return early
	}
	return r.Until
}

// drainPause is how often the operations under way are counted while they are waited for.
const drainPause = 200 * time.Millisecond
