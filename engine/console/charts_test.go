package console_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/console"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
)

// regionOf returns a region of a page.
func regionOf(v *view.View, a console.Address, f console.Facts, id string) string {
	return string(console.Render(console.New(v), a, f).Regions.Of(id))
}

var (
	bars  = regexp.MustCompile(`<rect class="span (\w[\w-]*)" x="(\d+)" y="\d+" width="(\d+)" height="(\d+)">`)
	marks = regexp.MustCompile(`<g class="mark ([\w-]+)"><title>([^<]*)`)
)

// drawn counts the stretches of a chart by class; those of 4 in height are lines.
func drawn(chart string) map[string]int {
	svg, _, _ := strings.Cut(chart, "</svg>")
	all := map[string]int{}
	for _, m := range bars.FindAllStringSubmatch(svg, -1) {
		kind := m[1]
		if m[4] == "4" {
			kind += " line"
		}
		all[kind]++
	}
	return all
}

// R9: the release's page draws the soak of each cell with what it leaves out, and predicts what is still to soak.
func TestR9SoakOverTime(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(30*time.Minute, "staging", "dedicated")
	w.WaitWithout(20*time.Minute, "s2")
	w.Wait(5*time.Minute, "staging", "dedicated")
	v := viewOf(w)
	to := console.Address{Kind: console.Releases, Name: "1.1.0"}
	soak := regionOf(v, to, console.Facts{}, "soak")
	got := drawn(soak)
	if got["healthy"] != 2 || got["none"] != 1 || got["silent line"] != 1 || got["predicted"] != 2 {
		t.Errorf("drawn: %v\n%s", got, soak)
	}
	wantSays(t, soak, "soak", "2 cells of staging", "asks for 1h", "counted", "silent", "no longer counts",
		"As a table")
	text := textOf(soak)
	if at, of := strings.Index(text, "Soaked Healthy since"), strings.LastIndex(text, "s1"); at < 0 ||
		of < strings.LastIndex(text, "s2") {
		t.Errorf("the cell that holds the soak up is not first: %s", text)
	}
	w.Report("s1", cells.StateUnhealthy)
	w.Now = w.Now.Add(time.Hour)
	got = drawn(regionOf(viewOf(w), to, console.Facts{}, "soak"))
	if got["predicted"] != 0 || got["healthy"] != 0 || got["silent line"] == 0 {
		t.Errorf("silent cells soak: %v", got)
	}
	if other := regionOf(v, console.Address{Kind: console.Releases, Name: "1.0.0"}, console.Facts{},
		"soak"); strings.Contains(
		other, "in staging") {
		t.Error("a release that staging has left soaks there")
	}
}

// A chart of ten thousand cells is bounded: a line stands for many, and is that which has soaked the shortest.
func TestSoakOfTenThousandCells(t *testing.T) {
	d, o := Fleet(t, 1, 10_000, 3)
	head := d.Channels[d.Order[0]].Effective
	var least string
	for i, cell := range d.Channels[d.Order[0]].Cells {
		s := *o.Cells[cell.Name]
		s.Digest, s.State, s.Channel = head.Digest, cells.StateHealthy, d.Order[0]
		s.LastReport, s.HealthySince, s.Soaked = Start, Start.Add(-time.Hour), time.Hour
		if i == 7654 {
			least, s.Soaked = cell.Name, time.Minute
		}
		o.Cells[cell.Name] = &s
	}
	v := &view.View{Desired: d, Observed: o, Plan: plan.Plan{Now: Start}}
	soak := regionOf(v, console.Address{Kind: console.Releases, Name: head.Release}, console.Facts{}, "soak")
	n := 0
	for _, count := range drawn(soak) {
		n += count
	}
	if n > 200 || len(soak) > 100<<10 {
		t.Errorf("%d stretches, %d bytes", n, len(soak))
	}
	wantSays(t, soak, "ten thousand", "10 000 cells", "each line stands for 167 of them",
		"and 9 900 cells that soaked longer")
	if first := strings.Index(soak, "<title>"+least); first < 0 || first != strings.Index(soak, "<title>") {
		t.Errorf("%s, which has soaked the shortest, is not the first line", least)
	}
}

