package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// maxPlans limits the plans of one tick: beyond, what was done is not recognised, and would be repeated for ever.
const maxPlans = 200

// maxMoves is how often one tick decides again because the branch moved meanwhile, and maxRacePause how long the tick
// waits before, at most.
const (
	maxMoves     = 50
	maxRacePause = 20 * time.Millisecond
)

// unreadError says that the git host could not be read. What was read before stands.
type unreadError struct{ cause error }

func (e *unreadError) Error() string { return "look at the release repository: " + e.cause.Error() }
func (e *unreadError) Unwrap() error { return e.cause }

type outcome int

const (
	outcomeDone    outcome = iota // nothing is left to do now, or for this process
	outcomePushed                 // commits were pushed: load the branch, and plan again
	outcomeMoved                  // the branch moved, or may have: fetch it, and plan again
	outcomeGranted                // grants were made: plan again with them
	outcomeDeposed                // another process leads: plan again, and do nothing
)

// Tick fetches the branch, decides, and carries the decision out, until nothing is left to do now; it returns the plan
// that has nothing left. Killed at any instant, it can be run again (invariant 4). Tick tries to lead while it runs; if
// another process leads, Tick does nothing, and returns the plan that the leader is about to carry out: see Led.
func (e *Engine) Tick(ctx context.Context) (plan.Plan, error) {
	stop := e.lease.HoldLease(ctx)
	defer stop()
	e.tickMu.Lock()
	defer e.tickMu.Unlock()
	p, err := e.tickLocked(ctx, true)
	if err != nil {
		return plan.Plan{}, err
	}
	return *p, nil
}

// TickLed reports whether the last tick carried its plan out.
func (e *Engine) TickLed() bool { return e.counters.led.Load() }

// tickLocked is one tick, for callers that hold tickMu. A new leader always fetches the branch. If the git host can't
// be read, and the tick may not wait for it, the plan is made on the commit that was read last, and comes with an
// *unreadError. A nil plan: there is nothing to plan on.
func (e *Engine) tickLocked(ctx context.Context, fetch bool) (*plan.Plan, error) {
	defer e.counters.ticks.observeSince(time.Now())
	took, err := e.syncTerm(ctx)
	if err != nil {
		return nil, err
	}
	pushed, err := e.finishPush(ctx)
	if err == nil && (fetch || took || pushed) {
		err = e.loadBranch(ctx, "")
	}
	if err != nil && took {
		e.lease.markSynced(0) // loading the branch is part of syncing
	}
	unread := new(unreadError)
	if err != nil && (e.host.patience == 0 || !errors.As(err, &unread) || !e.canGoOn(ctx)) {
		return nil, err
	}
	if e.desired != nil && e.loader.HasNews() {
		if err := e.fetchAndLoad(ctx, e.desired.Commit); err != nil {
			return nil, err
		}
	}
	if e.desired != nil && e.lease.mayAct() {
		e.audit.read(ctx, e.clocks.now(), e.desired.LastAuditHead().Row)
	}
	p, planErr := e.planUntilDone(ctx)
	if planErr != nil && !errors.As(planErr, &unread) {
		return nil, planErr
	}
	return &p, cmp.Or(planErr, err)
}

// syncTerm reads everything again, once in each term and before anything is done in it, since another process may have
// acted until just now. It reports whether it did so.
func (e *Engine) syncTerm(ctx context.Context) (bool, error) {
	term, leads, settled := e.lease.currentTerm()
	if !leads || settled {
		return false, nil
	}
	if err := e.observations.reloadAll(ctx); err != nil {
		return false, fmt.Errorf("read everything before leading: %w", err)
	}
	clear(e.recordedSequences) // the store may have other decisions
	e.lease.markSynced(term)
	return true, nil
}

// planUntilDone plans and acts on the loaded commit until nothing is left to do.
func (e *Engine) planUntilDone(ctx context.Context) (plan.Plan, error) {
	tries := 0
	for round := 1; ; round++ {
		p, tip, out, err := e.planOnce(ctx)
		if err != nil || out == outcomeDone {
			return p, err
		}
		if round == maxPlans {
			const message = "%d plans in a row had something to do: check what the engine commits, and stop the engine"
			return p, fmt.Errorf(message, round)
		}
		if out == outcomeGranted || out == outcomeDeposed {
			continue
		}
		if out == outcomeMoved {
			// A lost race is no fault of the host: the wait is short, and forgotten with the next push that lands.
			if tries++; tries == maxMoves {
				if e.host.patience == 0 {
					return p, fmt.Errorf("the branch moved %d times while deciding: %w", tries, ErrMoved)
				}
				e.signals.pushed.Notify() // what else there is to do gets its turn
				return e.publishPlan(), nil
			}
			if err := backoff.Sleep(ctx, backoff.FullJitter(maxRacePause)); err != nil {
				return p, err
			}
			e.host.requestFetch()
		} else {
			tries = 0
		}
		if err := e.loadBranch(ctx, tip); err != nil {
			if unread := new(unreadError); errors.As(err, &unread) {
				return e.publishPlan(), err
			}
			return p, err
		}
	}
}

