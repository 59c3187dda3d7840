package adoption_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/adoption"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

// world is a World that is counted.
type world struct {
	*World
	leads bool
}

func (w *world) View() *view.View {
	o := w.Obs
	return &view.View{Desired: w.Desired(), Observed: &o, Plan: w.Plan()}
}
func (w *world) Leads() bool    { return w.leads }
func (w *world) Now() time.Time { return w.World.Now }

func open(t *testing.T) records.Store {
	t.Helper()
	s, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Records()
}

// samplesOf says in words what is kept of a channel.
func samplesOf(t *testing.T, s records.Store, channel string, now time.Time) (all []string) {
	t.Helper()
	series, err := adoption.Read(t.Context(), s, channel, now)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range series.Samples {
		text := one.At.Format("02 15:04")
		if one.Counts == nil {
			text += " unknown"
		}
		for k, kind := range series.Kinds {
			if n := series.Count(i, k); n > 0 {
				text += fmt.Sprintf(" %d %s %s", n, kind.Release, kind.Condition)
			}
		}
		all = append(all, text)
	}
	return all
}

func want(t *testing.T, what string, got []string, wanted ...string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", wanted) {
		t.Errorf("%s: got\n%q, want\n%q", what, got, wanted)
	}
}

// What changes is kept by the minute, also over a restart; time in which nobody counted is unknown; another leader's
// day goes on.
func TestCountsAreKept(t *testing.T) {
	w := &world{TwoChannels(t).ReportInstalled(), true}
	w.Settle()
	s := open(t)
	k := adoption.NewKeeper(w, s, zerolog.Nop())
	sample := func(k *adoption.Keeper, later time.Duration) {
		t.Helper()
		w.World.Now = w.World.Now.Add(later)
		for name, was := range w.Obs.Cells {
			next := *was // plans remember states, which stay as they are
			next.LastReport = w.World.Now
			w.Obs.Cells[name] = &next
		}
		if err := k.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sample(k, 0)
	for range 20 {
		sample(k, time.Minute)
	}
	w.Report("s1", cells.StateUnhealthy)
	sample(k, time.Minute)
	want(t, "staging", samplesOf(t, s, "staging", w.World.Now), "23 09:30 2 1.0.0 healthy",
		"23 09:51 1 1.0.0 healthy 1 1.0.0 failing")
	want(t, "all", samplesOf(t, s, "", w.World.Now), "23 09:30 4 1.0.0 healthy",
		"23 09:51 3 1.0.0 healthy 1 1.0.0 failing")
	w.leads = false
	sample(k, 2*time.Hour) // somebody else leads, and nobody counts
	w.leads = true
	w.Report("s1", cells.StateHealthy)
	sample(adoption.NewKeeper(w, s, zerolog.Nop()), time.Minute)
	want(t, "after a gap", samplesOf(t, s, "staging", w.World.Now), "23 09:30 2 1.0.0 healthy",
		"23 09:51 1 1.0.0 healthy 1 1.0.0 failing", "23 09:52 unknown", "23 11:52 2 1.0.0 healthy")
	want(t, "nothing", samplesOf(t, s, "nowhere", w.World.Now))
}

// After a day, older days are rolled up to hours; after thirty, they are gone.
func TestDaysAreRolledUpAndEnd(t *testing.T) {
	w := &world{TwoChannels(t).ReportInstalled(), true}
	w.Settle()
	s := open(t)
	k := adoption.NewKeeper(w, s, zerolog.Nop())
	for i := range 130 {
		next := *w.Obs.Cells["s1"]
		next.State = []cells.State{cells.StateHealthy, cells.StateUnhealthy}[i%2]
		w.Obs.Cells["s1"] = &next
		w.World.Now = Start.Add(time.Duration(i) * time.Minute)
		if err := k.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := samplesOf(t, s, "staging", w.World.Now); len(got) != 130 {
		t.Errorf("%d samples, want 130", len(got))
	}
	first := w.World.Now
	for _, c := range []struct{ days, records int }{{1, 130}, {2, 3}, {29, 3}, {31, 0}} {
		w.World.Now = first.Add(time.Duration(c.days) * 24 * time.Hour)
		if err := k.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), "adoption", "staging/2026-11-23")
		var d adoption.Day
		if err == nil {
			err = json.Unmarshal(r.Body, &d)
		}
		if len(d.Points) != c.records || (err == nil) != (c.records > 0) {
			t.Errorf("after %d days %d points, want %d: %v", c.days, len(d.Points), c.records, err)
		}
	}
}

