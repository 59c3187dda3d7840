// Package simulate runs a policy in virtual time: the real plan.Make decides on a release repository in memory, with
// modelled cells. People use it to try a policy before they merge it, and tests use it to search for cases that break a
// rule.
//
// It is pure: equal Inputs make equal Results, byte for byte. It does no I/O except on the files it is passed, reads no
// clock and starts no goroutine. Runs with separate Inputs may go on at once. Luck comes from the scenario's seed, with
// one draw for each cell, release and question, so that two policies meet the same luck. Time jumps from one event to
// the next, or to the instant at which the plan says that time alone changes it.
//
// Some things are simplified. A cell in contact has always just reported; what happens to it is seen within a second
// or, with many cells, within 60 ms for each of them, but not later than its next report; a soak is seen as soon as it
// lasted long enough. A push takes no time and never fails. Probes of outside gates are answered at once. Whose turn it
// is hashes the digest of a release, which no release of a scenario has yet: other cells come first than will.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Input holds what Run simulates. All fields but Open and Cache are required.
type Input struct {
	Files    fs.FS                              // the release repository at the commit to start from
	History  *plan.History                      // folded up to that commit; Run advances it
	Open     func(commit string) (fs.FS, error) // returns older commits' files; nil: there are none
	Scenario *Scenario                          // as Parse returns it
	From     time.Time
	For      time.Duration
	Cache    *manifest.Cache // what was parsed of the files already; nil: nothing
}

// maxPlans bounds the plans of one instant. A planner that needs more never comes to rest.
const maxPlans = 1000

// errRestless means that plans go on having actions.
var errRestless = errors.New("the engine does not come to rest")

// Run simulates. It ends early when ctx is done: with an error, and with the result so far, until its Until.
func Run(ctx context.Context, in Input) (*Result, error) {
	w, err := newWorld(ctx, in)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return w.stop(), fmt.Errorf("simulate until %s: %w", w.now.Format(time.RFC3339), err)
		}
		before := w.now
		again, err := w.makePlan()
		if err != nil {
			return nil, err
		}
		if !again {
			more, err := w.advanceTime(ctx)
			if err != nil {
				return nil, err
			}
			if !more {
				return w.recorder.finishResult(w), nil
			}
		}
		if !w.now.Equal(before) {
			n = 0
		}
		if n > maxPlans {
			return nil, fmt.Errorf("simulate: %w at %s", errRestless, w.now.Format(time.RFC3339))
		}
	}
}

// stop ends the simulation now.
func (w *world) stop() *Result {
	w.end = w.now
	w.recorder.result.Until = w.now
	w.recorder.sampleCounts(w)
	return w.recorder.finishResult(w)
}

// world is everything at one virtual instant.
type world struct {
	input     Input
	now       time.Time
	end       time.Time
	repo      *repository
	desired   *plan.Desired
	observed  plan.Observed
	fleet     *fleet
	queue     eventQueue
	recorder  *recorder
	plan      plan.Plan   // the newest plan, brief
	turns     []plan.Turn // of the same plan
	planCount int
	skews     []Skew // skews in force
	decide    decider
}

// decider is Memory.MakeBrief, or does the same.
type decider func(*plan.Desired, *plan.Observed, time.Time) (plan.Plan, []plan.Turn)

func newWorld(ctx context.Context, in Input) (*world, error) {
	if in.Files == nil || in.History == nil || in.Scenario == nil || in.For <= 0 {
		return nil, errors.New("simulate: files, history, a scenario and a length of time are needed")
	}
	w := &world{input: in, now: in.From.UTC(), end: in.From.Add(in.For).UTC(), repo: newRepository(in)}
	w.input.From, w.decide = w.now, new(plan.Memory).MakeBrief
	w.queue = eventQueue{start: w.now, grid: in.Scenario.Cells.Report}
	w.observed = plan.Observed{
		Cells: map[string]*plan.CellState{}, Served: map[string]int64{}, Refused: map[string]plan.Refusal{},
		Replaced: []string{},
	}
	if err := w.readRepository(); err != nil {
		return nil, err
	}
	if in.Scenario.Cells.Report > w.staleAfter() {
		return nil, fmt.Errorf("simulate: cells that report every %s fall silent, because staleAfter is %s: "+
			"make cells.report less than staleAfter in sluice.yaml", in.Scenario.Cells.Report, w.staleAfter())
	}
	if err := w.addCells(); err != nil {
		return nil, err
	}
	if err := w.checkNames(); err != nil {
		return nil, err
	}
	w.queue.setBeat(len(w.desired.Cells))
	w.fleet = newFleet(w)
	w.recorder = newRecorder(w)
	return w, w.scheduleScenario(ctx)
}

func (w *world) readRepository() error {
	d, err := w.repo.buildDesired()
	if err != nil {
		return err
	}
	w.desired = d
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			w.observed.Served[name] = max(w.observed.Served[name], h.Sequence)
		}
	}
	return nil
}

