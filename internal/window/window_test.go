package window

import (
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

func parseTime(t testing.TB, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func window(t testing.TB, opens string, open time.Duration, zone string) *Window {
	t.Helper()
	w := &Window{Opens: opens, For: open, Zone: zone}
	if wrong := w.Compile(); wrong != nil {
		t.Fatalf("window %q for %s in %q: %v", opens, open, zone, wrong)
	}
	return w
}

// answer holds the results of Judge.
type answer struct {
	open  bool
	why   string
	until time.Time
}

func judge(w *Window, now time.Time) answer {
	open, why, until := w.Judge(now)
	return answer{open, why, until}
}

// describeAnswer formats an answer: "open" or "shut", until when, in the window's zone.
func describeAnswer(v answer) string {
	s := "shut"
	if v.open {
		s = "open"
	}
	if v.until.IsZero() {
		return s
	}
	return s + " until " + v.until.Format(time.RFC3339)
}

func TestWindow(t *testing.T) {
	const workdays = "0 9 * * MON-THU"
	for _, tt := range []struct {
		name, opens string
		open        time.Duration
		zone, now   string
		want        string
	}{
		{"before it opens", workdays, 7 * time.Hour, "Europe/Berlin", "2026-11-24T07:59:59Z",
			"shut until 2026-11-24T09:00:00+01:00"},
		{"the instant it opens", workdays, 7 * time.Hour, "Europe/Berlin", "2026-11-24T08:00:00Z",
			"open until 2026-11-24T16:00:00+01:00"},
		{"just before it closes", workdays, 7 * time.Hour, "Europe/Berlin", "2026-11-24T14:59:59Z",
			"open until 2026-11-24T16:00:00+01:00"},
		{"the instant it closes", workdays, 7 * time.Hour, "Europe/Berlin", "2026-11-24T15:00:00Z",
			"shut until 2026-11-25T09:00:00+01:00"},
		{"over the weekend", workdays, 7 * time.Hour, "Europe/Berlin", "2026-11-26T15:00:00Z",
			"shut until 2026-11-30T09:00:00+01:00"},
		{"no zone is UTC", "30 8 * * *", time.Hour, "", "2026-11-24T08:00:00Z", "shut until 2026-11-24T08:30:00Z"},
		{"open past midnight", "0 22 * * FRI", 4 * time.Hour, "UTC", "2026-11-28T01:00:00Z",
			"open until 2026-11-28T02:00:00Z"},
		{"openings that overlap are one", "0 9,10,11 * * *", 90 * time.Minute, "UTC", "2026-11-24T09:10:00Z",
			"open until 2026-11-24T12:30:00Z"},
		{"openings that touch are one", "0 9,10 * * *", time.Hour, "UTC", "2026-11-24T09:10:00Z",
			"open until 2026-11-24T11:00:00Z"},
		{"each day into the next, over the workdays", "0 9 * * MON-THU", 24 * time.Hour, "UTC", "2026-11-23T09:00:00Z",
			"open until 2026-11-27T09:00:00Z"},
		{"longer than the period", "0 9 * * *", 49 * time.Hour, "UTC", "2026-11-24T09:10:00Z", "open"},
		{"every minute", "* * * * *", time.Minute, "UTC", "2026-11-24T09:10:30Z", "open"},
		{"day of month or of week, as in every cron", "0 0 13 * FRI", time.Hour, "UTC", "2026-11-14T12:00:00Z",
			"shut until 2026-11-20T00:00:00Z"},
		{"29 February, 7 years on", "0 12 29 2 *", time.Hour, "UTC", "2097-01-01T00:00:00Z",
			"shut until 2104-02-29T12:00:00Z"},
		{"all of November", "0 0 * 11 *", 24 * time.Hour, "UTC", "2026-11-02T00:00:00Z",
			"open until 2026-12-01T00:00:00Z"},

		{"fault 18: spring gap, before", "30 2 * * *", time.Hour, "Europe/Berlin", "2026-03-29T00:59:59Z",
			"shut until 2026-03-29T03:00:00+02:00"},
		{"fault 18: opens at the first valid instant", "30 2 * * *", time.Hour, "Europe/Berlin", "2026-03-29T01:00:00Z",
			"open until 2026-03-29T04:00:00+02:00"},
		{"fault 18: once", "30 2 * * *", time.Hour, "Europe/Berlin", "2026-03-29T02:00:00Z",
			"shut until 2026-03-30T02:30:00+02:00"},
		{"fault 18: several in the gap open once", "0,15,30 2 * * *", time.Minute, "Europe/Berlin",
			"2026-03-29T01:00:00Z", "open until 2026-03-29T03:01:00+02:00"},
		{"fault 18: half an hour", "15 2 * * *", time.Hour, "Australia/Lord_Howe", "2026-10-03T15:29:59Z",
			"shut until 2026-10-04T02:30:00+11:00"},
		{"fault 18: a day that was skipped", "0 9 * * *", time.Hour, "Pacific/Apia", "2011-12-30T09:59:59Z",
			"shut until 2011-12-31T00:00:00+14:00"},
		{"fault 19: autumn overlap, before", "30 2 * * *", 20 * time.Minute, "Europe/Berlin", "2026-10-25T00:00:00Z",
			"shut until 2026-10-25T02:30:00+02:00"},
		{"fault 19: first occurrence", "30 2 * * *", 20 * time.Minute, "Europe/Berlin", "2026-10-25T00:30:00Z",
			"open until 2026-10-25T02:50:00+02:00"},
		{"fault 19: not at the second", "30 2 * * *", 20 * time.Minute, "Europe/Berlin", "2026-10-25T01:30:00Z",
			"shut until 2026-10-26T02:30:00+01:00"},
		{"fault 19: every minute opens once", "* * * * *", time.Minute, "Europe/Berlin", "2026-10-25T00:10:00Z",
			"open until 2026-10-25T02:00:00+01:00"},
		{"fault 19: and again after the overlap", "* * * * *", time.Minute, "Europe/Berlin", "2026-10-25T01:10:00Z",
			"shut until 2026-10-25T03:00:00+01:00"},
		{"elapsed time over the gap", "0 0 * * SUN", 6 * time.Hour, "Europe/Berlin", "2026-03-29T00:00:00Z",
			"open until 2026-03-29T07:00:00+02:00"},
		{"elapsed time over the overlap", "0 0 * * SUN", 6 * time.Hour, "Europe/Berlin", "2026-10-25T00:00:00Z",
			"open until 2026-10-25T05:00:00+01:00"},
		{"daily for a day closes once a year", "0 9 * * *", 24 * time.Hour, "Europe/Berlin", "2026-11-24T09:00:00Z",
			"open until 2027-10-31T08:00:00+01:00"},
		{"and opens an hour later", "0 9 * * *", 24 * time.Hour, "Europe/Berlin", "2027-10-31T07:30:00Z",
			"shut until 2027-10-31T09:00:00+01:00"},
		{"clocks go back over midnight", "50 23 * * *", 5 * time.Minute, "America/Havana", "2026-11-01T03:55:00Z",
			"shut until 2026-11-01T23:50:00-05:00"},
		{"decades ahead, the last day of a leap year", "0 9 * * *", time.Hour, "Europe/Berlin", "2080-12-31T12:00:00Z",
			"shut until 2081-01-01T09:00:00+01:00"},
		{"decades ahead, over that day", "0 9 30 * *", 72 * time.Hour, "Europe/Berlin", "2080-12-31T12:00:00Z",
			"open until 2081-01-02T09:00:00+01:00"},
		{"years ahead", "0 9 * * *", time.Hour, "Europe/Berlin", "2061-07-01T06:59:00Z",
			"shut until 2061-07-01T09:00:00+02:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := describeAnswer(judge(window(t, tt.opens, tt.open, tt.zone),
				parseTime(t, tt.now))); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestWindowReads(t *testing.T) {
	w := window(t, "0 9 * * MON-THU", 7*time.Hour, "Europe/Berlin")
	if v := judge(w, parseTime(t, "2026-11-27T12:00:00Z")); v.why != "opens Mon 09:00 Europe/Berlin" {
		t.Errorf("shut: %q", v.why)
	}
	bare := Window{Opens: "0 9 * * *", For: time.Hour} // as somebody may build one by hand
	if v := judge(&bare, parseTime(t, "2026-11-24T09:30:00Z")); !v.open {
		t.Errorf("a window that was not loaded: %+v", v)
	}
	broken := Window{Opens: "0 9 30 2 *", For: time.Hour, Zone: "Nowhere"}
	if v := judge(&broken, parseTime(t, "2026-11-24T09:30:00Z")); v.open || !strings.Contains(v.why, "Nowhere") {
		t.Errorf("an invalid window must be blocked, and say why: %+v", v)
	}
}

// Fault 20: a window that never opens is refused, with the reason.
func TestWindowRefused(t *testing.T) {
	for _, tt := range []struct {
		w    Window
		want string
	}{
		{Window{Opens: "0 9 * * *", For: time.Hour, Zone: "Mars/Olympus"}, `unknown zone "Mars/Olympus"`},
		{Window{Opens: "0 9 * * *", For: time.Hour, Zone: "Local"}, `unknown zone "Local"`},
		{Window{Opens: "0 9 * * *", For: time.Hour, Zone: "../etc/passwd"}, `unknown zone`},
		{Window{Opens: "0 9 30 2 *", For: time.Hour}, `never opens: no day matches "0 9 30 2 *"`},
		{Window{Opens: "0 9 31 4,6,9,11 *", For: time.Hour}, `never opens`},
		{Window{Opens: "0 9 * * *"}, `else the window never opens`},
		{Window{Opens: "0 9 * * *", For: -time.Hour}, `for must be more than 0`},
		{Window{Opens: "61 9 * * *", For: time.Hour}, `cron line "61 9 * * *"`},
		{Window{Opens: "0 9 * *", For: time.Hour}, `cron line`},
		{Window{Opens: "", For: time.Hour}, `cron line`},
		{Window{Opens: "@daily", For: time.Hour}, `write five fields`},
		{Window{Opens: "TZ=Europe/Berlin", For: time.Hour}, `write five fields`},
		{Window{Opens: "CRON_TZ=Europe/Berlin 0 9 * * *", For: time.Hour}, `write five fields`},
		{Window{Opens: "0 9 * * " + strings.Repeat("1,", 200) + "1", For: time.Hour}, `at most 256`},
	} {
		wrong := tt.w.Compile()
		if len(wrong) != 1 || !strings.Contains(wrong[0].Reason, tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.w, wrong, tt.want)
		}
	}
}

var testZones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
	"Pacific/Apia", "America/Havana", "Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll"}

func drawWindow(t *rapid.T) (*Window, *compiled) {
	field := func(name string, low, high int) string {
		one := rapid.IntRange(low, high)
		switch rapid.IntRange(0, 4).Draw(t, name+" form") {
		case 0, 1:
			return "*"
		case 2:
			return "*/" + itoa(rapid.IntRange(1, high).Draw(t, name+" step"))
		case 3:
			a, b := one.Draw(t, name), one.Draw(t, name)
			return itoa(min(a, b)) + "-" + itoa(max(a, b))
		}
		return itoa(one.Draw(t, name)) + "," + itoa(one.Draw(t, name))
	}
	w := &Window{
		Opens: strings.Join([]string{field("minute", 0, 59), field("hour", 0, 23), field("day", 1, 31),
			field("month", 1, 12), field("weekday", 0, 6)}, " "),
		For: rapid.OneOf(
			rapid.Map(rapid.IntRange(1, 240), func(n int) time.Duration { return time.Duration(n) * time.Minute }),
			rapid.Map(rapid.IntRange(1, 72), func(n int) time.Duration { return time.Duration(n) * time.Hour }),
			rapid.Map(rapid.IntRange(1, 5), func(n int) time.Duration { return time.Duration(n) * 7 * 24 * time.Hour }),
			rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Second, time.Minute, time.Hour, 24 * time.Hour}),
		).Draw(t, "for"),
		Zone: rapid.SampledFrom(testZones).Draw(t, "zone"),
	}
	if wrong := w.Compile(); wrong != nil {
		t.Skip(wrong) // a drawn line may name no day
	}
	return w, w.compiled
}

