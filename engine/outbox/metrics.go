package outbox

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/flags/repository"
)

type counts struct{ sent, failed atomic.Uint64 }

// Collector returns metrics of the queue, which all replicas share, and of what this process sent. Labels are webhooks'
// names, and those of sinks of notices.
func (s *Sender) Collector() prometheus.Collector {
	queue := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"webhook"}, nil)
	}
	return &collector{
		sender: s,
		sent: prometheus.NewDesc("sluice_webhook_sent_total",
			"Messages to webhooks that arrived, sent by this process.", nil, nil),
		failed: prometheus.NewDesc("sluice_webhook_failed_total",
			"Attempts to send a message to a webhook that failed, by this process.", nil, nil),
		waiting: queue("sluice_webhook_waiting", "Messages that have not arrived yet."),
		oldest:  queue("sluice_webhook_oldest_seconds", "Age of the oldest message that has not arrived yet."),
		lost: queue("sluice_webhook_given_up",
			"Messages that never arrived and are not tried any more, of those that are remembered."),
	}
}

type collector struct {
	sender                              *Sender
	sent, failed, waiting, oldest, lost *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.sent, c.failed, c.waiting, c.oldest, c.lost} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.sender
	out <- prometheus.MustNewConstMetric(c.sent, prometheus.CounterValue, float64(s.counts.sent.Load()))
	out <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(s.counts.failed.Load()))
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	states, err := s.readStates(ctx)
	if err != nil {
		s.opts.Log.Warn().Err(err).Msg("metrics of webhooks are missing")
		return
	}
	now := time.Now()
	for _, w := range states {
		age := 0.0
		if !w.Oldest.IsZero() {
			age = max(0, now.Sub(w.Oldest).Seconds())
		}
		for d, value := range map[*prometheus.Desc]float64{c.waiting: float64(w.Waiting), c.oldest: age,
			c.lost: float64(w.GivenUp)} {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, w.Name)
		}
	}
}

// readStates returns the state of all targets; those of notices have notices.TargetPrefix before their names.
func (s *Sender) readStates(ctx context.Context) (states []State, err error) {
	var hooks []repository.Webhook
	var subscriptions *notices.Subscriptions
	if s.opts.Webhooks != nil {
		hooks, _ = s.opts.Webhooks()
	}
	if s.opts.Notices.Subscriptions != nil {
		subscriptions, _ = s.opts.Notices.Subscriptions()
	}
	if len(hooks) == 0 && subscriptions == nil {
		return nil, nil
	}
	messages, err := s.opts.Store.Messages(ctx, maxSummed)
	if err != nil {
		return nil, err
	}
	states = StatesOf(hooks, messages)
	for _, sink := range NoticeStates(subscriptions, messages) {
		sink.Name = notices.Target(sink.Name, "")
		states = append(states, sink)
	}
	return states, nil
}
