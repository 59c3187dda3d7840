package outbox

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	// Patience is how long a message is retried.
	Patience      = 3 * 24 * time.Hour
	maxRetryDelay = time.Hour       // the longest delay between attempts, unless the target asks for more
	maxRetryAfter = 24 * time.Hour  // the longest delay that a target may ask for
	recordTimeout = 5 * time.Second // for storing an outcome, even while stopping
)

type outcome struct {
	message plan.Message
	sent    bool
	until   time.Time // when a message that was not sent is retried; zero: given up
	why     string
}

// sendMessages sends messages to a target, one delivery after the other. After a failure of the target, the messages
// behind would fail too, and are postponed as well.
func (s *Sender) sendMessages(ctx context.Context, name string, to sink, messages []plan.Message) {
	s.mu.Lock()
	was, gone := s.gone[name]
	s.mu.Unlock()
	if gone && was == to.address() {
		s.giveUp(ctx, messages, goneReason)
		return
	}
	for len(messages) > 0 {
		if ctx.Err() != nil || !s.opts.Leads() {
			return
		}
		covered, r := to.deliver(ctx, messages)
		if ctx.Err() != nil && !r.ok { // retried after the next start
			return
		}
		done := messages[:covered]
		if r.ok {
			s.counts.sent.Add(uint64(covered))
			for _, m := range done {
				s.record(ctx, outcome{message: m, sent: true})
			}
			messages = messages[covered:]
			continue
		}
		s.counts.failed.Add(1)
		if r.gone {
			s.mu.Lock()
			s.gone[name] = to.address()
			s.mu.Unlock()
			s.opts.Log.Warn().Str("webhook", name).Msg("the webhook is gone: nothing is sent until its URL changes")
			s.giveUp(ctx, messages, goneReason)
			return
		}
		s.opts.Log.Warn().Err(r.err).Str("webhook", name).Str("event", done[0].Event.ID).
			Int("attempts", done[0].Attempts+1).Msg("a message did not arrive")
		if !r.messageOnly {
			done = messages
		}
		until := s.retryTime(done[0], r) // the same for all, so that they are one message then
		for _, m := range done {
			s.record(ctx, failedOutcome(m, r, until))
		}
		messages = messages[len(done):]
	}
}

// retryTime returns when to try again after a message did not arrive.
func (s *Sender) retryTime(m plan.Message, r attemptResult) time.Time {
	return time.Now().Add(max(retryDelay(s.opts.Backoff, m.Attempts), min(r.retryAfter, maxRetryAfter)))
}

// failedOutcome returns the outcome of a message that did not arrive, and is retried at until.
func failedOutcome(m plan.Message, r attemptResult, until time.Time) outcome {
	if r.final {
		return outcome{message: m, why: r.why}
	}
	if until.After(m.Posted.Add(Patience)) {
		return outcome{message: m, why: r.why + "; given up after 3 days"}
	}
	return outcome{message: m, until: until, why: r.why}
}

// retryDelay returns first, doubled with each failed attempt up to maxRetryDelay, less a random part of up to a half.
func retryDelay(first time.Duration, attempts int) time.Duration {
	d := backoff.Exponential(first, maxRetryDelay, attempts)
	return d - rand.N(d/2+1)
}

func (s *Sender) giveUp(ctx context.Context, messages []plan.Message, why string) {
	for _, m := range messages {
		s.record(ctx, outcome{message: m, why: why})
	}
}

// record stores the outcome of a message. After an error the outcome is unrecorded, and the message is not sent again
// meanwhile.
func (s *Sender) record(ctx context.Context, o outcome) {
	err := s.storeOutcome(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.unrecorded, messageKey(o.message))
		return
	}
	s.unrecorded[messageKey(o.message)] = o
	s.opts.Log.Error().Err(err).Str("webhook", o.message.Webhook).
		Msg("the outcome of a message could not be stored yet")
}

func (s *Sender) storeOutcome(ctx context.Context, o outcome) error {
	// The outcome must be stored even after ctx.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if o.sent {
		return s.opts.Store.MarkSent(ctx, o.message)
	}
	return s.opts.Store.Postpone(ctx, o.message, o.until, o.why)
}

func (s *Sender) retryUnrecorded(ctx context.Context) {
	s.mu.Lock()
	owed := make([]outcome, 0, len(s.unrecorded))
	for _, o := range s.unrecorded {
		owed = append(owed, o)
	}
	s.mu.Unlock()
	for _, o := range owed {
		if s.record(ctx, o); s.isUnrecorded(o.message) { // the next one would fail too
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
