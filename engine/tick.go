package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxRounds bounds the plans of one tick: more means that what was done is not recognised, and would be done for ever.
const maxRounds = 200

// maxTries is how often one tick decides again because the branch moved under it.
const maxTries = 10

// outcome is what came of one plan.
type outcome int

const (
	done   outcome = iota // nothing is left to do now, or to this process
	landed                // commits were pushed: plan again on them
	moved                 // the branch is elsewhere, or may be: look again
	given                 // grants were made: plan again with them
	lost                  // another process leads: plan again, and do nothing
)

// Tick looks at the branch, decides, and carries the decision out, until nothing is left to do now. The plan it
// returns is the one that has nothing left. Killed at any instant, it can be run again (invariant 4). It leads for the
// pass; where another process does, it does nothing, and its plan is what that one is about to do: see Led.
func (e *Engine) Tick(ctx context.Context) (plan.Plan, error) {
	stop := e.lease.Lead(ctx)
	defer stop()
	e.ticking.Lock()
	defer e.ticking.Unlock()
	return e.tick(ctx, true)
}

// Led tells whether the last tick carried its plan out.
func (e *Engine) Led() bool { return e.counters.led.Load() }

// tick is one pass. The branch is looked at if it is to be, or has to: who takes the lead reads everything.
func (e *Engine) tick(ctx context.Context, fetch bool) (plan.Plan, error) {
	defer e.counters.ticks.since(time.Now())
	took, err := e.takeOver(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if fetch || took {
		if err := e.look(ctx, ""); err != nil {
			if took {
				e.lease.settle(0) // the branch is part of everything
			}
			return plan.Plan{}, err
		}
	}
	return e.settle(ctx)
}

// takeOver reads everything again, once in each term and before anything is done in it: another may have acted until just
// now. It tells whether it did.
func (e *Engine) takeOver(ctx context.Context) (bool, error) {
	term, leads, settled := e.lease.now()
	if !leads || settled {
		return false, nil
	}
	if err := e.observations.readAll(ctx); err != nil {
		return false, fmt.Errorf("read everything before leading: %w", err)
	}
	clear(e.recorded) // what the store has is its to say
	e.lease.settle(term)
	return true, nil
}

// settle plans and acts until nothing is left, on what was looked at last.
func (e *Engine) settle(ctx context.Context) (plan.Plan, error) {
	tries := 0
	for round := 1; ; round++ {
		p, tip, out, err := e.step(ctx)
		if err != nil || out == done {
			return p, err
		}
		if round == maxRounds {
			return p, fmt.Errorf("%d plans in a row had something to do: look at what the engine commits to the branch, and stop it", round)
		}
		if out == given || out == lost {
			continue
		}
		if out == moved {
			if tries++; tries == maxTries {
				return p, fmt.Errorf("the branch moved %d times while deciding: %w", tries, ErrMoved)
			}
			if err := backoff.Sleep(ctx, pause(tries)); err != nil {
				return p, err
			}
		}
		if err := e.look(ctx, tip); err != nil {
			return p, err
		}
	}
}

// look reads the branch's tip, unless it is known, and finds out what it says and what was decided since the last look.
func (e *Engine) look(ctx context.Context, tip string) error {
	err := e.read(ctx, tip)
	e.publisher.looked(err)
	return err
}

func (e *Engine) read(ctx context.Context, tip string) error {
	if tip == "" {
		fetched, err := e.repo.Fetch(ctx)
		if err != nil {
			return fmt.Errorf("look at the release repository: %w", err)
		}
		tip = fetched
	}
	d, err := e.loader.Load(ctx, tip)
	if err != nil {
		return err
	}
	e.observations.enroll(d)
	if err := e.departed(ctx, d); err != nil {
		return err
	}
	if err := e.watchStore(ctx, d); err != nil {
		return err
	}
	if err := e.ledger(e.watchHistory(ctx, d)); err != nil {
		return err
	}
	e.desired = d
	if e.lease.acts() {
		return e.ledger(e.record(ctx, d))
	}
	return nil
}

// ledger is the error of a write that only who leads may make; nil where another does: that is no fault.
func (e *Engine) ledger(err error) error {
	if errors.Is(err, plan.ErrDeposed) {
		e.lease.lose()
		return nil
	}
	return err
}

// watchHistory finds out whether the branch still contains what was acted upon (R5). Only who leads can tell: the others
// may look at the branch a moment earlier or later than it did, and take its word.
func (e *Engine) watchHistory(ctx context.Context, d *plan.Desired) error {
	seen, diverged := e.observations.seen()
	if !e.lease.acts() || seen == d.Commit && diverged == nil {
		return nil
	}
	now := (*plan.Divergence)(nil)
	if seen != "" && !slices.Contains(d.Acknowledged, seen) {
		contained, err := e.repo.Contains(ctx, seen, d.Commit)
		if err != nil {
			return fmt.Errorf("compare with %s: %w", words.Short(seen), err)
		}
		if !contained {
			now = &plan.Divergence{Seen: seen, Tip: d.Commit, At: e.clocks.now().UTC()}
			if diverged == nil {
				e.opts.Log.Error().Str("seen", seen).Str("tip", d.Commit).Msg("the branch was force-pushed: nothing moves until that is acknowledged")
			}
		}
	}
	if now == nil {
		seen = d.Commit
	}
	if err := e.store.Seen(ctx, seen, now); err != nil {
		return fmt.Errorf("record the branch's tip: %w", err)
	}
	e.observations.wrote(func(o *plan.Observed) { o.Seen, o.Diverged = seen, now })
	return nil
}

// record finds decisions in git that the store does not know, and announces each once.
func (e *Engine) record(ctx context.Context, d *plan.Desired) error {
	var found []plan.Decided
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			if h.Sequence <= e.recorded[name] {
				break
			}
			found = append(found, plan.Decided{
				Commit: h.Written, Kind: h.Kind, Channel: name, Release: h.Release, Digest: h.Digest,
				Sequence: h.Sequence, Replaces: h.Replaces, At: h.Moved,
			})
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Reverse(found)
	fresh, err := e.store.Decided(ctx, found)
	if err != nil {
		return fmt.Errorf("record %d decisions: %w", len(found), err)
	}
	e.observations.wrote(func(o *plan.Observed) {
		for _, f := range found {
			e.recorded[f.Channel] = max(e.recorded[f.Channel], f.Sequence)
			o.Served[f.Channel] = max(o.Served[f.Channel], f.Sequence)
		}
	})
	if len(fresh) == 0 {
		return nil
	}
	commits := make([]string, 0, len(fresh))
	for _, f := range fresh {
		commits = append(commits, f.Commit)
		e.opts.Log.Info().Str("commit", f.Commit).Str("kind", string(f.Kind)).Str("channel", f.Channel).Str("release", f.Release).
			Str("replaces", f.Replaces).Int64("sequence", f.Sequence).Msg("decided")
	}
	if err := e.store.Announced(ctx, commits); err != nil {
		return fmt.Errorf("record announcements: %w", err)
	}
	return nil
}

// step makes one plan and, if this process leads, carries it out. tip is the branch's, if it is known now.
func (e *Engine) step(ctx context.Context) (p plan.Plan, tip string, out outcome, err error) {
	p, obs, took := e.decide()
	acts := e.lease.acts()
	e.counters.led.Store(acts)
	if acts {
		tip, out, err = e.carryOut(ctx, p)
		if err != nil && ctx.Err() == nil && (errors.Is(err, plan.ErrDeposed) || !e.lease.acts()) {
			e.lease.lose()
			return p, "", lost, nil
		}
		if err != nil || out != done {
			return p, tip, out, err
		}
	} else if len(p.Learned.Lapsed) > 0 {
		e.observations.lapse(p.Learned.Lapsed)
		return p, "", given, nil
	}
	if e.View() == nil {
		e.observations.begin(e.desired.StaleAfter())
	}
	e.publisher.publish(&view.View{Desired: e.desired, Observed: obs, Plan: p, Took: took})
	return p, "", done, nil
}

// carryOut does what a plan says: what was learned first, then grants, then commits. What is shown and served has the
// grants in it, so it is planned again after any.
func (e *Engine) carryOut(ctx context.Context, p plan.Plan) (tip string, out outcome, err error) {
	ctx, end := e.lease.act(ctx)
	defer end()
	if err := e.learn(ctx, p.Learned); err != nil {
		return "", done, err
	}
	made, err := e.grant(ctx, p.Offers())
	if err != nil {
		return "", done, err
	}
	tip, out, err = e.push(ctx, p)
	if err == nil && out == done && made+len(p.Learned.Lapsed) > 0 {
		out = given
	}
	return tip, out, err
}

// decide makes a plan of what is known now.
func (e *Engine) decide() (plan.Plan, *plan.Observed, time.Duration) {
	began := time.Now()
	now := e.clocks.at(began)
	obs := e.observations.snapshot()
	obs.Key = e.opts.Key
	obs.Flags = e.publisher.announced().ForGates()
	obs.Clock = e.clocks.judge(began, now, obs)
	p := plan.Make(e.desired, obs, now)
	e.counters.plans.since(began)
	return p, obs, time.Since(began)
}
