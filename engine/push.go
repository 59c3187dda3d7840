package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

// pushPlan pushes the plan's commits onto the branch, as a chain on the commit that the plan was made on.
func (e *Engine) pushPlan(ctx context.Context, p plan.Plan) (tip string, out outcome, err error) {
	chain, deadline, err := plan.Drafts(e.desired, p)
	if err != nil || len(chain) == 0 {
		return "", outcomeDone, err
	}
	if !deadline.IsZero() && !e.clocks.now().Before(deadline) {
		return "", outcomeMoved, nil // a condition of the plan has ended meanwhile: decide again (R3)
	}
	touched := slices.Sorted(maps.Keys(pushTargets(p)))
	commits, err := e.repo.Push(ctx, p.Commit, chain)
	switch {
	case err == nil:
		e.counters.commits.Add(uint64(len(commits)))
		e.opts.Log.Info().Strs("commits", commits).Str("base", p.Commit).Msg("pushed")
		return commits[len(commits)-1], outcomePushed, e.recordRefusal(ctx, touched, "")
	case errors.Is(err, ErrMoved):
		e.counters.retries.Add(1)
		e.opts.Log.Info().Str("base", p.Commit).Msg("the branch moved: deciding again")
		return "", outcomeMoved, nil
	case ctx.Err() != nil:
		return "", outcomeDone, err
	}
	// The push was refused, or may have landed: the next fetch shows which. Until then nothing is pushed for these
	// channels.
	reason := "the push failed, and it is not known yet whether it landed: " + words.OneLine(err.Error())
	if refused := new(RefusedError); errors.As(err, &refused) {
		reason = "the git host refused the push: " + words.OneLine(refused.Reason)
	}
	e.counters.retries.Add(1)
	e.opts.Log.Warn().Err(err).Strs("channels", touched).Msg("push failed")
	return "", outcomeMoved, e.recordRefusal(ctx, touched, reason)
}

// recordRefusal holds channels' pushes back, longer each time, for 5 minutes at most (fault 5). An empty reason clears
// the refusals.
func (e *Engine) recordRefusal(ctx context.Context, touched []string, reason string) error {
	for _, channel := range touched {
		var r *plan.Refusal
		if reason != "" {
			e.refusalCounts[channel]++
			wait := min(5*time.Second<<min(e.refusalCounts[channel]-1, 10), 5*time.Minute)
			until := e.clocks.now().Add(backoff.Spread(wait)).UTC().Truncate(time.Millisecond)
			r = &plan.Refusal{Reason: reason, Until: until}
		} else if !e.clearRefusal(channel) {
			continue
		}
		if err := e.store.RecordRefusal(ctx, channel, r); err != nil {
			return fmt.Errorf("record a refused push for %s: %w", channel, err)
		}
		if r != nil {
			e.observations.applyWrite(func(o *plan.Observed) { o.Refused[channel] = *r })
		}
	}
	return nil
}

// clearRefusal forgets a channel's refusals, and reports whether any were stored.
func (e *Engine) clearRefusal(channel string) (stored bool) {
	delete(e.refusalCounts, channel)
	e.observations.applyWrite(func(o *plan.Observed) {
		_, stored = o.Refused[channel]
		delete(o.Refused, channel)
	})
	return stored
}

// pushTargets returns what a plan's commits are about: channels, and all cells' identities as one target.
func pushTargets(p plan.Plan) map[string]bool {
	set := map[string]bool{}
	for _, a := range p.Actions {
		switch a.Kind {
		case plan.Grant:
		case plan.Identify:
			set[plan.IdentityPushes] = true
		case plan.Adopt:
			set[plan.PipelinePushes] = true
		default:
			set[a.Channel] = true
		}
	}
	return set
}
