package controlplane

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what this server counts of itself. Labels are routes and reasons of ours, methods and codes: nothing that
// a client says becomes one.
type metrics struct {
	*requests
	streams    prometheus.Gauge
	waiting    prometheus.Gauge
	reporting  prometheus.Gauge
	handshakes prometheus.Gauge
	told       prometheus.Counter
	ended      *prometheus.CounterVec
	shed       *prometheus.CounterVec
	handler    http.Handler
}

func newMetrics(r *prometheus.Registry, o Options) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		requests:   newRequests(),
		streams:    gauge("sluice_streams", "Cells that are told over a stream."),
		waiting:    gauge("sluice_long_polls", "Cells that wait for their answer to change."),
		reporting:  gauge("sluice_reports_in_flight", "Reports that are not durable yet."),
		handshakes: gauge("sluice_tls_handshakes", "TLS handshakes under way."),
		told:       prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_stream_events_total", Help: "Answers that were told over streams."}),
		ended:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_streams_ended_total", Help: "Streams that ended, by why."}, []string{"reason"}),
		shed:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_shed_total", Help: "Requests and connections that were turned away, by why."}, []string{"reason"}),
		handler:    promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
	}
	if store, ok := o.Journal.(interface{ Reads() int64 }); ok {
		reads := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_store_reads_total", Help: "Reads of the database; polls make none."},
			func() float64 { return float64(store.Reads()) })
		if err := r.Register(reads); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	all := []prometheus.Collector{m.requests, m.streams, m.waiting, m.reporting, m.handshakes, m.told, m.ended, m.shed, newFleetMetrics(o)}
	all = append(all, o.Collect...)
	if o.Flags != nil {
		all = append(all, newFlagMetrics(o.Views))
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// cut counts a stream that had begun out. reason is one of ours.
func (m *metrics) cut(reason string) {
	m.streams.Dec()
	m.ended.WithLabelValues(reason).Inc()
}

// turnedAway counts what was shed. reason is one of ours.
func (m *metrics) turnedAway(reason string) { m.shed.WithLabelValues(reason).Inc() }
