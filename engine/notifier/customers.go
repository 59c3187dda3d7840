package notifier

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

const (
	receiptEvery = 5 * time.Second // between looks at what came of letters
	recordAtMost = 100             // outcomes in one commit
	recordPause  = time.Minute     // after outcomes could not be recorded: a try may take as long
)

// tellCustomers posts the letters that customers are to get, each once, and has what came of the first ones recorded. A
// deadline begins with the record alone: what was delivered and is not recorded yet is recorded with the next look.
func (n *Notifier) tellCustomers(ctx context.Context, v *view.View, to *notices.Subscriptions) (next time.Time,
	err error) {
	if n.opts.Record == nil {
		return next, nil
	}
	now := n.opts.Engine.Now()
	letters, next := to.Letters(v, now)
	var messages []plan.Message
	pending := false
	for _, l := range letters {
		pending = pending || l.First
		if n.queued[l.Notice.ID] {
			continue
		}
		m, err := outbox.NoticeMessage(l.Delivery, now)
		if err != nil {
			return next, err
		}
		messages = append(messages, m)
	}
	if err := n.post(ctx, messages); err != nil {
		return next, fmt.Errorf("post letters to customers: %w", err)
	}
	for _, m := range messages {
		n.queued[m.Event.ID] = true
	}
	if !pending {
		clear(n.noted)
		return next, nil
	}
	if soon := now.Add(receiptEvery); next.IsZero() || soon.Before(next) {
		next = soon
	}
	return next, n.recordOutcomes(ctx, letters)
}

// recordOutcomes has what came of first letters recorded, once.
func (n *Notifier) recordOutcomes(ctx context.Context, letters []notices.Letter) error {
	var failed error
	all := notices.Outcomes(letters, func(l notices.Letter) (r notices.Receipt) {
		found, err := outbox.Receipts(ctx, n.opts.Outbox, l.Notice.ID)
		if err != nil {
			failed = err
		}
		for _, known := range found {
			r = known
		}
		return r
	}, n.opts.Engine.Now())
	if failed != nil {
		return failed
	}
	var fresh []notices.Outcome
	for _, o := range all {
		if n.noted[outcomeKey(o)] != o.By && len(fresh) < recordAtMost {
			fresh = append(fresh, o)
		}
	}
	if len(fresh) == 0 || time.Now().Before(n.record) {
		return nil
	}
	if err := n.opts.Record(ctx, fresh); err != nil {
		n.record = time.Now().Add(recordPause)
		return fmt.Errorf("record what customers were told: %w", err)
	}
	for _, o := range fresh {
		n.noted[outcomeKey(o)] = o.By
	}
	return nil
}

func outcomeKey(o notices.Outcome) string {
	return fmt.Sprintf("%s/%d/%t", o.Cell, o.Number, o.Delivered.IsZero())
}