// A cell's page draws what it reported over time: what ran, offers, maintenance, failures and contact.
func TestACellsHistoryOverTime(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Wait(3*time.Hour, "staging", "dedicated")
	ago := func(d time.Duration) time.Time { return w.Now.Add(-d) }
	events := []cells.Event{{At: ago(40 * 24 * time.Hour), Kind: "failed", Release: "0.1.0"},
		{At: ago(170 * time.Minute), Kind: "healthy", Release: "0.9.0"},
		{At: ago(150 * time.Minute), Kind: maintenance.EventEntered},
		{At: ago(140 * time.Minute), Kind: "started", Release: "1.0.0"},
		{At: ago(130 * time.Minute), Kind: "failed", Release: "1.0.0", Detail: "the hook ended with 1"},
		{At: ago(129 * time.Minute), Kind: "rolled-back", Release: "0.9.0"},
		{At: ago(125 * time.Minute), Kind: maintenance.EventLeft},
		{At: ago(100 * time.Minute), Kind: "retried", Release: "1.0.0"},
		{At: ago(95 * time.Minute), Kind: "applied", Release: "1.0.0"},
		{At: ago(90 * time.Minute), Kind: "healthy", Release: "1.0.0"},
		{At: ago(50 * time.Minute), Kind: "unhealthy", Release: "1.0.0", Detail: "web: 0 of 2 ready"},
		{At: ago(40 * time.Minute), Kind: "healthy", Release: "1.0.0"}}
	v := viewOf(w)
	to := console.Address{Kind: console.Cell, Name: "s1"}
	lane := regionOf(v, to, console.Facts{Events: events}, "course-of-time")
	got := drawn(lane)
	if got["hue-0"]+got["hue-1"] < 3 || got["held"] != 1 || got["failing line"] != 1 {
		t.Errorf("drawn: %v\n%s", got, lane)
	}
	all := map[string]int{}
	for _, m := range marks.FindAllStringSubmatch(lane, -1) {
		all[m[1]]++
	}
	if all["failing"] != 2 || all["updating"] != 2 || all["behind"] != 1 {
		t.Errorf("marked: %v", all)
	}
	wantSays(t, lane, "history", "ran 0.9.0", "ran 1.0.0", "operations were refused", "the hook ended with 1",
		"web: 0 of 2 ready",
		"What the cell reported")
	if strings.Contains(lane, "0.1.0") {
		t.Error("what is older than the axis is drawn")
	}
	wantSays(t, regionOf(v, to, console.Facts{}, "course-of-time"), "without events",
		"ran 1.0.0", "reported no event that is kept")
	events[3].Kind, events[4].Detail, events[8].Release = HostileText, HostileText, HostileText
	if page := regionOf(v, to, console.Facts{Events: events}, "course-of-time"); strings.Contains(page, "<evil") ||
		strings.Contains(page, "\u202e") {
		t.Error("an event is obeyed")
	}
	many := make([]cells.Event, 10_000)
	for i := range many {
		many[i] = cells.Event{At: ago(time.Duration(i) * time.Second), Kind: "failed", Release: "1.0.0"}
	}
	if page := regionOf(v, to, console.Facts{Events: many}, "course-of-time"); len(page) > 150<<10 {
		t.Errorf("%d bytes of ten thousand events", len(page))
	}
}

// soakingWorld has a release that was cut and soaks in staging, before it may come to dedicated.
func soakingWorld(t *testing.T) *World {
	t.Helper()
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(10*time.Minute, "staging", "dedicated")
	return w
}

// When names the earliest instant of each next promotion as a prediction, and for what others wait.
func TestPredictedPromotions(t *testing.T) {
	w := soakingWorld(t)
	v := viewOf(w)
	page := render(v, "/ui/when")
	var soak time.Time
	for _, b := range v.Plan.Blocked {
		if b.Channel == "dedicated" && b.Cell == "" && b.Until.After(soak) {
			soak = b.Until
		}
	}
	if soak.IsZero() {
		t.Fatalf("nothing has a clock: %v", v.Plan.Blocked)
	}
	wantSays(t, page, "when", "Predicted promotions", "a prediction", "predicted: 1.1.0 to dedicated",
		"dashed: predicted",
		soak.UTC().Format("2 Jan 15:04 MST"))
	if !strings.Contains(page, `class="dot predicted"`) {
		t.Error("it is not drawn")
	}
	for i := range v.Plan.Blocked { // an approval has no clock
		v.Plan.Blocked[i].Until = time.Time{}
	}
	page = render(v, "/ui/when")
	wantSays(t, page, "without a clock", "no instant: it waits for more than a clock")
	if strings.Contains(page, `class="dot predicted"`) {
		t.Error("what waits for people is predicted")
	}
}

