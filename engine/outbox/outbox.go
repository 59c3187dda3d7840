// Package outbox tells webhooks what happened to announcements and flags: it sends the messages that wait in the store, each as
// one CloudEvent, signed as Standard Webhooks has it.
//
// A message arrives at least once, and always under the same id: what was sent and could not be written down is sent again. No
// order is promised. Whoever is down is tried again, ever more rarely, for three days; one webhook never delays another. Only
// who leads sends. It decides nothing about flags, and what becomes of a message changes none.
//
// An answer is never believed: it has a time and a size, leads nowhere, and its text is kept nowhere. What people are shown of
// an error names no address, for a webhook's may be a secret.
package outbox

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/wake"
)

// Options of a Sender. Store, Webhooks and Secret are required.
type Options struct {
	Store    engine.Outbox
	Webhooks func() (all []repository.Webhook, ok bool) // that there are; ok is false while nobody knows
	Secret   func(webhook string) (string, error)       // what messages to it are signed with: one or more of whsec_BASE64, the newest first; the error's text is shown
	Leads    func() bool                                // whether this process may send; nil: it may
	Log      zerolog.Logger

	Timeout time.Duration // of one attempt; default 10 s
	Poll    time.Duration // how often it is looked for messages without being told of any; default 1 s
	Backoff time.Duration // after the first attempt that failed, doubled with each; default 5 s
}

// Sender sends. Its methods may be called from any goroutine.
type Sender struct {
	opts    Options
	client  *http.Client
	pending wake.Signal // there may be something to send
	counts  counts

	mu         sync.Mutex                    // guards what follows
	inFlight   map[string]bool               // webhooks that are being told
	gone       map[string]repository.Webhook // webhooks that said so, as they were then
	unrecorded map[string]outcome            // what could not be written down, by message: until it is, the message is not sent again
}

// New makes a sender. It sends while Run runs.
func New(o Options) (*Sender, error) {
	if o.Store == nil || o.Webhooks == nil || o.Secret == nil {
		return nil, errors.New("outbox.Options: Store, Webhooks and Secret are required")
	}
	if o.Leads == nil {
		o.Leads = func() bool { return true }
	}
	for d, otherwise := range map[*time.Duration]time.Duration{&o.Timeout: 10 * time.Second, &o.Poll: time.Second, &o.Backoff: 5 * time.Second} {
		if *d <= 0 {
			*d = otherwise
		}
	}
	return &Sender{
		opts: o, client: newClient(o.Timeout), pending: wake.New(),
		inFlight: map[string]bool{}, gone: map[string]repository.Webhook{}, unrecorded: map[string]outcome{},
	}, nil
}

// NotifyPosted says that there may be something to send.
func (s *Sender) NotifyPosted() { s.pending.Notify() }

// maxDue is how many messages are looked at at once.
const maxDue = 500

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer s.client.CloseIdleConnections()
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	for {
		if s.opts.Leads() {
			if err := s.sendDue(ctx, &workers); err != nil && ctx.Err() == nil {
				s.opts.Log.Error().Err(err).Msg("look for messages to webhooks")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.pending:
		}
	}
}

// sendDue has a worker send what is due to each webhook that has none.
func (s *Sender) sendDue(ctx context.Context, workers *sync.WaitGroup) error {
	hooks, ok := s.opts.Webhooks()
	if !ok {
		return nil
	}
	s.retryUnrecorded(ctx)
	busy := s.inFlightHooks() // before it is read what is due: what they are about to write down is not read again
	due, err := s.opts.Store.DueMessages(ctx, time.Now(), maxDue)
	if err != nil {
		return err
	}
	known := map[string]repository.Webhook{}
	for _, h := range hooks {
		known[h.Name] = h
	}
	for name, messages := range s.claimMessages(due, busy) {
		workers.Go(func() {
			hook, ok := known[name]
			if !ok {
				s.giveUp(ctx, messages, "the settings of the flags repository have no such webhook any more")
			} else {
				s.sendMessages(ctx, hook, messages)
			}
			s.mu.Lock()
			delete(s.inFlight, name)
			s.mu.Unlock()
			s.NotifyPosted() // meanwhile, or behind these, there may be more
		})
	}
	return nil
}

// inFlightHooks gives the webhooks that are being told.
func (s *Sender) inFlightHooks() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.inFlight)
}

// claimMessages gives the messages to webhooks that nobody was telling, by webhook, and marks those as being told.
func (s *Sender) claimMessages(due []plan.Message, busy map[string]bool) map[string][]plan.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := map[string][]plan.Message{}
	for _, m := range due {
		if _, owed := s.unrecorded[messageKey(m)]; !owed && !busy[m.Webhook] {
			to[m.Webhook] = append(to[m.Webhook], m)
		}
	}
	for name := range to {
		s.inFlight[name] = true
	}
	return to
}

func messageKey(m plan.Message) string { return m.Webhook + "\x00" + m.Event.ID }
