package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/view"
)

// debugMetrics are of what cells report of debug access, summed by channel.
type debugMetrics struct {
	view     func() *view.View
	requests *prometheus.Desc
}

func newDebugMetrics(v func() *view.View) *debugMetrics {
	return &debugMetrics{view: v, requests: prometheus.NewDesc("sluice_debug_requests",
		"Requests for debug access that are not over, as cells report them: open, permitted, or live.",
		[]string{"channel", "state"}, nil)}
}

func (m *debugMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.requests }

func (m *debugMetrics) Collect(c chan<- prometheus.Metric) {
	v, out := m.view(), metricWriter(c)
	if v == nil {
		return
	}
	for name, channel := range v.Desired.Channels {
		counts := map[string]int{}
		for _, cell := range channel.Cells {
			if s := v.Observed.Cells[cell.Name]; s != nil {
				for _, d := range s.Debug {
					counts[d.State]++
				}
			}
		}
		for _, state := range []string{cells.DebugOpen, cells.DebugPermitted, cells.DebugLive} {
			out.gauge(m.requests, float64(counts[state]), name, state)
		}
	}
}
