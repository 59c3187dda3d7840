// Package metrics is what the control plane tells Prometheus: of the requests, streams and handshakes that it serves, and of
// channels, cells and flags as the newest View has them when it is scraped.
//
// It reads no database. Labels are routes and reasons of ours, methods and codes, and names of channels and releases in the
// repository: nothing that a client says becomes a series. All methods may be called from any goroutine.
package metrics

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/view"
)

// Options say what there is to tell of. Registry and View are required.
type Options struct {
	Registry *prometheus.Registry
	View     func() *view.View
	Flags    bool                   // there is a flags repository
	Numbers  func() engine.Numbers  // nil: not shown
	Reads    func() int64           // of the database; nil: not shown
	Collect  []prometheus.Collector // what else is told of
}

// Metrics is what this server counts of itself.
type Metrics struct {
	Requests   *Requests
	Streams    prometheus.Gauge
	LongPolls  prometheus.Gauge
	Reports    prometheus.Gauge // that are not durable yet
	Handshakes prometheus.Gauge
	Events     prometheus.Counter // that were sent over streams
	Handler    http.Handler       // of GET /metrics

	streamsEnded *prometheus.CounterVec
	shed         *prometheus.CounterVec
}

// New registers everything.
func New(o Options) (*Metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		Requests:     newRequests(),
		Streams:      gauge("sluice_streams", "Cells that are told over a stream."),
		LongPolls:    gauge("sluice_long_polls", "Cells that wait for their answer to change."),
		Reports:      gauge("sluice_reports_in_flight", "Reports that are not durable yet."),
		Handshakes:   gauge("sluice_tls_handshakes", "TLS handshakes under way."),
		Events:       prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_stream_events_total", Help: "Answers that were told over streams."}),
		streamsEnded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_streams_ended_total", Help: "Streams that ended, by why."}, []string{"reason"}),
		shed:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_shed_total", Help: "Requests and connections that were turned away, by why."}, []string{"reason"}),
		Handler:      promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
	}
	if o.Reads != nil {
		reads := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_store_reads_total", Help: "Reads of the database; polls make none."},
			func() float64 { return float64(o.Reads()) })
		if err := o.Registry.Register(reads); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	all := []prometheus.Collector{m.Requests, m.Streams, m.LongPolls, m.Reports, m.Handshakes, m.Events, m.streamsEnded, m.shed, newFleetMetrics(o.View, o.Numbers)}
	all = append(all, o.Collect...)
	if o.Flags {
		all = append(all, newFlagMetrics(o.View))
	}
	for _, c := range all {
		if err := o.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// CountStreamEnd counts a stream that had begun out. reason is one of ours.
func (m *Metrics) CountStreamEnd(reason string) {
	m.Streams.Dec()
	m.streamsEnded.WithLabelValues(reason).Inc()
}

// CountShed counts what was turned away. reason is one of ours.
func (m *Metrics) CountShed(reason string) { m.shed.WithLabelValues(reason).Inc() }
