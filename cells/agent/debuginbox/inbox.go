// Package debuginbox takes requests for debug access from the control plane into the cell's folder of them, and says
// what became of each: in reports, and as events.
//
// A request is checked here again, whatever the control plane checked: that the person whose key it names signed it,
// that it is for this cell, that it has not expired and, in a cell with a root of trust, that release signers name the
// key as the person's. The inbox permits nothing (D1). What the control plane no longer lists is removed unless the
// owner has answered it; what signers vouch for no more ends (D2). While nothing is open, an inbox reads the folder
// once a minute.
//
// Run must be called once; the other methods may be called at once.
package debuginbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	restlessLook = time.Second // while something is not over
	idleLook     = time.Minute
	pruneEvery   = time.Hour
	minRetry     = time.Second // after a fetch that failed
	maxRetry     = time.Minute

	reportedFor = 24 * time.Hour // a request that is over
	maxTold     = 1000           // requests that were refused, which are remembered one by one
)

// Options are what an inbox works with.
type Options struct {
	StateDir string
	Cell     string
	// Fetch requests the open requests from the control plane.
	Fetch func(ctx context.Context) (debug.Requests, error)
	// AskSigners returns what release signers say of who may ask, verified now; nil: they are not asked.
	AskSigners func(ctx context.Context) (Signers, error)
	Now        func() time.Time // the cell's clock
	// OnNews gets events when what is reported changed.
	OnNews func([]cells.Event)
	Log    zerolog.Logger
}

// Inbox is the loop.
type Inbox struct {
	options Options
	folder  debugfolder.Folder
	wanted  wake.Signal

	mu       sync.Mutex // guards the fields below
	desired  string     // hash of the requests at the control plane; empty: there are none
	hasHeard bool       // desired was said in this process
	report   []cells.DebugState

	// The fields below belong to Run's goroutine.
	fetched  string // hash whose requests are in the folder, once hasTaken
	hasTaken bool
	failures int // of Fetch, in a row
	retryAt  time.Time
	pruneAt  time.Time
	refused  map[string]bool   // requests whose refusal was logged
	states   map[string]string // as told in events, by request; nil: nothing was looked at
	vouching vouching
	declined []cells.DebugState // what the control plane lists, and signers do not vouch for
}

// New returns an inbox, with what the folder has now as its report.
func New(o Options) *Inbox {
	i := &Inbox{options: o, folder: debugfolder.Of(o.StateDir), wanted: wake.New(), refused: map[string]bool{}}
	if o.AskSigners != nil {
		i.vouching.ask = func(ctx context.Context) (s Signers, err error) {
			i.await(ctx, func(ctx context.Context) { s, err = o.AskSigners(ctx) })
			return s, err
		}
	}
	i.look()
	return i
}

// SetDesired takes what the control plane's answer says of requests.
func (i *Inbox) SetDesired(hash string) {
	i.mu.Lock()
	changed := hash != i.desired || !i.hasHeard
	i.desired, i.hasHeard = hash, true
	i.mu.Unlock()
	if changed {
		i.wanted.Notify()
	}
}

// Report returns what a report says of requests, the oldest first.
func (i *Inbox) Report() []cells.DebugState {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.report
}

// Run takes requests and follows the folder, until ctx ends.
func (i *Inbox) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-i.wanted:
		}
		wait := i.turn(ctx, i.options.Now())
		timer.Reset(wait)
	}
}

// turn does what is due, and returns how long nothing else is.
func (i *Inbox) turn(ctx context.Context, now time.Time) time.Duration {
	if within := i.holdToKnown(now); within > 0 {
		i.askAgain(ctx, within, now)
	}
	i.fetch(ctx, now)
	if !now.Before(i.pruneAt) {
		i.pruneAt = now.Add(pruneEvery)
		if err := i.folder.Prune(moment(), now); err != nil {
			i.options.Log.Warn().Err(err).Msg("old requests for debug access could not be removed")
		}
	}
	wait := idleLook
	if i.look() {
		wait = restlessLook
	}
	if !i.retryAt.IsZero() {
		wait = min(wait, max(i.retryAt.Sub(now), time.Millisecond))
	}
	return wait
}

// await calls what waits for the control plane, for a while. Meanwhile what is known of signers holds: the end of a
// key's time does not wait for an answer.
func (i *Inbox) await(ctx context.Context, call func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		call(ctx)
	}()
	tick := time.NewTicker(restlessLook)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			i.holdToKnown(i.options.Now())
		}
	}
}

// fetch takes the requests from the control plane, if they are others than those in the folder.
func (i *Inbox) fetch(ctx context.Context, now time.Time) {
	i.mu.Lock()
	desired, hasHeard := i.desired, i.hasHeard
	i.mu.Unlock()
	isTaken := i.hasTaken && desired == i.fetched
	if !hasHeard || isTaken && i.retryAt.IsZero() || now.Before(i.retryAt) && (isTaken || i.failures > 0) {
		return
	}
	var all debug.Requests
	var err error
	var later bool
	if desired != "" {
		i.await(ctx, func(ctx context.Context) { all, err = i.options.Fetch(ctx) })
	}
	if err == nil {
		later, err = i.take(ctx, all.Requests, now)
	}
	if err != nil {
		if i.failures == 0 && ctx.Err() == nil {
			i.options.Log.Warn().Err(err).Msg("requests for debug access could not be taken; the agent retries")
		}
		i.retryAt = now.Add(backoff.FullJitter(backoff.Exponential(minRetry, maxRetry, i.failures)))
		i.failures++
		return
	}
	i.fetched, i.hasTaken, i.failures, i.retryAt = desired, true, 0, time.Time{}
	if later {
		i.retryAt = now.Add(idleLook)
	}
}

