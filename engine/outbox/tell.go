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
	Patience  = 3 * 24 * time.Hour
	rarest    = time.Hour       // the longest time between two attempts, if the webhook does not ask for a longer one
	longest   = 24 * time.Hour  // that it may ask for
	writeDown = 5 * time.Second // for what became of a message, also while stopping
)

// outcome is what became of a message.
type outcome struct {
	message plan.Message
	sent    bool
	until   time.Time // not sent: when it is tried again; zero: it is given up
	why     string
}

// tell sends messages to a webhook, one after the other. Where one does not get through, those behind it would not either: they
// wait as well.
func (s *Sender) tell(ctx context.Context, hook repository.Webhook, messages []plan.Message) {
	s.mu.Lock()
	was, gone := s.gone[hook.Name]
	s.mu.Unlock()
	if gone && was.URL == hook.URL {
		s.giveUp(ctx, messages, whyGone)
		return
	}
	for i, m := range messages {
		if ctx.Err() != nil || !s.opts.Leads() {
			return
		}
		r := s.post(ctx, hook, m.Event)
		switch {
		case ctx.Err() != nil && !r.ok: // it is tried again after the next start
			return
		case r.ok:
			s.counts.sent.Add(1)
			s.keep(ctx, outcome{message: m, sent: true})
		case r.gone:
			s.counts.failed.Add(1)
			s.mu.Lock()
			s.gone[hook.Name] = hook
			s.mu.Unlock()
			s.opts.Log.Warn().Str("webhook", hook.Name).Msg("the webhook is gone: it is told nothing until its URL changes")
			s.giveUp(ctx, messages[i:], whyGone)
			return
		default:
			s.counts.failed.Add(1)
			s.opts.Log.Warn().Err(r.err).Str("webhook", hook.Name).Str("event", m.Event.ID).Int("attempts", m.Attempts+1).Msg("a message did not arrive")
			if r.alone {
				s.keep(ctx, s.later(m, r))
				continue
			}
			for _, waits := range messages[i:] {
				s.keep(ctx, s.later(waits, r))
			}
			return
		}
	}
}

// later is what becomes of a message that did not arrive.
func (s *Sender) later(m plan.Message, r result) outcome {
	now := time.Now()
	after := pause(s.opts.Backoff, m.Attempts)
	until := now.Add(max(after, min(r.after, longest)))
	if until.After(m.Posted.Add(Patience)) {
		return outcome{message: m, why: r.why + "; given up after 3 days"}
	}
	return outcome{message: m, until: until, why: r.why}
}

// pause is first, doubled with each attempt that failed before, up to rarest, less up to a half: not all come at once.
func pause(first time.Duration, attempts int) time.Duration {
	d := backoff.Exponential(first, rarest, attempts)
	return d - rand.N(d/2+1)
}

func (s *Sender) giveUp(ctx context.Context, messages []plan.Message, why string) {
	for _, m := range messages {
		s.keep(ctx, outcome{message: m, why: why})
	}
}

// keep writes down what became of a message. What can't be written down is owed: the message is not sent again meanwhile.
func (s *Sender) keep(ctx context.Context, o outcome) {
	err := s.write(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.owed, key(o.message))
		return
	}
	s.owed[key(o.message)] = o
	s.opts.Log.Error().Err(err).Str("webhook", o.message.Webhook).Msg("what became of a message is not kept yet")
}

func (s *Sender) write(ctx context.Context, o outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeDown) // what was sent is to be known
	defer cancel()
	if o.sent {
		return s.opts.Store.MarkSent(ctx, o.message)
	}
	return s.opts.Store.Postpone(ctx, o.message, o.until, o.why)
}

// settle writes down what is owed.
func (s *Sender) settle(ctx context.Context) {
	s.mu.Lock()
	owed := make([]outcome, 0, len(s.owed))
	for _, o := range s.owed {
		owed = append(owed, o)
	}
	s.mu.Unlock()
	for _, o := range owed {
		if s.keep(ctx, o); s.owes(o.message) { // the next would fare no better
			return
		}
	}
}

func (s *Sender) owes(m plan.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, owed := s.owed[key(m)]
	return owed
}