func itoa(n int) string { return string(rune('0'+n/10)) + string(rune('0'+n%10)) }

// drawInstant draws an instant, often one near a change of clocks.
func drawInstant(t *rapid.T, zone *time.Location) time.Time {
	x := time.Unix(rapid.Int64Range(1_262_304_000, 3_500_000_000).Draw(t, "now"), 0).In(zone)
	if rapid.Bool().Draw(t, "near a shift") {
		if _, end := x.ZoneBounds(); !end.IsZero() {
			x = end.Add(time.Duration(rapid.IntRange(-200, 200).Draw(t, "minutes")) * time.Minute)
		}
	}
	return x
}

func TestWindowWarnings(t *testing.T) {
	for opens, want := range map[string]string{
		"0 9 * * MON-THU":      "",
		"0 9 1,15 * MON":       "",
		"*/15 9 */2 * *":       "",
		"0 9 */2 * MON-FRI":    `day of month "*/2" beside day of week "MON-FRI": a day that matches either`,
		"0 9 1-7 * */2":        `day of week "*/2" beside day of month "1-7": a day that matches either`,
		"0 9,,12 * * *":        `hour "9,,12" has an empty item`,
		"0, 9 * * *":           `minute "0," has an empty item`,
		"*/90 9 * * *":         `minute "*/90" names only its first value: a step of 90`,
		"0 9 * 3/12 *":         `month "3/12" names only its first value: a step of 12`,
		"0 9 * *":              "", // Compile refuses it
		"0 9,, */2 */20 1-5/9": `hour "9,," has an empty item`,
	} {
		var all []string
		for _, f := range (&Window{Opens: opens, For: time.Hour}).Warnings() {
			all = append(all, f.Reason)
		}
		if got := strings.Join(all, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", opens, got, want)
		}
	}
}

