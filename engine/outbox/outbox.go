// Package outbox delivers what people and programs want to hear of: what happened to announcements and flags, to the
// webhooks of the flags repository, and notices, to the sinks of notices.yaml. It sends the messages that are due in
// the store. A webhook gets each message as one CloudEvent, signed as in Standard Webhooks; chat programs and mailboxes
// get what is due at one time as one message.
//
// A message arrives at least once, and always under the same id: a message whose outcome could not be stored is sent
// again. No order is promised. Failed messages are retried, ever more rarely, for three days; one target never delays
// another. Only the leader sends. The package decides nothing, and the outcome of a message changes nothing else.
//
// A response is not trusted: its time and size are limited, redirects are not followed, and its text is not stored.
// Errors shown to people name no address, since the address may be a secret.
//
// All methods of a Sender may be called from any goroutine.
package outbox

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/wake"
)

// Options of a Sender. Store is required, and so are Webhooks with Secret, or Notices.
type Options struct {
	Store engine.Outbox
	// Webhooks returns the webhooks of the flags repository; ok is false while they are unknown. Nil: there are none.
	Webhooks func() (all []repository.Webhook, ok bool)
	// Secret returns the secrets that sign a webhook's messages: one or more of whsec_BASE64, newest first. The error's
	// text is shown.
	Secret  func(webhook string) (string, error)
	Notices NoticeOptions
	Leads   func() bool // reports whether this process may send; nil: it may
	Log     zerolog.Logger
	Reach   reach.List // where messages may be sent (R53)

	Timeout time.Duration // of one attempt; default 10 s
	Poll    time.Duration // interval of looking for due messages; default 1 s
	Backoff time.Duration // the delay after the first failed attempt, doubled with each; default 5 s
}

// Sender sends the messages that are due.
type Sender struct {
	opts    Options
	poster  poster
	pending wake.Signal // there may be something to send
	counts  counts

	mu       sync.Mutex        // guards the fields below
	inFlight map[string]bool   // targets that messages are being sent to
	gone     map[string]string // targets that answered 410 Gone, with their addresses then
	// unrecorded holds outcomes that could not be stored, by message; such a message is not sent again.
	unrecorded map[string]outcome
}

// New returns a sender. It sends while Run runs.
func New(o Options) (*Sender, error) {
	if o.Store == nil || (o.Webhooks == nil) != (o.Secret == nil) ||
		(o.Notices.Subscriptions == nil) != (o.Notices.Secret == nil) {
		return nil, errors.New("outbox.Options: Store is required, and Webhooks and Notices with their secrets")
	}
	return newSender(o), nil
}

func newSender(o Options) *Sender {
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
		opts: o, poster: poster{o.Reach.Client(reach.Options{Timeout: o.Timeout}), o.Timeout}, pending: wake.New(),
		inFlight: map[string]bool{}, gone: map[string]string{}, unrecorded: map[string]outcome{},
	}
}

// NotifyPosted notes that there may be something to send.
func (s *Sender) NotifyPosted() { s.pending.Notify() }

// maxDue limits how many due messages are read at once.
const maxDue = 500

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer s.poster.client.CloseIdleConnections()
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	for {
		if s.opts.Leads() {
			if err := s.sendDue(ctx, &workers); err != nil && ctx.Err() == nil {
				s.opts.Log.Error().Err(err).Msg("due messages could not be read")
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

// sendDue starts a worker for each target that has due messages and no worker yet.
func (s *Sender) sendDue(ctx context.Context, workers *sync.WaitGroup) error {
	s.retryUnrecorded(ctx)
	// Read before the due messages, so that a message is not sent twice while its outcome is being stored.
	busy := s.inFlightTargets()
	due, err := s.opts.Store.DueMessages(ctx, time.Now(), maxDue)
	if err != nil {
		return err
	}
	for name, messages := range s.claimMessages(due, busy) {
		to, missing := s.findSink(name)
		workers.Go(func() {
			switch {
			case to != nil:
				s.sendMessages(ctx, name, to, messages)
			case missing != "":
				s.giveUp(ctx, messages, missing)
			}
			s.mu.Lock()
			delete(s.inFlight, name)
			s.mu.Unlock()
			if to != nil || missing != "" {
				s.NotifyPosted() // there may be more due messages
			}
		})
	}
	return nil
}

func (s *Sender) inFlightTargets() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.inFlight)
}

// claimMessages returns the messages of targets that have no worker, by target, and marks these targets as in flight.
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
