package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// fleetMetrics collects metrics of channels and cells from the newest view at each scrape. Labels are names of channels
// and releases in the repository.
type fleetMetrics struct {
	view    func() *view.View
	numbers func() engine.Stats

	cells, oldest, silent, shutOut, granted, slots          *prometheus.Desc
	sequence, promotion, rollout, rolling, halted           *prometheus.Desc
	blocked, faults, diverged, unread, refused, since, took *prometheus.Desc
	leader, tick, pushes, retries, grants, actions, skew    *prometheus.Desc
	signed, unverified                                      *prometheus.Desc
}

func newFleetMetrics(v func() *view.View, numbers func() engine.Stats) *fleetMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &fleetMetrics{
		view: v, numbers: numbers,
		cells: desc("sluice_cells", "Cells by channel, release and state.", "channel", "release", "state"),
		oldest: desc("sluice_oldest_report_seconds",
			"Age of the oldest last report of the channel's cells, at the time of the newest plan.", "channel"),
		silent: desc("sluice_cells_never_reported", "Cells that have not reported yet.", "channel"),
		shutOut: desc("sluice_cells_shut_out",
			"Cells whose key is refused: revoked, or quarantined because two machines use it.", "channel", "reason"),
		granted: desc("sluice_cells_granted", "Cells that were granted something other than what they run.",
			"channel"),
		slots:    desc("sluice_rollout_slots", "Cells that take a slot of maxInFlight.", "channel"),
		sequence: desc("sluice_channel_head_sequence", "Sequence of the channel's head.", "channel", "release"),
		promotion: desc("sluice_promotion_seconds",
			"Time from the upstream's promotion of the channel's head to the channel's own.", "channel", "release"),
		rollout: desc("sluice_rollout_seconds",
			"Time from the promotion of the channel's head until all its cells ran it.", "channel", "release"),
		rolling: desc("sluice_rollout_running_seconds",
			"Time since the promotion of the channel's head, while the rollout runs.", "channel", "release"),
		halted: desc("sluice_channel_halted",
			"1: a release failed, there is no way back, and the engine holds the channel.", "channel"),
		blocked:  desc("sluice_blocked", "Blocking verdicts by gate.", "channel", "gate"),
		faults:   desc("sluice_repository_faults", "Faults in the release repository, warnings left out."),
		unread:   desc("sluice_repository_unread", "1: the release repository can't be read."),
		diverged: desc("sluice_repository_diverged", "1: the branch was rewritten, and nothing moves."),
		refused: desc("sluice_push_refused",
			"1: the git host refused the channel's last push, which is retried later.", "channel"),
		since:   desc("sluice_plan_timestamp_seconds", "Unix time of the newest plan."),
		took:    desc("sluice_plan_seconds", "Time taken to make the newest plan."),
		actions: desc("sluice_plan_actions", "Actions in the newest plan by kind.", "kind"),
		skew:    desc("sluice_clock_skew_seconds", "Median offset of the cells' clocks from the control plane's."),
		signed: desc("sluice_trust_expires_timestamp_seconds",
			"Unix time at which what release signers signed expires; from then on nothing new runs.", "role"),
		unverified: desc("sluice_cells_unverified",
			"Cells that verify no signatures, though their channel needs them.", "channel"),
		leader: desc("sluice_leader", "1: this process leads, and executes plans."),
		tick:   desc("sluice_tick_seconds", "Duration of the last tick, fetching and pushing included."),
		pushes: desc("sluice_pushed_commits_total", "Commits that were pushed."),
		retries: desc("sluice_push_retries_total",
			"Pushes that failed, because the branch had moved or the host refused."),
		grants: desc("sluice_grants_total", "Grants that were made."),
	}
}

// Describe implements prometheus.Collector.
func (f *fleetMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		f.cells, f.oldest, f.silent, f.shutOut, f.granted, f.slots, f.sequence, f.promotion, f.rollout, f.rolling,
		f.halted, f.blocked, f.faults, f.diverged, f.unread, f.refused, f.since, f.took, f.actions, f.skew, f.leader,
		f.tick, f.pushes, f.retries, f.grants, f.signed, f.unverified,
	} {
		out <- d
	}
}

type metricWriter chan<- prometheus.Metric

func (out metricWriter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (out metricWriter) counter(d *prometheus.Desc, value uint64) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
}

func (out metricWriter) boolGauge(d *prometheus.Desc, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	out.gauge(d, value, labels...)
}

// Collect implements prometheus.Collector.
func (f *fleetMetrics) Collect(out chan<- prometheus.Metric) {
	if f.numbers != nil {
		w := f.numbers()
		metricWriter(out).boolGauge(f.leader, w.Leads)
		metricWriter(out).gauge(f.tick, w.Ticks.Last.Seconds())
		metricWriter(out).counter(f.pushes, w.Commits)
		metricWriter(out).counter(f.retries, w.Retries)
		metricWriter(out).counter(f.grants, w.Grants)
	}
	v := f.view()
	if v == nil {
		return
	}
	f.collectCells(v, out)
	f.collectChannels(v, out)
	f.collectPlan(v, out)
}