// loadBranch loads tip, or fetches the branch if tip is empty, and records what changed since the last load.
func (e *Engine) loadBranch(ctx context.Context, tip string) error {
	err := e.fetchAndLoad(ctx, tip)
	if !errors.Is(err, errNoAnswer) || e.host.isSlow() {
		e.publisher.recordFetch(err, e.clocks.now().UTC())
	}
	return err
}

func (e *Engine) fetchAndLoad(ctx context.Context, tip string) error {
	if tip == "" {
		fetched, err := e.host.fetch(ctx)
		if err != nil {
			return &unreadError{err}
		}
		tip = fetched
	}
	d, err := e.loader.Load(ctx, tip)
	if err != nil {
		return err
	}
	e.observations.setDesired(d)
	if err := e.revokeRemovedCells(ctx, d); err != nil {
		return err
	}
	if err := e.detectRestoredStore(ctx, d); err != nil {
		return err
	}
	if err := e.ignoreDeposed(e.detectForcePush(ctx, d)); err != nil {
		return err
	}
	e.desired = d
	if e.lease.mayAct() {
		return e.ignoreDeposed(e.recordDecisions(ctx, d))
	}
	return nil
}

// ignoreDeposed returns the error of a write that only the leader may make, or nil if another process leads.
func (e *Engine) ignoreDeposed(err error) error {
	if errors.Is(err, plan.ErrDeposed) {
		e.lease.endTerm()
		return nil
	}
	return err
}

// detectForcePush finds out whether the branch still contains what was acted upon (R5). Only the leader can decide
// that: the others may fetch the branch earlier or later, and use the leader's record.
func (e *Engine) detectForcePush(ctx context.Context, d *plan.Desired) error {
	seen, diverged := e.observations.seenCommit()
	if !e.lease.mayAct() || seen == d.Commit && diverged == nil {
		return nil
	}
	now := (*plan.Divergence)(nil)
	if seen != "" && !isLossAccepted(ctx, &e.loader, d, seen, e.opts.Log) {
		contained, err := e.repo.Contains(ctx, seen, d.Commit)
		if err != nil {
			return fmt.Errorf("compare with %s: %w", words.ShortCommit(seen), err)
		}
		if !contained {
			now = &plan.Divergence{Seen: seen, Tip: d.Commit, At: e.clocks.now().UTC()}
			if diverged == nil {
				e.opts.Log.Error().Str("seen", seen).Str("tip", d.Commit).
					Msg("the branch was rewritten: nothing moves until a person accepts that")
			}
		}
	}
	if now == nil {
		seen = d.Commit
	}
	if err := e.store.RecordSeen(ctx, seen, now); err != nil {
		return fmt.Errorf("record the branch's tip: %w", err)
	}
	e.observations.applyWrite(func(o *plan.Observed) { o.Seen, o.Diverged = seen, now })
	return nil
}

// isLossAccepted reports whether a person who may do so accepted that the branch lost a commit: where the branch had
// owners at that commit, one of them, for whoever rewrites a branch can also write who owns the new one. Where the
// mirror does not have that commit, as on a new machine, the owners of the branch as it is now decide.
func isLossAccepted(ctx context.Context, loader *Loader, d *plan.Desired, seen string, log zerolog.Logger) bool {
	if !d.AcceptsLossOf(seen, func(plan.Acknowledgement) bool { return true }) {
		return false
	}
	then, err := loader.AuthorityAt(ctx, seen)
	if err != nil {
		log.Warn().Err(err).Str("seen", seen).
			Msg("who owned the branch that was lost can't be read: whoever owns it now may accept the loss")
		return ctx.Err() == nil && d.AcceptsLossOf(seen, func(a plan.Acknowledgement) bool { return a.ByOwner })
	}
	accepted := d.AcceptsLossOf(seen, func(a plan.Acknowledgement) bool { return then.IsOwner(a.Key) })
	if !accepted {
		log.Error().Str("seen", seen).Strs("owners", then.Owners).
			Msg("the loss of what was on the branch was accepted in a commit that no owner from before signed")
	}
	return accepted
}

