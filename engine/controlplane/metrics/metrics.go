// Package metrics exports the control plane's Prometheus metrics: requests, streams and handshakes of this server, and
// channels, cells and flags of the newest View at each scrape.
//
// It reads no database. Labels are routes, fixed reasons, methods and codes, and the repository's channels and
// releases: what a client sends never makes a series. All methods may be called from any goroutine.
package metrics

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/view"
)

// Options configures Metrics. Registry and View are required.
type Options struct {
	Registry   *prometheus.Registry
	View       func() *view.View
	Flags      bool                    // with a flags repository
	Stats      func() engine.Stats     // engine counters; nil: not exported
	Reads      func() int64            // reads of the database; nil: not exported
	Trust      func() *trust.Published // what the engine signed for cells; nil: it never signs anything
	Collectors []prometheus.Collector  // further collectors
}

// Metrics holds the metrics that the server updates.
type Metrics struct {
	Requests   *Requests
	Streams    prometheus.Gauge
	LongPolls  prometheus.Gauge
	Reports    prometheus.Gauge // not durable yet
	Handshakes prometheus.Gauge
	// open, of all listeners but unix sockets
	Connections prometheus.Gauge
	Events      prometheus.Counter // sent over streams
	Handler     http.Handler       // serves GET /metrics

	streamsEnded *prometheus.CounterVec
	shed         *prometheus.CounterVec
}

// New registers all metrics.
func New(o Options) (*Metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		Requests:    newRequests(),
		Streams:     gauge("sluice_streams", "Cells connected by a stream."),
		LongPolls:   gauge("sluice_long_polls", "Waiting long polls."),
		Reports:     gauge("sluice_reports_in_flight", "Reports that are not durable yet."),
		Handshakes:  gauge("sluice_tls_handshakes", "TLS handshakes under way."),
		Connections: gauge("sluice_connections", "Open connections of all listeners, unix sockets apart."),
		Events: prometheus.NewCounter(
			prometheus.CounterOpts{Name: "sluice_stream_events_total", Help: "Events sent over streams."}),
		streamsEnded: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "sluice_streams_ended_total", Help: "Ended streams by reason."},
			[]string{"reason"}),
		shed: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "sluice_shed_total", Help: "Refused requests and connections by reason."},
			[]string{"reason"}),
		Handler: promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
	}
	if o.Reads != nil {
		reads := prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "sluice_store_reads_total", Help: "Reads of the database; polls make none."},
			func() float64 { return float64(o.Reads()) })
		if err := o.Registry.Register(reads); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	all := []prometheus.Collector{m.Requests, m.Streams, m.LongPolls, m.Reports, m.Handshakes, m.Connections, m.Events,
		m.streamsEnded, m.shed, newFleetMetrics(o.View, o.Stats), newMaintenanceMetrics(o.View),
		newDebugMetrics(o.View), newTrustMetrics(o.View, o.Trust)}
	all = append(all, o.Collectors...)
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

// CountStreamEnd counts the end of a stream. reason is one of a fixed set.
func (m *Metrics) CountStreamEnd(reason string) {
	m.Streams.Dec()
	m.streamsEnded.WithLabelValues(reason).Inc()
}

// CountShed counts a refused request or connection. reason is one of a fixed set.
func (m *Metrics) CountShed(reason string) { m.shed.WithLabelValues(reason).Inc() }
