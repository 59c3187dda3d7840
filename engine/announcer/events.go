package announcer

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

const maxPosted = 10_000

// postEvents posts the plan's events to the outbox, each once, then stores the plan's memory; after a crash in between,
// the next plan finds the events again.
func (a *Announcer) postEvents(ctx context.Context, now time.Time) {
	var hooks []repository.Webhook
	if a.snapshot != nil && a.snapshot.inForce != nil {
		hooks = a.snapshot.inForce.Settings.Webhooks
	}
	var messages []plan.Message
	texts := map[string]announce.Event{}
	for _, e := range a.plan.Events {
		if a.postedEvents[e.ID] || now.Sub(e.At) > plan.OutboxMemory {
			continue
		}
		texts[e.ID] = e
		messages = append(messages, eventMessages(e, hooks, now)...)
	}
	if len(messages) > 0 {
		fresh, err := a.opts.Store.PostMessages(ctx, messages)
		if err != nil {
			a.retrySoon(ctx, err)
			return
		}
		if len(a.postedEvents) > maxPosted {
			clear(a.postedEvents) // the store knows them
		}
		for id := range texts {
			a.postedEvents[id] = true
		}
		for _, id := range fresh {
			a.opts.Log.Info().Str("type", texts[id].Type).Str("event", id).Msg(words.OneLine(texts[id].Text))
		}
	}
	if reflect.DeepEqual(a.memory, a.storedMemory) {
		return
	}
	if err := a.opts.Store.SetFlagsMemory(ctx, a.memory); err != nil {
		a.retrySoon(ctx, err)
		return
	}
	a.storedMemory = a.memory
}

// retrySoon schedules the next plan soon, so that its events are posted again.
func (a *Announcer) retrySoon(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, plan.ErrDeposed) {
		return
	}
	a.opts.Log.Warn().Err(err).Msg("events about announcements could not be stored: trying again")
	retry := a.opts.Engine.Now().Add(storeRetryDelay)
	if a.plan.Next.IsZero() || retry.Before(a.plan.Next) {
		a.plan.Next = retry
	}
}

// eventMessages returns an event's messages: one for each webhook that asks for its type, and one without a webhook.
func eventMessages(e announce.Event, hooks []repository.Webhook, now time.Time) []plan.Message {
	posted := now.UTC().Truncate(time.Millisecond)
	all := []plan.Message{{Event: e, Posted: posted}}
	for _, h := range hooks {
		if len(h.Types) == 0 || slices.Contains(h.Types, e.Type) {
			all = append(all, plan.Message{Event: e, Webhook: h.Name, Posted: posted, Next: posted})
		}
	}
	return all
}