// recordDecisions finds decisions in git that the store lacks, and announces each once.
func (e *Engine) recordDecisions(ctx context.Context, d *plan.Desired) error {
	var found []plan.Decided
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			if h.Sequence <= e.recordedSequences[name] {
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
	fresh, err := e.store.RecordDecisions(ctx, found)
	if err != nil {
		return fmt.Errorf("record %d decisions: %w", len(found), err)
	}
	e.observations.applyWrite(func(o *plan.Observed) {
		for _, f := range found {
			e.recordedSequences[f.Channel] = max(e.recordedSequences[f.Channel], f.Sequence)
		}
		o.AddDecided(found)
	})
	if len(fresh) == 0 {
		return nil
	}
	commits := make([]string, 0, len(fresh))
	for _, f := range fresh {
		commits = append(commits, f.Commit)
		e.opts.Log.Info().Str("commit", f.Commit).Str("kind", string(f.Kind)).Str("channel", f.Channel).
			Str("release", f.Release).Str("replaces", f.Replaces).Int64("sequence", f.Sequence).Msg("decided")
	}
	if err := e.store.MarkAnnounced(ctx, commits); err != nil {
		return fmt.Errorf("record announcements: %w", err)
	}
	return nil
}

// planOnce makes one plan and, if this process leads, carries it out. tip is the branch's, if it is known.
func (e *Engine) planOnce(ctx context.Context) (p plan.Plan, tip string, out outcome, err error) {
	p, v := e.makePlan()
	acts := e.lease.mayAct()
	e.counters.led.Store(acts)
	if acts {
		tip, out, err = e.carryOut(ctx, p)
		if err != nil && ctx.Err() == nil && (errors.Is(err, plan.ErrDeposed) || !e.lease.mayAct()) {
			e.lease.endTerm()
			return p, "", outcomeDeposed, nil
		}
		if err != nil || out != outcomeDone {
			return p, tip, out, err
		}
	} else if len(p.Learned.Lapsed) > 0 {
		e.observations.forgetOffers(p.Learned.Lapsed)
		return p, "", outcomeGranted, nil
	}
	if e.View() == nil {
		e.observations.endSilentSoaks(e.desired.StaleAfter())
	}
	e.publisher.publish(v)
	return p, "", outcomeDone, nil
}

// publishPlan publishes a plan that is not carried out now, with what was done so far.
func (e *Engine) publishPlan() plan.Plan {
	p, v := e.makePlan()
	e.publisher.publish(v)
	return p
}

// carryOut records what the plan learned, then grants, then pushes commits. The published view must contain the grants,
// so their outcome is to plan again.
func (e *Engine) carryOut(ctx context.Context, p plan.Plan) (tip string, out outcome, err error) {
	act, end := e.lease.termContext(ctx)
	defer end()
	if err := e.recordLearned(act, p.Learned); err != nil {
		return "", outcomeDone, err
	}
	made, err := e.recordGrants(act, p.Offers())
	if err != nil {
		return "", outcomeDone, err
	}
	tip, out, err = e.pushPlan(ctx, p)
	if err == nil && out == outcomeDone && made+len(p.Learned.Lapsed) > 0 {
		out = outcomeGranted
	}
	return tip, out, err
}

// makePlan makes a plan, and the view that shows it.
func (e *Engine) makePlan() (plan.Plan, *view.View) {
	began := time.Now()
	now := e.clocks.timeAt(began)
	obs := e.observations.snapshotForPlan()
	obs.Key, obs.Audit = e.opts.Key, e.audit.chain
	obs.Flags = e.publisher.announcedFlags().ForGates()
	obs.Warming = findWarming(e.desired, e.opts.Warming)
	obs.Clock = e.clocks.compareClocks(began, now, obs)
	notes := e.host.tellSlowPush(obs)
	p := e.memory.Make(e.desired, obs, now)
	e.counters.plans.observeSince(began)
	return p, &view.View{Desired: e.desired, Observed: obs, Plan: p, PlanDuration: time.Since(began), HostNotes: notes}
}

// findWarming returns the fetches of heads' images that are under way.
func findWarming(d *plan.Desired, warming func(releases.Digest, time.Time) (plan.Warming, bool)) (
	all map[releases.Digest]plan.Warming) {

	if warming == nil {
		return nil
	}
	all = map[releases.Digest]plan.Warming{}
	for _, c := range d.Channels {
		if c.Effective == nil {
			continue
		}
		if w, ok := warming(c.Effective.Digest, c.Effective.Moved); ok {
			all[c.Effective.Digest] = w
		}
	}
	return all
}
