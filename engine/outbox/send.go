package outbox

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	// Patience is how long a message is tried for.
	Patience      = 3 * 24 * time.Hour
	maxRetryDelay = time.Hour       // the longest time between two attempts, if the webhook does not ask for a longer one
	maxRetryAfter = 24 * time.Hour  // that it may ask for
	recordTimeout = 5 * time.Second // for what became of a message, also while stopping
)

// outcome is what became of a message.
type outcome struct {
	message plan.Message
	sent    bool
	until   time.Time // not sent: when it is tried again; zero: it is given up
	why     string
}

// sendMessages sends messages to a webhook, one after the other. Where one does not get through, those behind it would not either: they
// wait as well.
func (s *Sender) sendMessages(ctx context.Context, hook repository.Webhook, messages []plan.Message) {
	s.mu.Lock()
	was, gone := s.gone[hook.Name]
	s.mu.Unlock()
	if gone && was.URL == hook.URL {
		s.giveUp(ctx, messages, goneReason)
		return
	}
	for i, m := range messages {
		if ctx.Err() != nil || !s.opts.Leads() {
			return
		}
		r := s.attempt(ctx, hook, m.Event)
		switch {
		case ctx.Err() != nil && !r.ok: // it is tried again after the next start
			return
		case r.ok:
			s.counts.sent.Add(1)
			s.record(ctx, outcome{message: m, sent: true})
		case r.gone:
			s.counts.failed.Add(1)
			s.mu.Lock()
			s.gone[hook.Name] = hook
			s.mu.Unlock()
			s.opts.Log.Warn().Str("webhook", hook.Name).Msg("the webhook is gone: it is told nothing until its URL changes")
			s.giveUp(ctx, messages[i:], goneReason)
			return
		default:
			s.counts.failed.Add(1)
			s.opts.Log.Warn().Err(r.err).Str("webhook", hook.Name).Str("event", m.Event.ID).Int("attempts", m.Attempts+1).Msg("a message did not arrive")
			if r.messageOnly {
				s.record(ctx, s.failedOutcome(m, r))
				continue
			}
			for _, waits := range messages[i:] {
				s.record(ctx, s.failedOutcome(waits, r))
			}
			return
		}
	}
}

// failedOutcome is what becomes of a message that did not arrive.
func (s *Sender) failedOutcome(m plan.Message, r attemptResult) outcome {
	now := time.Now()
	after := retryDelay(s.opts.Backoff, m.Attempts)
	until := now.Add(max(after, min(r.retryAfter, maxRetryAfter)))
	if until.After(m.Posted.Add(Patience)) {
		return outcome{message: m, why: r.why + "; given up after 3 days"}
	}
	return outcome{message: m, until: until, why: r.why}
}

// retryDelay is first, doubled with each attempt that failed before, up to rarest, less up to a half: not all come at once.
func retryDelay(first time.Duration, attempts int) time.Duration {
	d := backoff.Exponential(first, maxRetryDelay, attempts)
	return d - rand.N(d/2+1)
}

func (s *Sender) giveUp(ctx context.Context, messages []plan.Message, why string) {
	for _, m := range messages {
		s.record(ctx, outcome{message: m, why: why})
	}
}

// record writes down what became of a message. What can't be written down is owed: the message is not sent again meanwhile.
func (s *Sender) record(ctx context.Context, o outcome) {
	err := s.storeOutcome(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.unrecorded, messageKey(o.message))
		return
	}
	s.unrecorded[messageKey(o.message)] = o
	s.opts.Log.Error().Err(err).Str("webhook", o.message.Webhook).Msg("what became of a message is not kept yet")
}

func (s *Sender) storeOutcome(ctx context.Context, o outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout) // what was sent is to be known
	defer cancel()
	if o.sent {
		return s.opts.Store.MarkSent(ctx, o.message)
	}
	return s.opts.Store.Postpone(ctx, o.message, o.until, o.why)
}

// retryUnrecorded writes down what is owed.
func (s *Sender) retryUnrecorded(ctx context.Context) {
	s.mu.Lock()
	owed := make([]outcome, 0, len(s.unrecorded))
	for _, o := range s.unrecorded {
		owed = append(owed, o)
	}
	s.mu.Unlock()
	for _, o := range owed {
		if s.record(ctx, o); s.isUnrecorded(o.message) { // the next would fare no better
			return
		}
	}
}

func (s *Sender) isUnrecorded(m plan.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, owed := s.unrecorded[messageKey(m)]
	return owed
}
