package exports_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases/export"
)

func pointer(f float64) *float64 { return &f }

// A gate reads what each cell measured of late while it ran the release, and names the cells that miss.
func TestJudge(t *testing.T) {
	now := start.Add(time.Hour)
	of := []plan.ProbedCell{{Name: "a", Since: start}, {Name: "b", Since: start}, {Name: "c", Since: start}}
	at := func(ago time.Duration, values ...float64) (all []exports.LastValue) {
		for _, v := range values {
			line := telemetry.Line{At: now.Add(-ago), Metric: "m", Type: export.Gauge}
			all = append(all, exports.LastValue{Line: line, Recent: pointer(v), From: line.At})
		}
		return all
	}
	fresh := map[string][]exports.LastValue{"a": at(time.Minute, 1, 2), "b": at(time.Minute, 3),
		"c": at(29*time.Minute, 6)}
	two := map[string][]exports.LastValue{"a": fresh["a"], "b": fresh["b"], "c": at(31*time.Minute, 6)}
	for _, tt := range []struct {
		name   string
		gate   channels.Metric
		of     []plan.ProbedCell
		values map[string][]exports.LastValue
		want   string // of the verdict, with "no: " if it does not hold
	}{
		{"each", channels.Metric{Below: pointer(7)}, of, fresh, "m within the bounds in 3 of 3 cells"},
		{"each, outside", channels.Metric{Below: pointer(3)}, of, fresh,
			"no: b: 3 is not below 3, c: 6 is not below 3"},
		{"sum", channels.Metric{Over: channels.OverSum, Below: pointer(13)}, of, fresh, "sum 12 over 3 of 3 cells"},
		{"sum, outside", channels.Metric{Over: channels.OverSum, Above: pointer(12)}, of, fresh,
			"no: the sum over 3 of 3 cells: 12 is not above 12"},
		{"mean", channels.Metric{Over: channels.OverMean, Above: pointer(2)}, of, fresh, "mean 3 over 3 of 3 cells"},
		{"old", channels.Metric{Below: pointer(7)}, of, two,
			"no: 2 of 3 cells exported m of late on it, needs 3: c (of 2026-11-30T12:29:00Z)"},
		{"enough", channels.Metric{Below: pointer(7), Cells: 2}, of, two, "m within the bounds in 2 of 3 cells"},
		{"too few run it", channels.Metric{Below: pointer(7), Cells: 4}, of, fresh,
			"no: 3 of 3 cells exported m of late on it, needs 4"},
		{"none", channels.Metric{Below: pointer(7)}, of[:1], nil,
			"no: 0 of 1 cell exported m of late on it, needs 1: a (none)"},
		{"of another release", channels.Metric{Below: pointer(7)},
			[]plan.ProbedCell{{Name: "a", Since: now.Add(-30 * time.Second)}}, fresh,
			"no: 0 of 1 cell exported m of late on it, needs 1: a (none since it is healthy on it)"},
		{"partly of another release", channels.Metric{Below: pointer(7)}, of[:1],
			map[string][]exports.LastValue{"a": {{Line: telemetry.Line{At: now, Metric: "m", Type: export.Counter},
				Recent: pointer(1), From: start.Add(-time.Second)}}},
			"no: 0 of 1 cell exported m of late on it, needs 1: a (none since it is healthy on it)"},
		{"a cell's clock that is fast", channels.Metric{Below: pointer(7)},
			[]plan.ProbedCell{{Name: "a", Since: now.Add(-2 * time.Minute), Skew: time.Hour}}, fresh,
			"no: 0 of 1 cell exported m of late on it, needs 1: a (none since it is healthy on it)"},
	} {
		m := tt.gate
		m.Exported, m.Within = "m", 30*time.Minute
		if m.Over == "" {
			m.Over = channels.OverEach
		}
		got, err := exports.Judge(&m, tt.of, tt.values, now)
		if err != nil {
			got = "no: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// From batches to a verdict: a counter counts by how fast it rises, a histogram by its mean, and only where
// labels match.
func TestJudgeMetricOfBatches(t *testing.T) {
	k := newKeeper(t, nil)
	line := func(minute int, text string) string {
		return fmt.Sprintf(`{"at":%q,`, start.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339)) + text + "}\n"
	}
	counter := func(minute, value int, since string) string {
		return line(minute, fmt.Sprintf(`"metric":"errors","type":"counter","labels":{"class":"small"},"value":%d,"since":%q`,
			value, since))
	}
	histogram := func(minute, count int, sum float64) string {
		return line(minute, fmt.Sprintf(
			`"metric":"seconds","type":"histogram","since":"2026-11-30T11:00:00Z","count":%d,"sum":%g,"bounds":[1],"buckets":[%d,0]`,
			count, sum, count))
	}
	const since, later = "2026-11-30T11:50:00Z", "2026-11-30T12:01:30Z"
	hash := ""
	of := []plan.ProbedCell{{Name: "acme", Since: start.Add(-time.Hour)}}
	now := start.Add(5 * time.Minute)
	ask := func(m channels.Metric) string {
		t.Helper()
		m.Within, m.Over, m.Above = time.Hour, channels.OverSum, pointer(-1)
		text, err := k.JudgeMetric(t.Context(), &m, of, now)
		if err != nil {
			return err.Error()
		}
		return text
	}
	for i, step := range []struct {
		lines         []string
		errors, means string
	}{
		{[]string{counter(0, 600, since), histogram(0, 2, 3)}, "sum 1 over", "sum 1.5 over"},
		{[]string{counter(1, 720, since), histogram(1, 4, 13)}, "sum 2 over", "sum 5 over"},
		// it began anew; none came
		{[]string{counter(2, 90, later), histogram(2, 4, 13)}, "sum 3 over", "seconds of late"},
	} {
		var body []byte
		body, hash = batch(t, cells.ExportHeader{Cell: "acme", Sequence: int64(i + 1), Previous: hash,
			At: start.Add(time.Duration(i+1) * time.Minute)},
			step.lines...)
		take(t, k, body)
		small := channels.Metric{Exported: "errors", Where: map[string]string{"class": "small"}}
		if got := ask(small); !strings.HasPrefix(got, step.errors) {
			t.Errorf("step %d: errors: %s, want %s", i, got, step.errors)
		}
		if got := ask(channels.Metric{Exported: "seconds"}); !strings.Contains(got, step.means) {
			t.Errorf("step %d: seconds: %s, want %s", i, got, step.means)
		}
	}
	large := channels.Metric{Exported: "errors", Where: map[string]string{"class": "large"}}
	if got := ask(large); !strings.Contains(got, "acme (none)") {
		t.Errorf("other labels: %s", got)
	}
}

// Where there is no room for all, the oldest values go.
func TestOldestValuesGo(t *testing.T) {
	k := newKeeper(t, nil)
	hash, sequence := "", int64(0)
	send := func(at time.Time, users ...int) {
		t.Helper()
		var lines []string
		for _, user := range users {
			lines = append(lines, fmt.Sprintf(
				`{"at":%q,"metric":"requests","type":"gauge","labels":{"user":"%032x"},"value":1}`+"\n",
				at.Format(time.RFC3339), user))
		}
		var body []byte
		sequence++
		body, hash = batch(t, cells.ExportHeader{Cell: "acme", Sequence: sequence, Previous: hash, At: at}, lines...)
		take(t, k, body)
	}
	var gone []int
	for user := range 400 {
		gone = append(gone, user)
	}
	send(start, gone...)
	send(start.Add(time.Minute), 1000, 1001)
	s, err := k.Load(t.Context(), "acme")
	if err != nil || s.Left == 0 {
		t.Fatalf("%d values are kept, %d are not: %v", len(s.Values), s.Left, err)
	}
	new := 0
	for _, v := range s.Values {
		if v.At.After(start) {
			new++
		}
	}
	if new != 2 {
		t.Errorf("%d of 2 new users are kept", new)
	}
}

// status and why say since when a cell exports, when it last did, and what is missing.
func TestStandings(t *testing.T) {
	k := newKeeper(t, nil)
	hash := ""
	removed := &cells.ExportGap{From: start, To: start.Add(time.Minute), Why: "the owner removed it"}
	for i, gap := range []*cells.ExportGap{nil, removed} {
		var body []byte
		body, hash = batch(t, cells.ExportHeader{Cell: "acme", Sequence: int64(i + 1), Previous: hash,
			At: start.Add(-15 * time.Minute), Gap: gap}, gauge("queue", 1))
		take(t, k, body)
	}
	body, _ := batch(t, cells.ExportHeader{Cell: "globex", Sequence: 1, At: start}, gauge("queue", 1))
	take(t, k, body)
	why := func(name string, now time.Time) string {
		t.Helper()
		e := view.Explanation{Name: name, Kind: view.SubjectCell}
		if err := k.AddToWhy(t.Context(), &e, now); err != nil {
			t.Fatal(err)
		}
		return strings.Join(e.Lines, "\n")
	}
	const gap = "its exports lack what was from 2026-11-30T12:00:00Z to 2026-11-30T12:01:00Z: the owner removed it"
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  string
	}{
		{"acme", time.Minute,
			"exports since 2026-11-30T12:00:00Z, the last at 2026-11-30T12:00:00Z, held in the cell for 15m\n" + gap},
		{"acme", 3 * time.Hour, "exported nothing since 2026-11-30T12:00:00Z: its owner turned exports off, its programs " +
			"measure nothing, or it can't be reached\n" + gap},
		{"globex", time.Minute, "exports since 2026-11-30T12:00:00Z, the last at 2026-11-30T12:00:00Z"},
		{"initech", time.Minute, ""},
	} {
		if got := why(tt.name, start.Add(tt.after)); got != tt.want {
			t.Errorf("%s after %s:\n%s\nwant\n%s", tt.name, tt.after, got, tt.want)
		}
	}
	s := view.Status{Now: start, Cells: []view.CellStatus{{Name: "acme"}, {Name: "globe"}, {Name: "globex"}}}
	if err := k.AddToStatus(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Cells[0].Exports == nil || s.Cells[1].Exports != nil || s.Cells[2].Exports == nil {
		t.Errorf("%+v", s.Cells)
	}
}

// What a cell exported while its clock was ahead counts for nothing, and goes once the clock is right.
func TestValuesOfTheFuture(t *testing.T) {
	k := newKeeper(t, nil)
	hash := ""
	of := []plan.ProbedCell{{Name: "acme", Since: start.Add(-time.Hour)}}
	for i, at := range []time.Time{start.Add(365 * 24 * time.Hour), start.Add(time.Minute)} {
		var body []byte
		body, hash = batch(t, cells.ExportHeader{Cell: "acme", Sequence: int64(i + 1), Previous: hash, At: at},
			fmt.Sprintf(`{"at":%q,"metric":"users","type":"gauge","labels":{"of":"%d"},"value":1}`, at.Format(time.RFC3339), i)+"\n")
		take(t, k, body)
		m := channels.Metric{Exported: "users", Within: time.Hour, Over: channels.OverSum, Above: pointer(0)}
		text, err := k.JudgeMetric(t.Context(), &m, of, start.Add(time.Minute))
		if i == 0 && err == nil {
			t.Errorf("a value of next year counts: %s", text)
		}
		if i == 1 && (err != nil || !strings.HasPrefix(text, "sum 1 over")) {
			t.Errorf("%s, %v", text, err)
		}
	}
	if s, err := k.Load(t.Context(), "acme"); err != nil || len(s.Values) != 1 {
		t.Errorf("%d values are left (%v)", len(s.Values), err)
	}
}
