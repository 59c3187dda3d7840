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

// push puts the plan's commits onto the branch, a chain on the commit that was planned on.
func (e *Engine) push(ctx context.Context, p plan.Plan) (tip string, out outcome, err error) {
	chain, deadline, err := plan.Drafts(e.desired, p)
	if err != nil || len(chain) == 0 {
		return "", done, err
	}
	if !deadline.IsZero() && !e.clocks.now().Before(deadline) {
		return "", moved, nil // what it relied on has ended meanwhile: decide again (R3)
	}
	touched := slices.Sorted(maps.Keys(pushesOf(p)))
	commits, err := e.repo.Push(ctx, p.Commit, chain)
	switch {
	case err == nil:
		e.counters.commits.Add(uint64(len(commits)))
		e.opts.Log.Info().Strs("commits", commits).Str("base", p.Commit).Msg("pushed")
		return commits[len(commits)-1], landed, e.refuse(ctx, touched, "")
	case errors.Is(err, ErrMoved):
		e.counters.retries.Add(1)
		e.opts.Log.Info().Str("base", p.Commit).Msg("the branch moved: deciding again")
		return "", moved, nil
	case ctx.Err() != nil:
		return "", done, err
	}
	// Refused, or not known whether it landed: the next look at the branch tells. Until then nothing is pushed for these channels.
	reason := "the push failed, and whether it landed is not known yet: " + words.OneLine(err.Error())
	if refused := new(RefusedError); errors.As(err, &refused) {
		reason = "the git host refused the push: " + words.OneLine(refused.Reason)
	}
	e.counters.retries.Add(1)
	e.opts.Log.Warn().Err(err).Strs("channels", touched).Msg("push failed")
	return "", moved, e.refuse(ctx, touched, reason)
}

// refuse keeps channels' pushes back for a while, longer each time, five minutes at the most (fault 5). No reason: it worked.
func (e *Engine) refuse(ctx context.Context, touched []string, reason string) error {
	for _, channel := range touched {
		var r *plan.Refusal
		if reason != "" {
			e.refusals[channel]++
			wait := min(5*time.Second<<min(e.refusals[channel]-1, 10), 5*time.Minute)
			r = &plan.Refusal{Reason: reason, Until: e.clocks.now().Add(backoff.Spread(wait)).UTC().Truncate(time.Millisecond)}
		} else if !e.clearRefusal(channel) {
			continue
		}
		if err := e.store.Refused(ctx, channel, r); err != nil {
			return fmt.Errorf("record a refused push for %s: %w", channel, err)
		}
		if r != nil {
			e.observations.wrote(func(o *plan.Observed) { o.Refused[channel] = *r })
		}
	}
	return nil
}

// clearRefusal forgets a channel's refusals, and tells whether there were any.
func (e *Engine) clearRefusal(channel string) (stored bool) {
	delete(e.refusals, channel)
	e.observations.wrote(func(o *plan.Observed) {
		_, stored = o.Refused[channel]
		delete(o.Refused, channel)
	})
	return stored
}

// pushesOf names what a plan's commits are about: channels, and the cells' identities as one.
func pushesOf(p plan.Plan) map[string]bool {
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