// Judge's answer changes at Until, and not before: Plan.Next depends on that.
func TestWindowChangesExactlyAtUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, c := drawWindow(t)
		now := drawInstant(t, c.zone)
		v := judge(w, now)
		if v.until.IsZero() {
			if !v.open {
				t.Fatalf("%+v: blocked for ever at %s", w, now)
			}
			for range 20 {
				later := now.Add(time.Duration(rapid.Int64Range(0, int64(maxLookahead)).Draw(t, "later")))
				if !judge(w, later).open {
					t.Fatalf("%+v: open for ever at %s, shut at %s", w, now, later)
				}
			}
			return
		}
		if !v.until.After(now) {
			t.Fatalf("%+v at %s: until %s is not later", w, now, v.until)
		}
		if next := judge(w, v.until); next.open == v.open {
			t.Fatalf("%+v at %s: nothing changes at %s", w, now, v.until)
		}
		samples := []time.Duration{v.until.Sub(now) - 1}
		for range 20 {
			samples = append(samples, time.Duration(rapid.Int64Range(0, int64(v.until.Sub(now)-1)).Draw(t, "between")))
		}
		for _, d := range samples {
			between := judge(w, now.Add(d))
			if between.open != v.open || between.why != v.why || !between.until.Equal(v.until) {
				t.Fatalf("%+v at %s: %s %q, but %s later %s %q", w, now, describeAnswer(v), v.why,
					d, describeAnswer(between), between.why)
			}
		}
	})
}