// take keeps the requests that are valid, and withdraws those that are no longer listed. It reports whether a request
// that was refused may be kept later.
func (i *Inbox) take(ctx context.Context, all []debug.SignedRequest, now time.Time) (later bool, err error) {
	listed := map[string]bool{}
	var faults []error
	i.declined, i.vouching.asked = nil, time.Time{} // signers may have spoken since
	for _, s := range all[:min(len(all), 2*debugfolder.MaxOpen)] {
		id := s.ID()
		listed[id] = true
		r, err := s.Open()
		if err == nil {
			err = r.CheckFor(i.options.Cell, now)
		}
		if err != nil {
			later = later || r.Cell == i.options.Cell && now.Before(r.Expires) // by a clock that is ahead of the cell's
			i.refuse(id, err)
			continue
		}
		if err := i.vouching.refresh(ctx, signersFor, now); err != nil {
			faults = []error{fmt.Errorf("verify who may ask: %w", err)}
			continue
		}
		by, err := i.vouching.check(&r, now)
		if err != nil {
			later = true // signers may name the key yet
			i.declined = append(i.declined, turnedDown(id, err))
			i.refuse(id, err)
			continue
		}
		switch _, err := i.folder.Keep(s, by, moment(), now); {
		case errors.Is(err, debugfolder.ErrFull):
			later = true
			i.refuse(id, err)
		case err != nil: // of the disk
			faults = append(faults, err)
		}
	}
	kept, err := i.folder.List()
	if err != nil && len(kept) == 0 {
		return later, err
	}
	for _, e := range kept {
		if !listed[e.ID] {
			if _, err := i.folder.Withdraw(e.ID); err != nil {
				return later, err
			}
		}
	}
	return later, errors.Join(faults...)
}

// refuse logs, once for each request, why it is not kept.
func (i *Inbox) refuse(id string, why error) {
	if i.refused[id] {
		return
	}
	if len(i.refused) >= maxTold {
		clear(i.refused)
	}
	i.refused[id] = true
	i.options.Log.Warn().Str("request", id).Err(why).Msg("a request for debug access was refused")
}

// look reads the folder, and has changes reported. It reports whether a request is not over.
func (i *Inbox) look() (restless bool) {
	all, err := i.folder.List()
	if err != nil {
		i.options.Log.Warn().Err(err).Msg("some requests for debug access can't be read")
	}
	now, at := i.options.Now(), moment()
	report := []cells.DebugState{}
	states, events := map[string]string{}, []cells.Event(nil)
	for n := range all {
		e := &all[n]
		d := describe(e, at, now)
		isOver := d.State != cells.DebugOpen && d.State != cells.DebugPermitted && d.State != cells.DebugLive
		restless = restless || !isOver
		states[e.ID] = d.State
		if before, known := i.states[e.ID]; i.states != nil && (!known || before != d.State) {
			events = append(events, cells.Event{Kind: "debug " + d.State, Detail: eventDetail(e, d)})
		}
		if !isOver || now.Sub(e.Received) < reportedFor {
			report = append(report, d)
		}
	}
	declined := slices.DeleteFunc(slices.Clone(i.declined), func(d cells.DebugState) bool { return states[d.ID] != "" })
	report = append(declined, report...)
	report = report[max(0, len(report)-cells.MaxDebugRequests):]
	i.states = states
	i.mu.Lock()
	changed := !slices.Equal(report, i.report)
	i.report = report
	i.mu.Unlock()
	if changed && i.options.OnNews != nil {
		i.options.OnNews(events)
	}
	return restless
}

// moment returns now by the machine's monotonic clock. Without such a clock no permission can be made or used.
func moment() debug.Moment {
	boot, since, _ := clock.ReadMonotonic()
	return debug.Moment{Boot: boot, Since: since}
}

// describe returns what a report says of a request.
func describe(e *debugfolder.Entry, at debug.Moment, now time.Time) cells.DebugState {
	d := cells.DebugState{ID: e.ID, State: string(e.State(at, now)), Vouched: e.Vouched != ""}
	if d.State == cells.DebugLive {
		d.Until = e.Begun.At.Add(e.Permission.For).Truncate(time.Second)
	}
	if e.Denied != nil {
		d.Why = words.Clip(e.Denied.Reason, maxWhy)
	}
	if e.Seal != nil {
		if seal, err := e.Seal.Read(); err == nil {
			d.Why, d.Hash, d.Length, d.Withheld = words.Clip(seal.Why, maxWhy), seal.Hash, seal.Length, seal.Withheld
		}
	}
	return d
}

func eventDetail(e *debugfolder.Entry, d cells.DebugState) string {
	r := &e.Request
	text := fmt.Sprintf("request %s of %s, case %s: %s", e.ID, r.Person, r.Case, r.Scope)
	switch {
	case d.Why != "":
		text += ": " + d.Why
	case !d.Until.IsZero():
		text += ", until " + words.FormatTime(d.Until)
	}
	return words.Clip(text, cells.MaxMessage)
}
