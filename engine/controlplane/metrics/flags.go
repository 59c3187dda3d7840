package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// flagMetrics collects metrics of flags from the newest view at each scrape. Labels are channels and fixed words:
// flags, announcements and cells make no series.
type flagMetrics struct {
	view                                                       func() *view.View
	height, fault, faults, diverged, cells                     *prometheus.Desc
	kills, uncommitted, unconfirmed, announcements, nextChange *prometheus.Desc
}

func newFlagMetrics(v func() *view.View) *flagMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &flagMetrics{
		view:   v,
		height: desc("sluice_flags_height", "Place of the flags repository's tip in its first-parent history."),
		fault:  desc("sluice_flags_fault", "1: the flags repository can't be read, or its tip or a file of it is not in force."),
		faults: desc("sluice_flags_repository_faults", "Faults in the flags repository, warnings left out."),
		diverged: desc("sluice_flags_diverged",
			"1: the flags repository was force-pushed, and cells keep what they have."),
		cells: desc("sluice_flags_cells", "Cells by their flags in force: current, behind, or none reported.",
			"channel", "bundle"),
		kills:       desc("sluice_flags_kills", "Active kills."),
		uncommitted: desc("sluice_flags_kills_uncommitted", "Active kills that are not in the flags repository yet."),
		unconfirmed: desc("sluice_flags_kills_unconfirmed_cells",
			"Cells that have kills to apply and have not confirmed all of them, connected or offline.",
			"channel", "cell"),
		announcements: desc("sluice_announcements", "Announcements by state.", "state"),
		nextChange: desc("sluice_flags_next_timestamp_seconds",
			"Unix time at which the next announcement changes by time alone."),
	}
}

// Describe implements prometheus.Collector.
func (f *flagMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.height, f.fault, f.faults, f.diverged, f.cells, f.kills, f.uncommitted,
		f.unconfirmed, f.announcements, f.nextChange} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f *flagMetrics) Collect(c chan<- prometheus.Metric) {
	v, out := f.view(), metricWriter(c)
	if v == nil || v.Flags == nil {
		return
	}
	flagged := v.Flags
	out.gauge(f.height, float64(flagged.Height))
	out.boolGauge(f.fault, flagged.Fault != "")
	out.boolGauge(f.diverged, flagged.Diverged != nil)
	faults := 0
	for _, fault := range flagged.Faults {
		if !fault.Warning {
			faults++
		}
	}
	out.gauge(f.faults, float64(faults))
	if next := flagged.Plan.Next; !next.IsZero() {
		out.gauge(f.nextChange, float64(next.Unix()))
	}
	states := map[announce.State]int{}
	for i := range flagged.Plan.Announcements {
		states[flagged.Plan.Announcements[i].State]++
	}
	for state, n := range states {
		out.gauge(f.announcements, float64(n), string(state))
	}
	f.collectCells(v, out)
}

func (f *flagMetrics) collectCells(v *view.View, out metricWriter) {
	b := view.NewFlagIndex(v)
	kills := 0
	b.EachKill(func(repository.Override, bool) { kills++ })
	out.gauge(f.kills, float64(kills))
	out.gauge(f.uncommitted, float64(len(v.Flags.Kills)))
	lag, unconfirmed := map[[2]string]int{}, map[[2]string]int{}
	for name, cell := range v.Desired.Cells {
		told := v.Flags.ByCell[name]
		orders, bundle := b.Confirmed(name, told)
		state := v.Observed.Cells[name]
		switch {
		case state == nil || state.Flags == nil:
			lag[[2]string{cell.Channel, "none"}]++
		case orders && bundle:
			lag[[2]string{cell.Channel, "current"}]++
		default:
			lag[[2]string{cell.Channel, "behind"}]++
		}
		if len(b.Killed(told)) > 0 && !orders {
			heard := "connected"
			if b.Offline(name) {
				heard = "offline"
			}
			unconfirmed[[2]string{cell.Channel, heard}]++
		}
	}
	for k, n := range lag {
		out.gauge(f.cells, float64(n), k[0], k[1])
	}
	for channel := range v.Desired.Channels {
		for _, heard := range []string{"connected", "offline"} { // zero is exported too, for alerts
			out.gauge(f.unconfirmed, float64(unconfirmed[[2]string{channel, heard}]), channel, heard)
		}
	}
}
