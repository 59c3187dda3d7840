package controlplane

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	waiting  prometheus.Gauge
	streams  prometheus.Gauge
	told     prometheus.Counter
	ended    *prometheus.CounterVec
	shed     prometheus.Counter

	handshakes prometheus.Gauge
	refused    prometheus.Counter

	handler http.Handler
}

func newMetrics(r *prometheus.Registry, views Views) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_http_requests_total", Help: "Requests answered."}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_http_request_seconds", Help: "Time to answer, waiting included.", Buckets: []float64{.0005, .002, .01, .05, .25, 1, 5, 30, 65},
		}, []string{"route"}),
		waiting:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_long_polls", Help: "Cells that wait for their answer to change."}),
		streams:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_streams", Help: "Cells that are told over a stream."}),
		told:       prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_stream_events_total", Help: "Answers that were told over streams."}),
		ended:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_streams_ended_total", Help: "Streams that ended, by why."}, []string{"reason"}),
		shed:       prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_shed_total", Help: "Requests of cells that were turned away because too many were under way."}),
		handshakes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_tls_handshakes", Help: "TLS handshakes under way."}),
		refused:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_tls_refused_total", Help: "Connections that were closed because too many came at once."}),
		handler:    promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.waiting, m.streams, m.told, m.ended, m.shed, m.handshakes, m.refused, newFleet(views)} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// cut counts a stream that began out. reason is one of ours.
func (m *metrics) cut(reason string) {
	m.streams.Dec()
	m.ended.WithLabelValues(reason).Inc()
}

func (m *metrics) request(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		method = "other" // a client must not make series
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// fleet tells of channels and cells as the newest view has them, when it is scraped.
type fleet struct {
	views                                                   Views
	cells, sequence, blocked, faults, diverged, since, took *prometheus.Desc
}

func newFleet(views Views) *fleet {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &fleet{
		views:    views,
		cells:    desc("sluice_cells", "Cells by what they run and how.", "channel", "release", "state"),
		sequence: desc("sluice_channel_head_sequence", "Sequence of the channel's head.", "channel", "release"),
		blocked:  desc("sluice_blocked", "Verdicts that hold something back.", "channel", "gate"),
		faults:   desc("sluice_repository_faults", "Faults in the release repository, warnings left out."),
		diverged: desc("sluice_repository_diverged", "1: the branch was force-pushed, and nothing moves."),
		since:    desc("sluice_plan_timestamp_seconds", "When the newest plan was made."),
		took:     desc("sluice_plan_seconds", "How long it took to make the newest plan."),
	}
}

func (f *fleet) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.cells, f.sequence, f.blocked, f.faults, f.diverged, f.since, f.took} {
		out <- d
	}
}

func (f *fleet) Collect(out chan<- prometheus.Metric) {
	v := f.views.View()
	if v == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	type key struct{ channel, release, state string }
	count := map[key]int{}
	for name, cell := range v.Desired.Cells {
		k := key{cell.Channel, "", string(StateUnknown)}
		if s := v.Observed.Cells[name]; s != nil && s.State != "" {
			k.release, k.state = s.Release, string(s.State)
		}
		count[k]++
	}
	for k, n := range count {
		gauge(f.cells, float64(n), k.channel, k.release, k.state)
	}
	for name, c := range v.Desired.Channels {
		if c.Effective != nil {
			gauge(f.sequence, float64(c.Effective.Sequence), name, c.Effective.Release)
		}
	}
	blocked := map[[2]string]int{}
	for _, b := range v.Plan.Blocked {
		blocked[[2]string{b.Channel, b.Gate}]++
	}
	for k, n := range blocked {
		gauge(f.blocked, float64(n), k[0], k[1])
	}
	faults := 0
	for _, fault := range v.Desired.Faults {
		if !fault.Warning {
			faults++
		}
	}
	gauge(f.faults, float64(faults))
	diverged := 0.0
	if v.Observed.Diverged != nil {
		diverged = 1
	}
	gauge(f.diverged, diverged)
	gauge(f.since, float64(v.Plan.Now.UnixMilli())/1000)
	gauge(f.took, v.Took.Seconds())
}
