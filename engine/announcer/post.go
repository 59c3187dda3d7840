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

// maxPosted bounds how many events are known here to be posted.
const maxPosted = 10_000

// post hands the plan's events to the outbox, each once, and then keeps what the plan remembers: lost in between, they are found again.
func (a *Announcer) post(ctx context.Context, now time.Time) {
	var hooks []repository.Webhook
	if a.read != nil && a.read.tree != nil {
		hooks = a.read.tree.Settings.Webhooks
	}
	var messages []plan.Message
	texts := map[string]announce.Event{}
	for _, e := range a.plan.Events {
		if a.posted[e.ID] || now.Sub(e.At) > plan.OutboxMemory {
			continue
		}
		texts[e.ID] = e
		messages = append(messages, letters(e, hooks, now)...)
	}
	if len(messages) > 0 {
		fresh, err := a.o.Store.Post(ctx, messages)
		if err != nil {
			a.cantKeep(ctx, err)
			return
		}
		if len(a.posted) > maxPosted {
			clear(a.posted) // the store knows them
		}
		for id := range texts {
			a.posted[id] = true
		}
		for _, id := range fresh {
			a.o.Log.Info().Str("type", texts[id].Type).Str("event", id).Msg(words.OneLine(texts[id].Text))
		}
	}
	if reflect.DeepEqual(a.memory, a.kept) {
		return
	}
	if err := a.o.Store.SetFlagsMemory(ctx, a.memory); err != nil {
		a.cantKeep(ctx, err)
		return
	}
	a.kept = a.memory
}

// cantKeep has the next plan be made soon, and what it says be posted again.
func (a *Announcer) cantKeep(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, plan.ErrDeposed) {
		return
	}
	a.o.Log.Warn().Err(err).Msg("events about announcements could not be stored: trying again")
	retry := a.o.Engine.Now().Add(retryStore)
	if a.plan.Next.IsZero() || retry.Before(a.plan.Next) {
		a.plan.Next = retry
	}
}

// letters are the messages that an event is to be told by: one for each webhook that asks for its type, and one for nobody.
func letters(e announce.Event, hooks []repository.Webhook, now time.Time) []plan.Message {
	posted := now.UTC().Truncate(time.Millisecond)
	all := []plan.Message{{Event: e, Posted: posted}}
	for _, h := range hooks {
		if len(h.Types) == 0 || slices.Contains(h.Types, e.Type) {
			all = append(all, plan.Message{Event: e, Webhook: h.Name, Posted: posted, Next: posted})
		}
	}
	return all
}
