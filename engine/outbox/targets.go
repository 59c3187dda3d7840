package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/flags/announce"
)

// NoticeOptions say where notices go.
type NoticeOptions struct {
	// Subscriptions returns what is in force; ok is false while that is not known. Nil: no notices are sent.
	Subscriptions func() (s *notices.Subscriptions, ok bool)
	// Secret returns the content of a file of secrets by its name. The error's text is shown.
	Secret func(name string) (string, error)
}

// findSink returns the sink of a target. Without a sink, missing says why there is none any more, and is empty while
// that is not known.
func (s *Sender) findSink(target string) (found sink, missing string) {
	if name, recipient, ok := notices.ParseTarget(target); ok {
		if s.opts.Notices.Subscriptions == nil {
			return nil, ""
		}
		subscriptions, known := s.opts.Notices.Subscriptions()
		if !known {
			return nil, ""
		}
		if found = s.noticeSink(subscriptions, name, recipient); found != nil {
			return found, ""
		}
		return nil, notices.File + " no longer has this sink"
	}
	if s.opts.Webhooks == nil {
		return nil, ""
	}
	hooks, known := s.opts.Webhooks()
	if !known {
		return nil, ""
	}
	for _, h := range hooks {
		if h.Name == target {
			return webhook{s.poster, h.URL, func() (string, error) { return s.opts.Secret(h.Name) }}, ""
		}
	}
	return nil, "the flags repository's settings no longer have this webhook"
}

// noticeSink returns the sink of notices with that name and recipient; nil: there is none.
func (s *Sender) noticeSink(subscriptions *notices.Subscriptions, name, recipient string) sink {
	if subscriptions == nil {
		return nil
	}
	to := subscriptions.Sinks[name]
	if to == nil {
		return nil
	}
	secret := func() (string, error) {
		text, err := s.opts.Notices.Secret(to.Secret)
		return strings.TrimSpace(text), err
	}
	switch to.Type {
	case notices.WebhookSink:
		return webhook{s.poster, to.URL, secret}
	case notices.SlackSink:
		return chat{s.poster, secret, notices.Digest.Slack}
	case notices.TeamsSink:
		return chat{s.poster, secret, notices.Digest.Teams}
	case notices.MailSink:
		if slices.Contains(to.To, recipient) || slices.Contains(subscriptions.Customers, name) {
			return mailbox{s.opts.Reach, s.opts.Timeout, to.From, recipient, secret}
		}
	}
	return nil
}

// NoticeMessage returns the message that carries a delivery.
func NoticeMessage(d notices.Delivery, now time.Time) (plan.Message, error) {
	body, err := json.Marshal(d.Notice)
	if err != nil {
		return plan.Message{}, fmt.Errorf("encode the notice %s: %w", d.Notice.ID, err)
	}
	n := d.Notice
	return plan.Message{Webhook: d.Target, Posted: now.UTC().Truncate(time.Millisecond),
		Next: d.Next.UTC().Truncate(time.Millisecond), Notice: body,
		Event: announce.Event{ID: n.ID, Type: string(n.Kind), Channel: n.Channel, At: n.At, Text: n.Title}}, nil
}

func decodeNotice(m plan.Message) (n notices.Notice, err error) {
	if err = json.Unmarshal(m.Notice, &n); err != nil || n.ID == "" {
		return n, errors.Join(errors.New("a message to "+m.Webhook+" holds no notice"), err)
	}
	return n, nil
}

// Messages reads the messages of one event.
type Messages interface {
	EventMessages(ctx context.Context, event string) ([]plan.Message, error)
}

// Receipts returns what came of a notice, by target; none: it was never posted to anybody, or is forgotten.
func Receipts(ctx context.Context, store Messages, notice string) ([]notices.Receipt, error) {
	found, err := store.EventMessages(ctx, notice)
	if err != nil {
		return nil, fmt.Errorf("read what came of %s: %w", notice, err)
	}
	all := make([]notices.Receipt, 0, len(found))
	for _, m := range found {
		all = append(all, notices.Receipt{Target: m.Webhook, Delivered: m.Sent, Next: m.Next, Posted: m.Posted,
			Why: m.Why})
	}
	return all, nil
}

// Try delivers a notice to a target once, without a store, and returns why it did not arrive; empty: it did.
func Try(ctx context.Context, o NoticeOptions, list reach.List, target string, n notices.Notice) (why string) {
	subscriptions, known := o.Subscriptions()
	s := newSender(Options{Notices: o, Reach: list})
	defer s.poster.client.CloseIdleConnections()
	name, recipient, ok := notices.ParseTarget(target)
	found := s.noticeSink(subscriptions, name, recipient)
	if !known || !ok || found == nil {
		return notices.File + " has no such sink"
	}
	now := time.Now()
	m, err := NoticeMessage(notices.Delivery{Target: target, Notice: n, Next: now}, now)
	if err != nil {
		return err.Error()
	}
	if _, r := found.deliver(ctx, []plan.Message{m}); !r.ok {
		return r.why
	}
	return ""
}
