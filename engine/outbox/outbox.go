// Package outbox tells webhooks what happened to announcements and flags: it sends the messages that are due in the
// store, each as one CloudEvent, signed as in Standard Webhooks.
//
// A message arrives at least once, and always under the same id: a message whose outcome could not be stored is sent
// again. No order is promised. Failed messages are retried, ever more rarely, for three days; one webhook never delays
// another. Only the leader sends. The package decides nothing about flags, and the outcome of a message changes none.
//
// A response is not trusted: its time and size are limited, redirects are not followed, and its text is not stored.
// Errors shown to people name no address, since a webhook's address may be a secret.
//
// All methods of a Sender may be called from any goroutine.
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
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/wake"
)

// Options of a Sender. Store, Webhooks and Secret are required.
type Options struct {
	Store    engine.Outbox
	Webhooks func() (all []repository.Webhook, ok bool) // ok is false while the webhooks are unknown
	// Secret returns the secrets that sign a webhook's messages: one or more of whsec_BASE64, newest first. The error's
	// text is shown.
	Secret func(webhook string) (string, error)
	Leads  func() bool // reports whether this process may send; nil: it may
	Log    zerolog.Logger
	Reach  reach.List // where messages may be sent (R53)

	Timeout time.Duration // of one attempt; default 10 s
	Poll    time.Duration // interval of looking for due messages; default 1 s
	Backoff time.Duration // the delay after the first failed attempt, doubled with each; default 5 s
}

type Sender struct {
	opts    Options
	client  *http.Client
	pending wake.Signal // there may be something to send
	counts  counts

	mu       sync.Mutex                    // guards the fields below
	inFlight map[string]bool               // webhooks that messages are being sent to
	gone     map[string]repository.Webhook // webhooks that answered 410 Gone, as they were then
	// unrecorded holds outcomes that could not be stored, by message; such a message is not sent again.
	unrecorded map[string]outcome
}

// New returns a sender. It sends while Run runs.
func New(o Options) (*Sender, error) {
	if o.Store == nil || o.Webhooks == nil || o.Secret == nil {
		return nil, errors.New("outbox.Options: Store, Webhooks and Secret are required")
	}
	if o.Leads == nil {
		o.Leads = func() bool { return true }
	}
	for d, otherwise := range map[*time.Duration]time.Duration{&o.Timeout: 10 * time.Second, &o.Poll: time.Second,
		&o.Backoff: 5 * time.Second} {
		if *d <= 0 {
			*d = otherwise
		}
	}
	return &Sender{
		opts: o, client: o.Reach.Client(reach.Options{Timeout: o.Timeout}), pending: wake.New(),
		inFlight: map[string]bool{}, gone: map[string]repository.Webhook{}, unrecorded: map[string]outcome{},
	}, nil
}

// NotifyPosted notes that there may be something to send.
func (s *Sender) NotifyPosted() { s.pending.Notify() }

// maxDue limits how many due messages are read at once.
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
				s.opts.Log.Error().Err(err).Msg("due messages to webhooks could not be read")
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

// sendDue starts a worker for each webhook that has due messages and no worker yet.
func (s *Sender) sendDue(ctx context.Context, workers *sync.WaitGroup) error {
	hooks, ok := s.opts.Webhooks()
	if !ok {
		return nil
	}
	s.retryUnrecorded(ctx)
	// Read before the due messages, so that a message is not sent twice while its outcome is being stored.
	busy := s.inFlightHooks()
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
				s.giveUp(ctx, messages, "the flags repository's settings no longer have this webhook")
			} else {
				s.sendMessages(ctx, hook, messages)
			}
			s.mu.Lock()
			delete(s.inFlight, name)
			s.mu.Unlock()
			s.NotifyPosted() // there may be more due messages
		})
	}
	return nil
}

func (s *Sender) inFlightHooks() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.inFlight)
}

// claimMessages returns the messages of webhooks that have no worker, by webhook, and marks these webhooks as in
// flight.
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
