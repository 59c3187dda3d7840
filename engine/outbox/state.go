package outbox

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
)

// State is the state of a webhook, or of a sink of notices.
type State struct {
	Name        string    `json:"name"`
	Host        string    `json:"host" doc:"of its URL: the rest may be a secret"`
	Types       []string  `json:"types,omitempty" doc:"of events that it is told; none: all"`
	LastSuccess time.Time `json:"lastSuccess,omitzero" doc:"when a message arrived last, of those that are remembered"`
	Waiting     int       `json:"waiting" doc:"messages that have not arrived yet"`
	Oldest      time.Time `json:"oldest,omitzero" doc:"of those that wait: when it was posted"`
	Next        time.Time `json:"next,omitzero" doc:"when it is tried again"`
	GivenUp     int       `json:"givenUp" doc:"messages that never arrived, and are not tried any more, of those that are remembered"`
	LastError   string    `json:"lastError,omitempty" doc:"of the newest message that has not arrived"`
}

// maxSummed limits how many messages are summed up; it is more than the store keeps.
const maxSummed = 50_000

// ReadStates returns the state of webhooks from what the store has. Any process may call it.
func ReadStates(ctx context.Context, store engine.Outbox, webhooks []repository.Webhook) ([]State, error) {
	messages, err := store.Messages(ctx, maxSummed)
	if err != nil {
		return nil, fmt.Errorf("read the state of webhooks: %w", err)
	}
	return StatesOf(webhooks, messages), nil
}

// StatesOf returns the state of webhooks, in their order, from their messages, newest first. Pure.
func StatesOf(webhooks []repository.Webhook, messages []plan.Message) []State {
	states, at := make([]State, 0, len(webhooks)), map[string]int{}
	for _, h := range webhooks {
		s := State{Name: h.Name, Types: h.Types}
		if u, err := url.Parse(h.URL); err == nil {
			s.Host = u.Host
		}
		at[h.Name] = len(states)
		states = append(states, s)
	}
	for _, m := range messages {
		if i, ok := at[m.Webhook]; ok {
			states[i].addMessage(m)
		}
	}
	return states
}

// NoticeStates returns the state of the sinks of notices, by name, from messages, newest first. The recipients of one
// sink are summed up. Pure.
func NoticeStates(subscriptions *notices.Subscriptions, messages []plan.Message) []State {
	if subscriptions == nil {
		return nil
	}
	var states []State
	at := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(subscriptions.Sinks)) {
		at[name] = len(states)
		states = append(states, State{Name: name, Host: subscriptions.Sinks[name].Host()})
	}
	for _, m := range messages {
		if name, _, ok := notices.ParseTarget(m.Webhook); ok {
			if i, known := at[name]; known {
				states[i].addMessage(m)
			}
		}
	}
	return states
}

func (s *State) addMessage(m plan.Message) {
	if !m.Sent.IsZero() {
		if m.Sent.After(s.LastSuccess) {
			s.LastSuccess = m.Sent
		}
		return
	}
	if s.LastError == "" {
		s.LastError = m.Why
	}
	if m.Next.IsZero() {
		s.GivenUp++
		return
	}
	s.Waiting++
	if s.Oldest.IsZero() || m.Posted.Before(s.Oldest) {
		s.Oldest = m.Posted
	}
	if s.Next.IsZero() || m.Next.Before(s.Next) {
		s.Next = m.Next
	}
}