// However much changes, a day fits into a record, and counts of many releases are not lost.
func TestDaysAreBounded(t *testing.T) {
	var d adoption.Day
	for m := range 24 * 60 {
		counts := map[adoption.Kind]int{}
		for i := range 60 {
			k := adoption.Kind{Release: fmt.Sprintf("2026.11.%d", i), Condition: view.ConditionHealthy}
			counts[k] = 1000 + m%7 + i
		}
		d.Add(m, counts)
	}
	if len(d.Kinds) > 50 {
		t.Errorf("%d kinds", len(d.Kinds))
	}
	sum := 0
	for _, n := range d.Points[0].Counts {
		sum += n
	}
	if want := 60*1000 + 59*30; sum != want {
		t.Errorf("%d cells are counted, want %d", sum, want)
	}
	d.RollUp(60)
	if len(d.Points) != 24 || d.Points[23].Minute != 23*60 {
		t.Errorf("%d points after rolling up: %+v", len(d.Points), d.Points[len(d.Points)-1])
	}
}

// A day is read as it was written, and what is cut short or changed is no day.
func TestDaysAreReadAsTheyWereWritten(t *testing.T) {
	var d adoption.Day
	for m := range 90 {
		counts := map[adoption.Kind]int{{Condition: view.ConditionNew}: m % 3}
		for i := range m % 5 {
			k := adoption.Kind{Release: fmt.Sprintf("2026.11.%d-ü", i), Condition: view.ConditionHealthy}
			counts[k] = 1 << (m % 31)
		}
		d.Add(m*16+m/40*30, counts) // with gaps, in which nothing is known
	}
	body, err := json.Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	var again adoption.Day
	if err := json.Unmarshal(body, &again); err != nil || fmt.Sprintf("%v", again) != fmt.Sprintf("%v", d) {
		t.Errorf("read as %v, written as %v: %v", again, d, err)
	}
	for i := range body[:len(body)-1] {
		cut := append(slices.Clone(body[:i]), '"')
		if err := again.UnmarshalJSON(cut); err == nil {
			t.Errorf("%d of %d bytes are a day: %v", i, len(body), again)
		}
		other := slices.Clone(body)
		other[i] ^= 1
		_ = again.UnmarshalJSON(other) // it may be another day, and does no harm
	}
	for _, other := range []string{"", `"`, `""`, "null", `{"kinds":[]}`, `"/////////////////w"`} {
		if err := again.UnmarshalJSON([]byte(other)); err == nil {
			t.Errorf("%s is a day", other)
		}
	}
}

// The days that were written as objects, before layouts had numbers, are read: an upgrade loses none of them.
func TestDaysOfTheFirstLayout(t *testing.T) {
	s, now := open(t), time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	const day = `{"kinds":[{"condition":"new"},{"release":"1.0.0","condition":"healthy"}],"points":[{"m":0,"n":[2]},` +
		`{"m":61},{"m":600,"n":[0,2]}],"until":1439`
	for date, body := range map[string]string{"2026-11-28": day + "}", "2026-11-29": day + `,"step":60}`} {
		if _, err := s.Put(t.Context(), records.Record{Kind: "adoption", Key: "staging/" + date,
			Body: json.RawMessage(body)}); err != nil {
			t.Fatal(err)
		}
	}
	want := "28 00:00 2  new|28 01:01 unknown|28 10:00 2 1.0.0 healthy"
	if all := strings.Join(samplesOf(t, s, "staging", now), "|"); !strings.HasPrefix(all, want) ||
		!strings.Contains(all, strings.ReplaceAll(want, "28 ", "29 ")) {
		t.Error(all)
	}
	var d adoption.Day
	if err := json.Unmarshal([]byte(day+`,"step":60}`), &d); err != nil || d.Step != 60 || d.Until != 1439 {
		t.Errorf("%+v, %v", d, err)
	}
	body, err := json.Marshal(&d)
	var again adoption.Day
	if err != nil || json.Unmarshal(body, &again) != nil || fmt.Sprint(again) != fmt.Sprint(d) {
		t.Errorf("written as %s: %+v, %v", body, again, err)
	}
	for _, other := range []string{"{}", "{", `{"points":[{"m":-1}]}`, `{"points":[{"m":2},{"m":1}]}`,
		`{"points":[{"m":1,"n":[1]}]}`, `{"kinds":[{"condition":"new"}],"points":[{"m":1,"n":[-1]}]}`,
		`{"points":[{"m":1}],"until":-1}`, `{"points":[{"m":1}],"step":-1}`} {
		if err := again.UnmarshalJSON([]byte(other)); err == nil {
			t.Errorf("%s is a day", other)
		}
	}
}