// Judge agrees with the definition, carried out minute by minute: run on wall time, convert, keep first instants.
func TestWindowAgainstDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, c := drawWindow(t)
		if w.For > 3*24*time.Hour {
			t.Skip("the definition would take too long")
		}
		now := drawInstant(t, c.zone)
		want := false
		shown := wallTime(0) // the latest that the clock showed, before the minute at hand
		start := now.Add(-w.For - 28*time.Hour).Truncate(time.Minute)
		for m := start; !m.After(now); m = m.Add(time.Minute) {
			_, offset := m.In(c.zone).Zone()
			reads := wallTime(m.Unix() + int64(offset))
			for at := shown + 60; shown != 0 && at <= reads; at += 60 { // what it shows now, and what it skipped
				if c.opensOn(at-floorMod(at, daySeconds)) && c.days.Hour&(1<<(floorMod(at, daySeconds)/3600)) != 0 &&
					c.days.Minute&(1<<(floorMod(at, 3600)/60)) != 0 {
					want = want || now.Before(m.Add(w.For))
				}
			}
			shown = max(shown, reads)
		}
		if got := judge(w, now).open; got != want {
			t.Fatalf("%+v at %s: got %v, want %v", w, now, got, want)
		}
	})
}

// Where clocks never change, a window opens at the minutes at which cron fires.
func TestWindowAgainstCron(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, c := drawWindow(t)
		oracle, err := cron.ParseStandard("CRON_TZ=UTC " + w.Opens)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1_262_304_000, 3_500_000_000).Draw(t, "from"), 0).UTC()
		next, ok := c.nextOpening(wallTime(from.Unix()))
		want := oracle.Next(from)
		if want.IsZero() { // cron gives up after five years
			return
		}
		if !ok || int64(next) != want.Unix() {
			t.Fatalf("%q after %s: got %s, want %s", w.Opens, from, time.Unix(int64(next), 0).UTC(), want)
		}
		if o, ok := c.latestOpening(next); !ok || o.shown != next {
			t.Fatalf("%q: latest(%d) = %v", w.Opens, next, o)
		}
	})
}

