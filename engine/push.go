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
	"github.com/sluice-cd/sluice/releases"
)

// pushPlan pushes the plan's commits onto the branch, as a chain on the commit that the plan was made on. While a push
// goes on beside the loop there is nothing to do: its answer wakes the loop.
func (e *Engine) pushPlan(ctx context.Context, p plan.Plan) (tip string, out outcome, err error) {
	if e.host.pushing != nil {
		return "", outcomeDone, nil
	}
	chain, deadline, err := plan.Drafts(e.desired, p, e.opts.Signer)
	if err != nil || len(chain) == 0 {
		return "", outcomeDone, err
	}
	if !deadline.IsZero() && !e.clocks.now().Before(deadline) {
		return "", outcomeMoved, nil // a condition of the plan has ended meanwhile: decide again (R3)
	}
	answer := pushAnswer{base: p.Commit}
	e.host.about, e.host.since = slices.Sorted(maps.Keys(pushTargets(p))), e.clocks.now()
	act, end := e.lease.termContext(ctx)
	e.host.pushing = beginCall(e.host.answered, func() (pushAnswer, error) {
		defer end()
		var err error
		answer.commits, err = e.repo.Push(act, answer.base, chain)
		if err != nil && act.Err() != nil && ctx.Err() == nil {
			err = plan.ErrDeposed // the term ended meanwhile
		}
		return answer, err
	})
	if _, err := e.host.pushing.wait(ctx, e.host.patience); errors.Is(err, errNoAnswer) {
		time.AfterFunc(SlowHost, e.host.answered.Notify) // if it still has not by then, people are told
		return "", outcomeDone, nil
	}
	return e.judgePush(ctx)
}

// finishPush ends a push that was answered beside the loop. It reports whether the branch moved, or may have.
func (e *Engine) finishPush(ctx context.Context) (moved bool, err error) {
	if !e.host.pushing.isAnswered() {
		return false, nil
	}
	_, out, err := e.judgePush(ctx)
	e.host.requestFetch()
	return out != outcomeDone, e.ignoreDeposed(err)
}

// judgePush ends the push and says what came of it.
func (e *Engine) judgePush(ctx context.Context) (tip string, out outcome, err error) {
	answer, err := e.host.pushing.wait(ctx, 0)
	e.host.pushing = nil
	commits, touched := answer.commits, e.host.about
	switch {
	case err == nil:
		e.counters.commits.Add(uint64(len(commits)))
		e.opts.Log.Info().Strs("commits", commits).Str("base", answer.base).Msg("pushed")
		return commits[len(commits)-1], outcomePushed, e.recordRefusal(ctx, touched, "", 0)
	case errors.Is(err, ErrMoved):
		e.counters.retries.Add(1)
		e.opts.Log.Info().Str("base", answer.base).Msg("the branch moved: deciding again")
		return "", outcomeMoved, nil
	case ctx.Err() != nil, errors.Is(err, plan.ErrDeposed):
		return "", outcomeDone, err
	}
	// The push was refused, or may have landed: the next fetch shows which. Until then nothing is pushed for these
	// channels.
	reason := "the push failed, and it is not known yet whether it landed: " + words.OneLine(err.Error())
	refused, credentials := new(RefusedError), new(releases.CredentialsError)
	switch wait := askedToWait(err); {
	case errors.As(err, &refused):
		reason = "the git host refused the push: " + words.OneLine(refused.Reason)
	case errors.As(err, &credentials):
		reason = "the git host refused the push: " + words.OneLine(credentials.Reason)
	case wait > 0:
		reason = "the git host asks to wait: " + words.OneLine(err.Error())
	}
	e.counters.retries.Add(1)
	e.opts.Log.Warn().Err(err).Strs("channels", touched).Msg("push failed")
	return "", outcomeMoved, e.recordRefusal(ctx, touched, reason, askedToWait(err))
}

// recordRefusal holds channels' pushes back, longer each time, for 5 minutes at most (fault 5). An empty reason clears
// the refusals. The host may have asked for a longer wait.
func (e *Engine) recordRefusal(ctx context.Context, touched []string, reason string, asked time.Duration) error {
	if reason != "" && slices.Contains(touched, plan.PipelinePushes) && e.refusalCounts[plan.PipelinePushes] == 0 {
		// An engine's very first push: what the host says of it, it would say of the others too. Later each is tried.
		touched = slices.Concat(touched, []string{plan.IdentityPushes, plan.AuditPushes, plan.HeadPushes},
			e.desired.Order)
	}
	for _, channel := range touched {
		var r *plan.Refusal
		if reason != "" {
			e.refusalCounts[channel]++
			wait := min(5*time.Second<<min(e.refusalCounts[channel]-1, 10), 5*time.Minute)
			until := e.clocks.now().Add(max(backoff.Spread(wait), asked)).UTC().Truncate(time.Millisecond)
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

// pushTargets returns what a plan's commits are about: channels, all cells' identities as one target, and the
// audit.
func pushTargets(p plan.Plan) map[string]bool {
	set := map[string]bool{}
	for _, a := range p.Actions {
		switch a.Kind {
		case plan.Grant:
		case plan.Identify:
			set[plan.IdentityPushes] = true
		case plan.CommitAudit:
			set[plan.AuditPushes] = true
		case plan.SignHeads:
			set[plan.HeadPushes] = true
		case plan.Adopt:
			set[plan.PipelinePushes] = true
		default:
			set[a.Channel] = true
		}
	}
	return set
}
