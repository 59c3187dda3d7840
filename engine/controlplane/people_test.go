package controlplane_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

func getJSON[T any](t *testing.T, s *site, path string) (v T) {
	t.Helper()
	w, body := s.request(t, "GET", path, "")
	if w.StatusCode != 200 || !strings.HasPrefix(w.Header.Get("Content-Type"), "application/json") {
		t.Fatalf("%s: %s %s: %s", path, w.Status, w.Header.Get("Content-Type"), body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%s: %v in %s", path, err, body)
	}
	return v
}

func TestPlanAndWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	_, body := s.request(t, "GET", "/v1/plan", "")
	for _, says := range []string{`"commit":"c9"`, `"actions":[]`, `"gate":"soak"`, `"until":"2026-11-24T13:00:00Z"`} {
		if !strings.Contains(body, says) {
			t.Errorf("the plan lacks %s: %s", says, body)
		}
	}
	for _, name := range []string{"acme", "staging"} {
		if why := getJSON[view.Explanation](t, s, "/v1/why/"+name); why.Name != name || len(why.Lines) == 0 ||
			!strings.Contains(why.Lines[0], "1.0.1") {
			t.Errorf("why: %+v", why)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	v := viewOf("1.0.1")
	v.Observed.Diverged = &plan.Divergence{Seen: "4f0c", Tip: "c9", At: noon}
	v.Observed.Refused = map[string]plan.Refusal{"dedicated": {Reason: "hook says no", Until: noon}}
	v.Observed.Clock = plan.Clock{Step: 90 * time.Second, Skew: -2 * time.Second}
	v.Observed.Cells["bolt"].State = "unhealthy"
	v.Desired.Channels["dedicated"].Request = &plan.Request{Release: "9.9.9", By: "Ada", Commit: "c8"}
	v.Desired.Channels["dedicated"].Holds = []channels.Hold{{ID: "audit", Reason: "audit"}}
	v.Plan.Blocked = append(v.Plan.Blocked,
		channels.Verdict{Channel: "staging", Cell: "bolt", Gate: "requires", Reason: "infrastructure 6, needs 7"})
	s.setView(v)
	st := getJSON[view.Status](t, s, "/v1/status")
	if len(st.Channels) != 2 || st.Channels[0].Name != "staging" || st.Diverged == nil || st.Clock.StepSeconds != 90 ||
		st.Clock.SkewSeconds != -2 || st.Total != 3 || st.Next != "" {
		t.Fatalf("%+v", st)
	}
	if c := st.Channels[0]; c.Release != "1.0.1" || c.Sequence != 3 || c.Cells != 2 || c.OnHead != 2 ||
		c.Healthy != 1 || c.Failing != 1 {
		t.Errorf("staging: %+v", c)
	}
	if c := st.Channels[1]; c.Release != "" || c.Request == nil || c.Request.By != "Ada" ||
		c.Refused != "hook says no" || len(c.Holds) != 1 || len(c.Blocked) != 1 {
		t.Errorf("dedicated: %+v", c)
	}
	if len(st.Cells) != 3 || st.Cells[0].Name != "acme" || st.Cells[1].State != "unhealthy" ||
		len(st.Cells[1].Blocked) != 1 || st.Cells[2].State != view.StateUnknown {
		t.Errorf("cells: %+v", st.Cells)
	}
	if st := getJSON[view.Status](t, s, "/v1/status?channel=dedicated"); len(st.Channels) != 1 || len(st.Cells) != 1 ||
		st.Cells[0].Name != "crow" {
		t.Errorf("of one channel: %+v", st)
	}
}

// Pages of ten thousand cells list each cell once.
func TestStatusOfManyCells(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	v := viewOf("1.0.1")
	for n := range 9997 {
		cell := &plan.Cell{}
		cell.Name, cell.Channel = fmt.Sprintf("cell-%04d", n), "staging"
		v.Desired.Cells[cell.Name] = cell
	}
	s.setView(v)
	seen := map[string]bool{}
	after, pages := "", 0
	for {
		st := getJSON[view.Status](t, s, "/v1/status?limit=3000&after="+after)
		pages++
		for _, c := range st.Cells {
			if seen[c.Name] {
				t.Fatalf("%s is on two pages", c.Name)
			}
			seen[c.Name] = true
		}
		if after = st.Next; after == "" {
			break
		}
	}
	if len(seen) != 10_000 || pages != 4 {
		t.Errorf("%d cells on %d pages", len(seen), pages)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	if e := getJSON[peopleapi.Events](t, s, "/v1/events"); len(e.Decisions) != 0 || e.Next != 0 {
		t.Errorf("nothing was decided: %+v", e)
	}
	for n := range 5 {
		if _, err := s.store.RecordDecisions(t.Context(),
			[]plan.Decided{{Commit: fmt.Sprint("c", n), Kind: plan.Promote, Channel: "staging",
				Sequence: int64(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	last := getJSON[peopleapi.Events](t, s, "/v1/events?limit=2")
	if len(last.Decisions) != 2 || last.Decisions[1].Commit != "c4" {
		t.Errorf("the last: %+v", last)
	}
	first := getJSON[peopleapi.Events](t, s, "/v1/events?since=0&limit=3")
	rest := getJSON[peopleapi.Events](t, s, fmt.Sprintf("/v1/events?since=%d", first.Next))
	none := getJSON[peopleapi.Events](t, s, fmt.Sprintf("/v1/events?since=%d", rest.Next))
	if len(first.Decisions) != 3 || len(rest.Decisions) != 2 || rest.Decisions[0].Commit != "c3" ||
		len(none.Decisions) != 0 || none.Next != rest.Next {
		t.Errorf("by cursor: %+v, %+v, %+v", first, rest, none)
	}
}

// unreadViews are views of a release repository that can't be read while *why is not nil.
type unreadViews struct {
	api.Views
	why **view.Unread
}

func (u unreadViews) View() *view.View {
	v := u.Views.View()
	if v == nil || *u.why == nil {
		return v
	}
	return &view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan, Unread: *u.why}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var down *view.Unread
	s := newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.Views = unreadViews{o.Views, &down}
		o.MaxUnreachable = time.Hour
	})
	for _, path := range []string{"/livez", "/readyz"} {
		if w, body := s.request(t, "GET", path, ""); w.StatusCode != 200 {
			t.Errorf("%s: %s %s", path, w.Status, body)
		}
	}
	down = &view.Unread{Since: time.Now().Add(-time.Minute), Reason: "connection refused"}
	w, body := s.request(t, "GET", "/readyz", "")
	if w.StatusCode != 200 || !strings.Contains(body, `"repository":"can't be read since `) {
		t.Errorf("a minute's outage: %s %s", w.Status, body)
	}
	down = &view.Unread{Since: time.Now().Add(-2 * time.Hour), Reason: "connection refused"}
	w, body = s.request(t, "GET", "/readyz", "")
	wantProblem(t, w, body, 503, "connection refused")
	if w, _ := s.request(t, "GET", "/livez", ""); w.StatusCode != 200 {
		t.Errorf("livez while not ready: %s", w.Status)
	}
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme", ""); w.StatusCode != 200 {
		t.Errorf("desired while the repository is away: %s", w.Status)
	}
	down = nil
	if w, body := s.request(t, "GET", "/readyz", ""); w.StatusCode != 200 {
		t.Errorf("reachable again: %s %s", w.Status, body)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	w, body = s.request(t, "GET", "/readyz", "")
	wantProblem(t, w, body, 503, "store")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.request(t, "GET", "/v1/desired?cell=acme", "")
	s.request(t, "BREW", "/v1/desired?cell=acme", "")
	s.request(t, "GET", "/v1/nothing/4711", "")
	_, body := s.request(t, "GET", "/metrics", "")
	for _, line := range []string{
		`sluice_cells{channel="staging",release="1.0.1",state="healthy"} 2`,
		`sluice_cells{channel="dedicated",release="",state="unknown"} 1`,
		`sluice_channel_head_sequence{channel="staging",release="1.0.1"} 3`,
		`sluice_blocked{channel="dedicated",gate="soak"} 1`,
		`sluice_repository_diverged 0`,
		`sluice_plan_seconds 0`,
		`sluice_http_requests_total{code="200",method="GET",route="GET /v1/desired"} 1`,
		`sluice_http_requests_total{code="405",method="other",route="unmatched"} 1`,
		`sluice_http_requests_total{code="404",method="GET",route="unmatched"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no %s in\n%s", line, body)
		}
	}
	s.setView(nil)
	if w, body := s.request(t, "GET", "/metrics", ""); w.StatusCode != 200 || strings.Contains(body, "sluice_cells{") {
		t.Errorf("metrics without a view: %s %s", w.Status, body)
	}
}