func FuzzWindow(f *testing.F) {
	f.Add("0 9 * * MON-THU", int64(7*time.Hour), "Europe/Berlin", int64(1_795_000_000))
	f.Add("*/5 * 29 2 *", int64(time.Minute), "Africa/Casablanca", int64(-1_000_000_000))
	f.Add("TZ=", int64(1), "", int64(0))
	f.Fuzz(func(t *testing.T, opens string, open int64, zone string, now int64) {
		w := &Window{Opens: opens, For: time.Duration(open), Zone: zone}
		if w.Compile() != nil {
			if v := judge(w, time.Unix(now, 0)); v.open || v.why == "" {
				t.Fatalf("an invalid window: %+v", v)
			}
			return
		}
		at := time.Unix(now%(1<<36), 0)
		v := judge(w, at)
		if !v.until.IsZero() && !v.until.After(at) {
			t.Fatalf("%+v at %s: until %s", w, at, v.until)
		}
	})
}

func BenchmarkWindowJudge(b *testing.B) {
	for _, bench := range []struct {
		name, opens string
		open        time.Duration
	}{
		{"workdays", "0 9 * * MON-THU", 7 * time.Hour},
		{"daily for a day", "0 9 * * *", 24 * time.Hour},
		{"every minute", "* * * * *", time.Minute},
		{"every minute in working hours", "* 9-16 * * MON-FRI", time.Minute},
		{"29 February", "0 0 29 2 *", time.Hour},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w := window(b, bench.opens, bench.open, "Europe/Berlin")
			now := parseTime(b, "2026-11-24T12:00:00Z")
			for b.Loop() {
				judge(w, now)
			}
		})
	}
}