func (f *fleetMetrics) collectCells(v *view.View, out metricWriter) {
	type key struct{ channel, release, state string }
	type sum struct {
		oldest                                time.Time
		silent, granted, revoked, quarantined int
		unverified                            int
	}
	count, sums := map[key]int{}, map[string]*sum{}
	for name, cell := range v.Desired.Cells {
		total := sums[cell.Channel]
		if total == nil {
			total = &sum{}
			sums[cell.Channel] = total
		}
		k, s := key{cell.Channel, "", string(view.StateUnknown)}, v.Observed.Cells[name]
		if s != nil && s.State != "" {
			k.release, k.state = releaseLabel(v, cell.Channel, s), string(s.State)
		}
		count[k]++
		switch id := v.Identity(name); {
		case id.Revoked:
			total.revoked++
		case id.Quarantined != "":
			total.quarantined++
		}
		if v.VerifiesNothing(cell, s) {
			total.unverified++
		}
		switch {
		case s == nil || s.LastReport.IsZero():
			total.silent++
		case total.oldest.IsZero() || s.LastReport.Before(total.oldest):
			total.oldest = s.LastReport
		}
		if s != nil && s.Granted != nil &&
			(s.Running == nil || s.Running.Sequence != s.Granted.Sequence || s.Running.Digest != s.Granted.Digest) {
			total.granted++
		}
	}
	for k, n := range count {
		out.gauge(f.cells, float64(n), k.channel, k.release, k.state)
	}
	for channel, total := range sums {
		out.gauge(f.silent, float64(total.silent), channel)
		out.gauge(f.unverified, float64(total.unverified), channel)
		out.gauge(f.granted, float64(total.granted), channel)
		out.gauge(f.shutOut, float64(total.revoked), channel, "revoked")
		out.gauge(f.shutOut, float64(total.quarantined), channel, "quarantined")
		if !total.oldest.IsZero() {
			out.gauge(f.oldest, v.Plan.Now.Sub(total.oldest).Seconds(), channel)
		}
	}
}

// releaseLabel returns the version that a cell runs, or "other" if no head ever had it: reports must not make series.
func releaseLabel(v *view.View, channel string, s *plan.CellState) string {
	if s.Digest == "" {
		return ""
	}
	if c := v.Desired.Channels[channel]; c != nil && c.Effective != nil && c.Effective.Digest == s.Digest {
		return c.Effective.Release
	}
	if _, version, ok := v.Content(s.Digest); ok {
		return version
	}
	return "other"
}

func (f *fleetMetrics) collectChannels(v *view.View, out metricWriter) {
	for _, file := range v.Desired.Trust.InForce() {
		out.gauge(f.signed, float64(file.Expires.Unix()), file.Role)
	}
	for name, c := range v.Desired.Channels {
		out.gauge(f.slots, float64(len(v.Observed.Slots[name])), name)
		out.boolGauge(f.refused, v.Observed.Refused[name].Reason != "", name)
		out.boolGauge(f.halted, c.IsHalted(), name)
		head := c.Effective
		if head == nil {
			continue
		}
		out.gauge(f.sequence, float64(head.Sequence), name, head.Release)
		if since, ok := upstreamSince(v, c); ok {
			out.gauge(f.promotion, head.Moved.Sub(since).Seconds(), name, head.Release)
		}
		if at, ok := rolloutFinished(v, name, head.Sequence); ok {
			out.gauge(f.rollout, at.Sub(head.Moved).Seconds(), name, head.Release)
		} else {
			out.gauge(f.rolling, v.Plan.Now.Sub(head.Moved).Seconds(), name, head.Release)
		}
	}
}

// upstreamSince returns the latest time at which an upstream got the release that is the channel's head now.
func upstreamSince(v *view.View, c *plan.Channel) (since time.Time, ok bool) {
	if c.Policy == nil {
		return since, false
	}
	for _, name := range c.Policy.After {
		up := v.Desired.Channels[name]
		if up == nil {
			continue
		}
		for _, h := range up.History {
			if h.Digest == c.Effective.Digest && h.Moved.After(since) && !h.Moved.After(c.Effective.Moved) {
				since, ok = h.Moved, true
			}
		}
	}
	return since, ok
}

func rolloutFinished(v *view.View, channel string, sequence int64) (at time.Time, ok bool) {
	for _, l := range v.Observed.Learned.Finished {
		if l.Channel == channel && l.Sequence == sequence {
			return l.At, true
		}
	}
	return at, false
}

func (f *fleetMetrics) collectPlan(v *view.View, out metricWriter) {
	blocked := map[[2]string]int{}
	for _, b := range v.Plan.Blocked {
		blocked[[2]string{b.Channel, b.Gate}]++
	}
	for k, n := range blocked {
		out.gauge(f.blocked, float64(n), k[0], k[1])
	}
	actions := map[plan.Kind]int{}
	for _, a := range v.Plan.Actions {
		actions[a.Kind] += max(1, len(a.Cells))
	}
	for kind, n := range actions {
		out.gauge(f.actions, float64(n), string(kind))
	}
	faults := 0
	for _, fault := range v.Desired.Faults {
		if !fault.Warning {
			faults++
		}
	}
	out.gauge(f.faults, float64(faults))
	out.boolGauge(f.unread, v.Unread != nil)
	out.boolGauge(f.diverged, v.Observed.Diverged != nil)
	out.gauge(f.skew, v.Observed.Clock.Skew.Seconds())
	out.gauge(f.since, float64(v.Plan.Now.UnixMilli())/1000)
	out.gauge(f.took, v.PlanDuration.Seconds())
}
