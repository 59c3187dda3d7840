package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/view"
)

// trustMetrics are those of what the engine signs for cells that verify releases.
type trustMetrics struct {
	view      func() *view.View
	published func() *trust.Published // nil: nothing is ever signed
	until     *prometheus.Desc
}

func newTrustMetrics(v func() *view.View, published func() *trust.Published) *trustMetrics {
	return &trustMetrics{view: v, published: published,
		until: prometheus.NewDesc("sluice_trust_served_expires_timestamp_seconds", "Unix time until which cells take new "+
			"releases by the engine's signed timestamp; 0: there is none, though release signers sign.", nil, nil)}
}

// Describe implements prometheus.Collector.
func (m *trustMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.until }

// Collect implements prometheus.Collector.
func (m *trustMetrics) Collect(out chan<- prometheus.Metric) {
	v := m.view()
	if v == nil || v.Desired == nil || v.Desired.Trust == nil || v.Desired.Trust.Targets == nil ||
		v.Desired.Trust.Releases == nil {
		return // nobody signs
	}
	until := 0.0
	if m.published != nil {
		if p := m.published(); p != nil {
			until = float64(p.Served.Signed.Add(trust.ServedLifetime).Unix())
		}
	}
	metricWriter(out).gauge(m.until, until)
}