func (w *world) staleAfter() time.Duration { return w.desired.Pipeline.StaleAfter }

// makePlan makes one plan and carries it out. again says that another plan is due at the same instant.
func (w *world) makePlan() (again bool, err error) {
	w.plan, w.turns = w.decide(w.desired, &w.observed, w.now)
	w.observed.Replaced = []string{}
	w.planCount++
	w.recorder.recordPlan(w)
	w.carryOutGrants()
	pushed, err := w.commitDrafts()
	if err != nil {
		return false, err
	}
	asked := w.answerProbes()
	return asked || pushed, nil // grants change nothing until cells receive them
}

// advanceTime moves time on to the next instant at which the control plane sees something, or which the plan named. It
// skips the instants at which cells in contact would fall silent, since these cells have always just reported. more is
// false at the end.
func (w *world) advanceTime(ctx context.Context) (more bool, err error) {
	w.recorder.sampleCounts(w)
	for seen := false; !seen && ctx.Err() == nil; {
		next := w.end
		if n := w.plan.NextInContact; !n.IsZero() && n.Before(next) {
			next, seen = n, true
		}
		if at, ok := w.queue.nextAt(); ok && at.Before(next) {
			next, seen = at, false
		}
		if !next.Before(w.end) {
			w.now = w.end
			w.recorder.sampleCounts(w)
			return false, nil
		}
		w.now = next.UTC()
		ranSeen, err := w.runDueEvents()
		if err != nil {
			return false, err
		}
		seen = seen || ranSeen
	}
	return true, nil
}

// runDueEvents runs all events that are due. It reports whether the control plane sees any of them.
func (w *world) runDueEvents() (seen bool, err error) {
	for {
		e, ok := w.queue.popDue(w.now)
		if !ok {
			return seen, nil
		}
		eventSeen := true
		if e.run != nil {
			if eventSeen, err = e.run(); err != nil {
				return seen, err
			}
		}
		seen = seen || eventSeen
	}
}

// carryOutGrants carries the plan out, except for its commits. Cells receive their grants a little later.
func (w *world) carryOutGrants() {
	plan.Carry(&w.observed, &w.plan)
	for _, name := range w.plan.Learned.Lapsed {
		w.fleet.cells[name].known = w.observed.Cells[name]
	}
	for _, o := range w.plan.Offers() {
		c := w.fleet.cells[o.Cell]
		c.known = w.observed.Cells[o.Cell]
		w.fleet.deliverGrant(c)
	}
}

func (w *world) commitDrafts() (pushed bool, err error) {
	chain, _, err := plan.Drafts(w.desired, w.plan, nil)
	if err != nil || len(chain) == 0 {
		return false, err
	}
	who := author{}
	who.Name, who.Email = "sluice", "sluice@localhost"
	if keys := w.desired.Authority.Keys; len(keys) > 0 {
		who.key = keys[0]
	}
	for _, draft := range chain {
		if err := w.repo.commit(who, w.now, draft.Message, draft.Files); err != nil {
			return false, err
		}
	}
	return true, w.readRepository()
}

func (w *world) answerProbes() (asked bool) {
	for _, p := range w.plan.Wants {
		o := plan.Observation{
			Channel: p.Channel, Gate: p.Gate, Subject: string(p.Subject), Policy: p.Policy, ObservedAt: w.now,
			Reason: "the scenario has no answer",
		}
		valid := 5 * time.Minute
		switch {
		case p.Check != nil && p.Check.ValidFor > 0:
			valid = p.Check.ValidFor
		case p.Metric != nil && p.Metric.ValidFor > 0:
			valid = p.Metric.ValidFor
		}
		o.ValidUntil = w.now.Add(valid)
		for _, a := range w.input.Scenario.Answers {
			if a.Gate != p.Gate || a.Channel != "" && a.Channel != p.Channel ||
				a.Release != "" && a.Release != p.Release {
				continue
			}
			if at := a.From.instant(w.input.From); !at.After(w.now) {
				o.Holds, o.Value, o.Reason = a.Holds, a.Value, a.Reason
			} else if at.Before(o.ValidUntil) {
				w.queue.schedulePlan(at)
			}
		}
		w.observed.Observations = slices.DeleteFunc(w.observed.Observations, func(old plan.Observation) bool {
			return old.Channel == o.Channel && old.Gate == o.Gate
		})
		w.observed.Observations = append(w.observed.Observations, o)
		asked = true
	}
	return asked
}

func (w *world) setClocks() {
	w.observed.Clock.Skew = 0
	for _, s := range w.skews {
		w.observed.Clock.Skew += s.By
	}
	for _, c := range w.fleet.order {
		w.fleet.replaceState(c, func(s *plan.CellState) { s.Skew = w.observed.Clock.Skew })
	}
}
