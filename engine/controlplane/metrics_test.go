package controlplane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
)

// The metrics have what operators watch: the fleet, rollouts, promotions, and operations in flight.
func TestFleetMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	v := viewOf("1.0.1")
	v.Plan.Now = noon.Add(time.Hour)
	v.Observed.Cells["acme"].LastReport = noon.Add(20 * time.Minute)
	v.Observed.Cells["bolt"].LastReport = noon.Add(50 * time.Minute)
	v.Observed.Cells["bolt"].Granted.Sequence = 4
	v.Observed.Slots = map[string][]string{"staging": {"bolt"}}
	staging, dedicated := v.Desired.Channels["staging"], v.Desired.Channels["dedicated"]
	head := *staging.Effective
	head.Moved = noon.Add(30 * time.Minute)
	dedicated.Effective, dedicated.History = &head, []plan.EffectiveHead{head}
	dedicated.Policy = &channels.Channel{After: []string{"staging"}}
	v.Observed.Learned.Finished = []plan.Finish{
		{Channel: "staging", Sequence: 3, Digest: head.Digest, At: noon.Add(10 * time.Minute)}}
	v.Observed.Refused = map[string]plan.Refusal{"dedicated": {Reason: "no"}}
	v.Desired.Cells["acme"].Identity.Revoked = true
	v.Desired.Cells["bolt"].Identity.Quarantined = "two machines use its key"
	halt := channels.Hold{Reason: "1.0.1 failed; no way back", File: "channels/staging/holds/halt-3.yaml"}
	before := channels.Hold{Reason: "1.0.0 failed; no way back", File: "channels/dedicated/holds/halt-2.yaml"}
	staging.Holds, dedicated.Holds = []channels.Hold{halt}, []channels.Hold{before}
	s.setView(v)
	_, body := s.request(t, "GET", "/metrics", "")
	for _, line := range []string{
		`sluice_cells{channel="staging",release="1.0.1",state="healthy"} 2`,
		`sluice_cells{channel="dedicated",release="",state="unknown"} 1`,
		`sluice_cells_never_reported{channel="dedicated"} 1`,
		`sluice_cells_granted{channel="staging"} 2`,
		`sluice_rollout_slots{channel="staging"} 1`,
		`sluice_oldest_report_seconds{channel="staging"} 2400`,
		`sluice_promotion_seconds{channel="dedicated",release="1.0.1"} 1800`,
		`sluice_rollout_seconds{channel="staging",release="1.0.1"} 600`,
		`sluice_rollout_running_seconds{channel="dedicated",release="1.0.1"} 1800`,
		`sluice_push_refused{channel="dedicated"} 1`,
		`sluice_push_refused{channel="staging"} 0`,
		`sluice_cells_shut_out{channel="staging",reason="revoked"} 1`,
		`sluice_cells_shut_out{channel="staging",reason="quarantined"} 1`,
		`sluice_cells_shut_out{channel="dedicated",reason="revoked"} 0`,
		`sluice_channel_halted{channel="staging"} 1`,
		`sluice_channel_halted{channel="dedicated"} 0`, // the halt of an earlier head
		"sluice_streams 0", "sluice_long_polls 0", "sluice_reports_in_flight 0", "sluice_tls_handshakes 0",
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("the metrics don't say %s", line)
		}
	}
}

// Nothing that cells and clients send makes a series.
func TestNamesMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	count := func() int {
		_, body := s.request(t, "GET", "/metrics", "")
		n := 0
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "sluice_") {
				n++
			}
		}
		return n
	}
	provoke := func(name string) {
		v := viewOf("1.0.1")
		for _, cell := range []string{"acme", "bolt"} { // each reports a release that it was never granted
			c := v.Observed.Cells[cell]
			c.Release, c.Digest = name, digestOf("1.0.3")
			c.Running = &cells.Assignment{Channel: name, Release: name, Digest: c.Digest}
		}
		s.setView(v)
		s.request(t, "GET", "/v1/desired?cell="+name, "")
		s.request(t, "GET", "/"+name, "")
		s.request(t, "GET", "/v1/why/"+name, "")
		s.request(t, "H"+strings.ToUpper(name), "/v1/reports", "")
		s.request(t, "GET", "/v1/releases/sha256:"+name, "")
	}
	provoke("a")
	count()
	before := count()
	for _, name := range []string{"b", "c", "d", "e"} {
		provoke(name)
	}
	if after := count(); after != before {
		t.Errorf("%d series, and %d before", after, before)
	}
	if _, body := s.request(t, "GET", "/metrics", ""); !strings.Contains(body,
		`sluice_cells{channel="staging",release="other",state="healthy"} 2`) {
		t.Error("a release that was not granted is not counted as other")
	}
}