// While an upstream soaks, the engine judges no other gate: what a person or another system decides is no prediction of
// a clock's all the same.
func TestPredictionsWaitForMoreThanTheSoak(t *testing.T) {
	const people = "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\npeople:\n" +
		"  ada: {email: ada@example.com}\n"
	gates := func(more string) string {
		return "after: [staging]\ngates: [{soak: {for: 1h, cells: 2}}" + more + "]\n"
	}
	const approval = "channels/dedicated/approvals/1.1.0/ada.yaml"
	for name, c := range map[string]struct {
		policy string
		files  map[string]string
		want   string // empty: it is predicted
	}{
		"nothing else": {policy: gates("")},
		"a window":     {policy: gates(", {window: {opens: '0 * * * *', for: 1h}}")},
		"an approval":  {policy: gates(", {approval: {count: 1}}"), want: "0 of 1"},
		"approved already": {policy: gates(", {approval: {count: 1}}"), files: map[string]string{
			approval: "digest: @digest:1.1.0\n"}},
		"a check": {policy: gates(", {check: {url: 'https://checks.example/{release}'}}"), want: "not asked yet"},
		"a metric": {policy: gates(", {metric: {prometheus: 'https://prometheus.example', query: up, below: 1}}"),
			want: "not asked yet"},
		"a person": {policy: gates("") + "promote: manual\n", want: "a person promotes here"},
		"a hold": {policy: gates(""), files: map[string]string{
			"channels/dedicated/holds/h1.yaml": "reason: incident 512\n"}, want: "incident 512"},
	} {
		w := TwoChannels(t, Policy("dedicated", c.policy), map[string]string{"sluice.yaml": people}).ReportInstalled()
		w.Settle()
		w.Commit("bob", "cut", Release("1.1.0"))
		w.Settle()
		if c.files != nil {
			w.Commit("ada", "decide", c.files)
		}
		w.Wait(10*time.Minute, "staging", "dedicated")
		page := render(viewOf(w), "/ui/when")
		if strings.Contains(page, "predicted: 1.1.0 to dedicated") != (c.want == "") ||
			!strings.Contains(regionOf(viewOf(w), console.Address{Kind: console.When}, console.Facts{}, "predictions"),
				c.want) {
			t.Errorf("%s: %s", name, page)
		}
	}
}

// An answer counts for a while, and is asked for again then: its end is no instant of a promotion. Neither is one that
// has passed.
func TestPredictionsOfAnswersAndOfThePast(t *testing.T) {
	w := soakingWorld(t)
	v := viewOf(w)
	for name, verdict := range map[string]channels.Verdict{
		"no":     channels.Blocked("check", reason.AnswerNo, "503").WithUntil(v.Plan.Now.Add(time.Hour)),
		"failed": channels.Blocked("check", reason.AnswerFailed, "no route").WithUntil(v.Plan.Now.Add(time.Hour)),
		"past":   channels.Blocked("window", reason.WindowShut, "shut").WithUntil(v.Plan.Now),
	} {
		v.Plan.Blocked = []channels.Verdict{verdict.WithSubject("dedicated", "1.1.0")}
		page := render(v, "/ui/when")
		if strings.Contains(page, "predicted: 1.1.0") || strings.Contains(page, "no instant") != (name != "past") {
			t.Errorf("%s: %s", name, page)
		}
	}
}

// A cell's page has the last values that the cell exported and what is missing, as text.
func TestExportsOfACell(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	v := viewOf(w)
	to := console.Address{Kind: console.Cell, Name: "acme"}
	value := 12.5
	e := &console.Exported{Until: Start, Received: Start.Add(time.Minute), Left: 3,
		Gaps: []cells.ExportGap{{From: Start, To: Start.Add(time.Hour), Why: HostileText}}, Values: []telemetry.Line{
			{At: Start, Metric: "workspaces", Labels: map[string]string{"class": HostileText}, Value: &value},
			{At: Start, Metric: "start_seconds", Count: 4, Sum: 10},
			{At: Start, Event: "import-failed", Fields: map[string]telemetry.Scalar{"rows": {Value: 7.0}}}}}
	page := regionOf(v, to, console.Facts{Exported: e}, "exports")
	wantSays(t, page, "exports", "workspaces", "12.5", "4, on average 2.5", "rows=7", "nothing came from",
		"and 3 more series")
	if strings.Contains(page, "<evil") || strings.Contains(page, "\u202e") {
		t.Errorf("hostile text: %s", page)
	}
	if page := regionOf(v, to, console.Facts{Exported: &console.Exported{}}, "exports"); page != "" {
		t.Errorf("without exports: %s", page)
	}
}

// Instants in sentences are shown as all others are; what only looks like one stays text.
func TestInstantsInSentences(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Report("acme", cells.StateUnhealthy)
	w.Obs.Cells["acme"].Message = "no backup since 2026-11-01T03:04:05Z, next 2026-13-01T03:04:05Z <evil>"
	page := regionOf(viewOf(w), console.Address{Kind: console.Cell, Name: "acme"}, console.Facts{}, "why")
	for _, want := range []string{`<time datetime="2026-11-01T03:04:05Z">1 Nov 03:04 UTC</time>`,
		"next 2026-13-01T03:04:05Z &lt;evil&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in %s", want, page)
		}
	}
}
