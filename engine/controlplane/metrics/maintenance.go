package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// maintenanceMetrics are of what cells report of their maintenances, summed by channel.
type maintenanceMetrics struct {
	view                                      func() *view.View
	cells, overran, seconds, putOffs, refused *prometheus.Desc
	unasked, ignored                          *prometheus.Desc
}

func newMaintenanceMetrics(v func() *view.View) *maintenanceMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &maintenanceMetrics{view: v,
		cells: desc("sluice_cells_in_maintenance", "Cells by the phase of a maintenance for an update.", "channel", "phase"),
		overran: desc("sluice_cells_maintenance_overran",
			"Cells whose maintenance ended before the update was through, which it still is not.", "channel"),
		seconds: desc("sluice_cells_maintenance_seconds_total", "Time in which cells refused operations.", "channel"),
		putOffs: desc("sluice_cells_maintenance_put_off_total", "Updates put off for operations that took too long.",
			"channel"),
		refused: desc("sluice_cells_operations_refused_total", "Operations that cells refused, by kind.", "channel",
			"kind"),
		unasked: desc("sluice_cells_maintenance_unasked_total",
			"Maintenances in which no program of the cell had asked: the product was not waited for.", "channel"),
		ignored: desc("sluice_cells_refusals_ignored_total", "Operations that ran although the cell had refused them.",
			"channel"),
	}
}

func (m *maintenanceMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.cells, m.overran, m.seconds, m.putOffs, m.refused, m.unasked, m.ignored} {
		out <- d
	}
}

// maxRefusedKinds bounds the series of one channel: reports must not make series.
const maxRefusedKinds = 32

// channelMaintenance is the sum over a channel's cells.
type channelMaintenance struct {
	phases                    map[maintenance.Phase]int
	overran, seconds, putOffs int64
	unasked, ignored          int64
	refused                   map[string]int64
}

func (m *maintenanceMetrics) Collect(c chan<- prometheus.Metric) {
	v, out := m.view(), metricWriter(c)
	if v == nil {
		return
	}
	for name, channel := range v.Desired.Channels {
		sum := channelMaintenance{phases: map[maintenance.Phase]int{}, refused: map[string]int64{}}
		for _, cell := range channel.Cells {
			sum.add(v.Observed.Cells[cell.Name])
		}
		for _, phase := range []maintenance.Phase{maintenance.Announced, maintenance.Draining, maintenance.Drained} {
			out.gauge(m.cells, float64(sum.phases[phase]), name, string(phase))
		}
		out.gauge(m.overran, float64(sum.overran), name)
		out.total(m.seconds, sum.seconds, name)
		out.total(m.putOffs, sum.putOffs, name)
		out.total(m.unasked, sum.unasked, name)
		out.total(m.ignored, sum.ignored, name)
		for kind, n := range sum.refused {
			out.total(m.refused, n, name, kind)
		}
	}
}

func (sum *channelMaintenance) add(s *plan.CellState) {
	if s == nil || s.Maintenance == nil {
		return
	}
	r := s.Maintenance
	sum.phases[r.Phase]++
	if !r.Overran.IsZero() {
		sum.overran++
	}
	sum.seconds += r.Totals.Seconds
	sum.putOffs += r.Totals.PutOff
	sum.unasked += r.Totals.Unasked
	sum.ignored += r.Totals.Ignored
	for kind, n := range r.Totals.Refused {
		if _, known := sum.refused[kind]; !known && len(sum.refused) >= maxRefusedKinds {
			kind = maintenance.OtherKinds
		}
		sum.refused[kind] += n
	}
}

func (out metricWriter) total(d *prometheus.Desc, value int64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}
