package channels

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/releases"
)

// soaked returns a cell that has been healthy on the digest for d, up to its last report at 12:00.
func soaked(t testing.TB, cell string, d time.Duration) Sample {
	return Sample{Cell: cell, Counts: true, OnDigest: true, Healthy: true, Soaked: d,
		LastReport: parseTime(t, "2026-11-24T12:00:00Z")}
}

func changeSample(s Sample, change func(*Sample)) Sample { change(&s); return s }

// R9: count and percent both hold; only counting cells are in the denominator.
func TestSoak(t *testing.T) {
	percent := func(p float64) *float64 { return &p }
	long := func(cell string) Sample { return soaked(t, cell, 24*time.Hour+2*time.Minute+31*time.Second) }
	short := func(cell string, d time.Duration) Sample { return soaked(t, cell, d) }
	later := func(s Sample) Sample { return changeSample(s, func(s *Sample) { s.Counts = false }) }
	silent := func(s Sample) Sample { return changeSample(s, func(s *Sample) { s.Silent = true }) }
	failed := func(s Sample) Sample {
		return changeSample(s, func(s *Sample) { s.Failed, s.OnDigest, s.Healthy = true, false, false })
	}
	other := func(s Sample) Sample { return changeSample(s, func(s *Sample) { s.OnDigest = false }) }
	sick := func(s Sample) Sample { return changeSample(s, func(s *Sample) { s.Healthy = false }) }
	for _, tt := range []struct {
		name    string
		gate    Soak
		samples []Sample
		want    string
	}{
		{"all of them", Soak{For: 24 * time.Hour, Cells: 3},
			[]Sample{long("a"), long("b"), long("c"), long("d"), short("e", 25*time.Hour)},
			"held, 5 of 5 cells healthy for 24h2m"},
		{"one cell", Soak{For: 45 * time.Second}, []Sample{short("a", 45*time.Second)},
			"held, 1 of 1 cell healthy for 45s"},
		{"exactly long enough", Soak{For: time.Hour}, []Sample{short("a", time.Hour)},
			"held, 1 of 1 cell healthy for 1h"},
		{"all is the default", Soak{For: 24 * time.Hour},
			[]Sample{long("a"), long("b"), short("c", 23*time.Hour)},
			"blocked: staging: 2 of 3 cells healthy for 24h, needs 3, until 2026-11-24T13:00:00Z"},
		{"percent is rounded up", Soak{For: 24 * time.Hour, Percent: percent(50)},
			[]Sample{long("a"), short("b", time.Hour), short("c", 2*time.Hour)},
			"blocked: staging: 1 of 3 cells healthy for 24h, needs 2, until 2026-11-25T10:00:00Z"},
		{"95 percent of 20 is 19", Soak{For: time.Hour, Percent: percent(95)},
			append(manyOnDigest(t, 19), sick(long("z"))),
			"held, 19 of 20 cells healthy for 24h"},
		{"percent 0 leaves the number", Soak{For: time.Hour, Cells: 2, Percent: percent(0)},
			[]Sample{long("a"), long("b"), short("c", 0)}, "held, 2 of 3 cells healthy for 24h2m"},
		{"the number is missing", Soak{For: time.Hour, Cells: 3, Percent: percent(50)},
			[]Sample{long("a"), long("b"), sick(long("c")), sick(long("d"))},
			"blocked: staging: 2 of 4 cells healthy for 1h, needs 3"},
		{"later cells count toward the number", Soak{For: time.Hour, Cells: 3},
			[]Sample{long("a"), long("b"), later(long("c"))}, "held, 3 of 3 cells healthy for 24h2m"},
		{"but not toward percent", Soak{For: time.Hour, Cells: 2},
			[]Sample{long("a"), sick(long("b")), later(long("c"))},
			"blocked: staging: 1 of 2 cells healthy for 1h, needs 2"},
		{"nor against it", Soak{For: time.Hour, Cells: 2},
			[]Sample{long("a"), long("b"), later(short("c", time.Minute))}, "held, 2 of 2 cells healthy for 24h2m"},
		{"silent counts against", Soak{For: time.Hour}, []Sample{long("a"), silent(long("b"))},
			"blocked: staging: 1 of 2 cells healthy for 1h, needs 2"},
		{"another digest counts against", Soak{For: time.Hour}, []Sample{long("a"), other(long("b"))},
			"blocked: staging: 1 of 2 cells healthy for 1h, needs 2"},
		{"failures are named", Soak{For: time.Hour}, []Sample{long("a"), failed(long("b"))},
			"blocked: staging: 1 of 2 cells healthy for 1h, needs 2; failed in b"},
		{"three failures, and a number", Soak{For: time.Hour},
			[]Sample{failed(long("e")), failed(long("d")), failed(long("c")), failed(long("b")), failed(long("a"))},
			"blocked: staging: 0 of 5 cells healthy for 1h, needs 5; failed in a, b, c and 2 more"},
		{"too few cells ever", Soak{For: time.Hour, Cells: 3}, []Sample{long("a")},
			"blocked: impossible: needs 3 cells, staging has 1"},
		{"fault 44: no cells at all", Soak{For: time.Hour}, nil, "blocked: impossible: needs 1 cell, staging has 0"},
		{"nobody left who counts", Soak{For: time.Hour}, []Sample{later(long("a"))},
			"held, 1 of 1 cell healthy for 24h2m"},
		{"until is the k-th, the number's and percent's", Soak{For: 24 * time.Hour, Cells: 3, Percent: percent(50)},
			[]Sample{short("a", 20*time.Hour), short("b", 21*time.Hour), later(short("c", 22*time.Hour)),
				later(short("d", 23*time.Hour))},
			"blocked: staging: 0 of 4 cells healthy for 24h, needs 3, until 2026-11-24T15:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.gate.Judge("staging", tt.samples)
			v.Gate = "soak"
			if got, want := v.String(), "soak "+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func manyOnDigest(t testing.TB, n int) (samples []Sample) {
	for range n {
		samples = append(samples, soaked(t, "a", 24*time.Hour))
	}
	return samples
}

// R9: at Until, and not a nanosecond before, the gate holds if the soaking cells stay healthy and report.
func TestSoakUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := float64(rapid.IntRange(0, 100).Draw(t, "percent"))
		gate := Soak{For: time.Duration(rapid.IntRange(1, 100).Draw(t, "for")),
			Cells: rapid.IntRange(0, 5).Draw(t, "cells"), Percent: &p}
		base := time.Unix(1_800_000_000, 0)
		var samples []Sample
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			samples = append(samples, Sample{
				Counts: rapid.Bool().Draw(t, "counts"), OnDigest: rapid.IntRange(0, 5).Draw(t, "on") > 0,
				Healthy:    rapid.IntRange(0, 5).Draw(t, "healthy") > 0,
				Silent:     rapid.IntRange(0, 9).Draw(t, "silent") == 0,
				Failed:     rapid.IntRange(0, 9).Draw(t, "failed") == 0,
				Soaked:     time.Duration(rapid.IntRange(0, 100).Draw(t, "soaked")),
				LastReport: base.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "last"))),
			})
		}
		judgeAt := func(now time.Time) Verdict { // with a report of every cell at now
			var later []Sample
			for _, s := range samples {
				s.Soaked += now.Sub(s.LastReport)
				s.LastReport = now
				later = append(later, s)
			}
			return gate.Judge("up", later)
		}
		v := gate.Judge("up", samples)
		switch {
		case v.Holds:
		case v.Until.IsZero():
			if judgeAt(base.Add(time.Hour)).Holds {
				t.Fatalf("%+v %+v: %s, but an hour later it holds", gate, samples, v)
			}
		case !judgeAt(v.Until).Holds || judgeAt(v.Until.Add(-1)).Holds:
			t.Fatalf("%+v %+v: until %s is not when it begins to hold", gate, samples, v.Until)
		}
	})
}

// R18: a freeze blocks from its first instant, and no longer at its last.
func TestFreezes(t *testing.T) {
	freeze := func(from, until, reason string) Freeze {
		return Freeze{From: parseTime(t, from), Until: parseTime(t, until), Reason: reason}
	}
	holidays := freeze("2026-12-20T00:00:00Z", "2027-01-05T00:00:00Z", "holidays")
	audit := freeze("2027-01-04T00:00:00Z", "2027-01-07T00:00:00Z", "audit")
	next := freeze("2027-01-07T00:00:00Z", "2027-01-08T00:00:00Z", "")
	later := freeze("2027-02-01T00:00:00Z", "2027-02-02T00:00:00Z", "")
	upside := freeze("2027-01-05T00:00:00Z", "2026-12-20T00:00:00Z", "ends before it begins")
	for _, tt := range []struct {
		name    string
		freezes []Freeze
		now     string
		want    string
	}{
		{"none", nil, "2026-12-20T00:00:00Z", "freeze held"},
		{"before", []Freeze{holidays}, "2026-12-19T23:59:59Z", "freeze held until 2026-12-20T00:00:00Z"},
		{"its first instant", []Freeze{holidays}, "2026-12-20T00:00:00Z",
			"freeze blocked: holidays, until 2027-01-05T00:00:00Z"},
		{"its last", []Freeze{holidays}, "2027-01-04T23:59:59Z",
			"freeze blocked: holidays, until 2027-01-05T00:00:00Z"},
		{"after", []Freeze{holidays}, "2027-01-05T00:00:00Z", "freeze held"},
		{"overlapping ones are one, in any order", []Freeze{later, audit, holidays, next}, "2026-12-24T00:00:00Z",
			"freeze blocked: holidays; audit, until 2027-01-08T00:00:00Z"},
		{"the same words in all of it", []Freeze{later, audit, holidays, next}, "2027-01-07T12:00:00Z",
			"freeze blocked: holidays; audit, until 2027-01-08T00:00:00Z"},
		{"between", []Freeze{later, audit, holidays, next}, "2027-01-08T00:00:00Z",
			"freeze held until 2027-02-01T00:00:00Z"},
		{"without a reason", []Freeze{later}, "2027-02-01T00:00:00Z",
			"freeze blocked: frozen, until 2027-02-02T00:00:00Z"},
		{"one that is none", []Freeze{upside}, "2026-12-24T00:00:00Z", "freeze held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := JudgeFreezes(tt.freezes, parseTime(t, tt.now)).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// JudgeFreezes' verdict changes at Until, and not before.
func TestFreezesChangeExactlyAtUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Unix(1_800_000_000, 0)
		var freezes []Freeze
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			from := rapid.IntRange(0, 40).Draw(t, "from")
			freezes = append(freezes, Freeze{From: base.Add(time.Duration(from)),
				Until:  base.Add(time.Duration(from + rapid.IntRange(-1, 10).Draw(t, "long"))),
				Reason: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "reason")})
		}
		inside := func(now time.Time) bool {
			for _, f := range freezes {
				if !now.Before(f.From) && now.Before(f.Until) {
					return true
				}
			}
			return false
		}
		last := JudgeFreezes(freezes, base)
		for i := range 60 {
			now := base.Add(time.Duration(i))
			v := JudgeFreezes(freezes, now)
			if v.Holds == inside(now) {
				t.Fatalf("%v at %d: %s", freezes, i, v)
			}
			if changed := v != last; changed != now.Equal(last.Until) {
				t.Fatalf("%v at %d: %s, before %s", freezes, i, v, last)
			}
			last = v
		}
	})
}

// R22: distinct people with the required roles, never the release's author.
func TestApproval(t *testing.T) {
	ada := Approver{"ada", "ada@example.com", nil, []string{"release-managers", "security"}}
	bob := Approver{"bob", "bob@example.com", nil, []string{"release-managers"}}
	eve := Approver{"eve", "Eve@Example.com", nil, []string{"release-managers"}}
	mal := Approver{"mal", "", nil, []string{"interns"}}
	two := Approval{Count: 2, From: []string{"release-managers"}}
	for _, tt := range []struct {
		name      string
		gate      Approval
		approvers []Approver
		authors   []releases.Person
		names     []string
		want      string
	}{
		{"two", two, []Approver{bob, ada}, nil, nil, "held, 2 of 2: ada, bob"},
		{"more than enough", two, []Approver{bob, ada, eve}, nil, nil, "held, 3 of 2: ada, bob, eve"},
		{"a person counts once", two, []Approver{ada, ada}, nil, nil, "blocked: 1 of 2 from release-managers (ada)"},
		{"nobody", two, nil, nil, nil, "blocked: 0 of 2 from release-managers"},
		{"an author, by address in any case", two, []Approver{ada, eve},
			[]releases.Person{{Name: "Evelyn", Email: "eve@example.com"}}, nil,
			"blocked: 1 of 2 from release-managers (ada; eve wrote the release)"},
		{"an author, by name", two, []Approver{ada, eve}, []releases.Person{{Name: "eve", Email: "eve@home.example"}},
			nil,
			"blocked: 1 of 2 from release-managers (ada; eve wrote the release)"},
		{"listed as an author, by name", two, []Approver{ada, eve}, nil, []string{"Eve"},
			"blocked: 1 of 2 from release-managers (ada; eve wrote the release)"},
		{"listed as an author, by address", two, []Approver{ada, eve}, nil, []string{"eve@example.com"},
			"blocked: 1 of 2 from release-managers (ada; eve wrote the release)"},
		{"without an address nobody matches the empty one", Approval{From: []string{"interns"}}, []Approver{mal},
			[]releases.Person{{}}, []string{""}, "held, 1 of 1: mal"},
		{"another role", two, []Approver{ada, mal}, nil, nil,
			"blocked: 1 of 2 from release-managers (ada; mal has no such role)"},
		{"any of the roles", Approval{Count: 2, From: []string{"security", "interns"}}, []Approver{ada, mal},
			nil, nil, "held, 2 of 2: ada, mal"},
		{"everyone", Approval{}, []Approver{mal}, nil, nil, "held, 1 of 1: mal"},
		{"several roles, nobody", Approval{From: []string{"security", "interns"}}, nil, nil, nil,
			"blocked: 0 of 1 from security or interns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.gate.Judge(tt.approvers, Authorship{People: tt.authors, Names: tt.names})
			v.Gate = "approval"
			if got, want := v.String(), "approval "+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// R52: an author is one by their key too, whatever address their commits name.
func TestApprovalByAuthorsKey(t *testing.T) {
	const key, other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQ", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIABV"
	ada := Approver{Person: "ada", Email: "ada@example.com", Keys: []string{other, key + " ada@laptop"}}
	gate := Approval{}
	if v := gate.Judge([]Approver{ada}, Authorship{Keys: []string{key}}); v.Holds {
		t.Error("ada approved what her key signed:", v)
	}
	if v := gate.Judge([]Approver{ada},
		Authorship{Keys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHh"}}); !v.Holds {
		t.Error(v)
	}
}

func TestWhen(t *testing.T) {
	version, err := releases.ParseVersion("2026.11.3")
	if err != nil {
		t.Fatal(err)
	}
	in := WhenInput{
		Release: &releases.Release{Version: version, Features: []string{"ssh-gateway"},
			Components: []releases.Component{{Name: "server"}}},
		Digest: "sha256:ab", Channel: "dedicated", Cells: Counts{Total: 12, Healthy: 9},
		ChannelCells: Counts{Total: 3, Failed: 1},
	}
	const design = "release.fixes.size() > 0 || cells.healthy >= 10"
	for _, tt := range []struct {
		expression string
		want       bool
		reason     string
	}{
		{design, false, "false: " + design},
		{"cells.healthy * 4 >= cells.total * 3", true, "cells.healthy * 4 >= cells.total * 3"},
		{`release.version.startsWith("2026.") && release.digest == "sha256:ab"`, true, ""},
		{`"server" in release.components && release.features.exists(f, f == "ssh-gateway")`, true, ""},
		{`channel.name == "dedicated" && channel.cells.failed == 1`, true, ""},
		{`release.fixes[0] == "CVE-1"`, false, "can't be evaluated: index out of bounds: 0"},
		{`cells.failed == 0 ? cells.total / cells.failed > 1 : true`, false, "can't be evaluated: division by zero"},
	} {
		w := When{Expression: tt.expression}
		if w.program, err = compileWhen(tt.expression); err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		v := w.Judge(in)
		if v.Holds != tt.want || tt.reason != "" && v.Reason != tt.reason {
			t.Errorf("%s: got %v %q, want %v %q", tt.expression, v.Holds, v.Reason, tt.want, tt.reason)
		}
		if bare := (&When{Expression: tt.expression}).Judge(in); bare != v {
			t.Errorf("%s: one that was not loaded says %+v", tt.expression, bare)
		}
	}
	with := When{Expression: design}
	in.Release.Fixes = []string{"CVE-2026-1234"}
	if v := with.Judge(in); !v.Holds {
		t.Errorf("with a fix: %+v", v)
	}
	if v := with.Judge(WhenInput{}); v.Holds || v.Reason == "" {
		t.Errorf("without a release: %+v", v)
	}
}

// Gates see flags: killed flags, and features that are published in the channel and upstream.
func TestWhenSeesFlags(t *testing.T) {
	in := WhenInput{
		Release: &releases.Release{Features: []string{"classes", "gateway"}},
		Flags: WhenFlags{Commit: "77aa", Killed: []string{"new-editor"}, Published: []string{"classes"},
			Upstream: []string{"classes", "gateway"}},
	}
	for expression, want := range map[string][2]bool{ // with them, and without a flags repository
		`!("new-editor" in flags.killed)`:                        {false, true},
		`!("old-editor" in flags.killed)`:                        {true, true},
		`release.features.exists(f, f in flags.published)`:       {true, false},
		`release.features.all(f, f in flags.published)`:          {false, false},
		`release.features.all(f, f in flags.upstream)`:           {true, false},
		`flags.commit != "" && flags.published.size() == 1`:      {true, false},
		`flags.published.all(f, f in flags.upstream)`:            {true, true},
		`"classes" in flags.published || !("x" in flags.killed)`: {true, true},
	} {
		w := When{Expression: expression}
		if v := w.Judge(in); v.Holds != want[0] {
			t.Errorf("%s: %+v, want %v", expression, v, want[0])
		}
		if v := w.Judge(WhenInput{Release: in.Release}); v.Holds != want[1] {
			t.Errorf("%s without flags: %+v, want %v", expression, v, want[1])
		}
	}
}

func TestWhenRefused(t *testing.T) {
	for expression, want := range map[string]string{
		"release.fixs.size() > 0":                 "undefined field 'fixs'",
		"now > timestamp('2026-01-01T00:00:00Z')": "time is not available here: use a window or a freeze",
		"cells.healthy":                           "must be a bool, not int",
		"cell.healthy > 1":                        "there are release, channel, cells and flags",
		"cells.healthy > '3'":                     "no matching overload",
		"cells.healthy >":                         "column 16: Syntax error",
		"":                                        "Syntax error",
		strings.Repeat("(", 1000):                 "",
		strings.Repeat("true || ", 600) + "true":  "at most 1024",
		strings.Repeat("[", 100) + strings.Repeat("]", 100) + " == []": "",
	} {
		if _, err := compileWhen(expression); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
			t.Errorf("%.80s: got %v, want %q", expression, err, want)
		}
	}
	costly := "[1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, [1,2,3,4,5,6,7,8,9,0].all(c, [1,2,3,4,5,6,7,8,9,0].all(d, [1,2,3,4,5,6,7,8,9,0].all(e, a+b+c+d+e+cells.total >= 0)))))"
	w := When{Expression: costly}
	if v := w.Judge(WhenInput{}); v.Holds || !strings.Contains(v.Reason, "can't be evaluated") {
		t.Errorf("beyond the cost limit: %+v", v)
	}
}

func BenchmarkWhen(b *testing.B) {
	const design = "release.fixes.size() > 0 || cells.healthy >= 10"
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			if _, err := compileWhen(design); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("judge", func(b *testing.B) {
		w := When{Expression: design}
		w.program, _ = compileWhen(design)
		for b.Loop() {
			w.Judge(WhenInput{Release: &releases.Release{}})
		}
	})
}

func parseTime(t testing.TB, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// R55: the windows of one gate are a union, those of several gates an intersection, and until is an instant at which
// all hold.
func TestR55WindowVerdicts(t *testing.T) {
	berlin := `{opens: "0 9 * * MON-THU", for: 7h, zone: Europe/Berlin}`
	friday := `{opens: "0 9 * * FRI", for: 5h}`
	for _, tt := range []struct{ gates, now, want string }{
		{"window: " + berlin, "2026-11-24T12:00:00Z", "window held until 2026-11-24T16:00:00+01:00"},
		{"window: " + berlin, "2026-11-27T12:00:00Z",
			"window blocked: opens Mon 09:00 Europe/Berlin, until 2026-11-30T09:00:00+01:00"},
		{"windows: [" + berlin + ", " + friday + "]", "2026-11-27T12:00:00Z",
			"windows held until 2026-11-27T14:00:00Z"},
		{"windows: [" + berlin + ", " + friday + "]", "2026-11-26T16:00:00Z",
			"windows blocked: opens Fri 09:00 UTC, until 2026-11-27T09:00:00Z"},
		{"window: " + berlin + "\n  - window: {opens: \"0 0 2 * *\", for: 24h}", "2026-11-24T12:00:00Z",
			"window held until 2026-11-24T16:00:00+01:00\nwindow-2 blocked: opens Wed 00:00 UTC; " +
				"all windows are open from 2 Dec 09:00 CET, until 2026-12-02T09:00:00+01:00"},
		{"windows: [" + berlin + ", " + friday + "]\n  - window: {opens: \"0 12 * * FRI,SAT\", for: 1h}",
			"2026-11-27T14:30:00Z", "windows blocked: opens Mon 09:00 Europe/Berlin; all windows are open from " +
				"4 Dec 12:00 UTC, until 2026-12-04T12:00:00Z\nwindow blocked: opens Sat 12:00 UTC; all windows are " +
				"open from 4 Dec 12:00 UTC, until 2026-12-04T12:00:00Z"},
	} {
		p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+"gates:\n  - "+tt.gates+"\n"), "x")
		if p == nil {
			t.Fatal(joinFaults(faults))
		}
		var got []string
		for i := range p.Gates {
			v, changes := p.JudgeWindows(&p.Gates[i], parseTime(t, tt.now))
			v.Gate = p.Gates[i].ID
			got = append(got, v.String())
			if !v.Holds && changes.After(v.Until) {
				t.Errorf("%s: changes at %s, after %s", tt.gates, changes, v.Until)
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("at %s: %q, want %q", tt.now, strings.Join(got, "\n"), tt.want)
		}
	}
}

// R55: windows that are never open together within two years are a fault.
func TestR55WindowsThatNeverMeet(t *testing.T) {
	for _, tt := range []struct{ gates, want string }{
		{"window: {opens: \"0 9 * * MON-THU\", for: 8h}\n  - window: {opens: \"0 9 * * FRI\", for: 5h}",
			"5: window and window-2 are not open together within two years"},
		{"window: {opens: \"0 9 * * *\", for: 1h, zone: Europe/Berlin}\n  - when: \"true\"\n" +
			"  - window: {opens: \"0 9 * * *\", for: 1h, zone: America/New_York}",
			"6: window and window-2 are not open together within two years"},
		{"window: {opens: \"0 0 29 2 *\", for: 24h}\n  - window: {opens: \"0 9 * * *\", for: 1h}",
			"5: window and window-2 are not open together within two years"}, // most years have none
		{"window: {opens: \"*/2 * * * *\", for: 1m}\n  - window: {opens: \"1-59/2 * * * *\", for: 1m}",
			"5: window and window-2 have so many openings"},
		{strings.Repeat("windows: ["+strings.Repeat("{opens: \"*/2 * * * *\", for: 1m},", 16)+"]\n  - ", 31) +
			"window: {opens: \"1-59/2 * * * *\", for: 1m}", "35: windows and windows-2 and"},
		{"window: {opens: \"0 0 1 * *\", for: 24h}\n  - windows: [{opens: \"0 9 2 * *\", for: 5h}," +
			" {opens: \"0 9 3 * *\", for: 5h}]", "5: window and windows are not open together within two years"},
		{"window: {opens: \"0 8 * * *\", for: 4h}\n  - window: {opens: \"0 11 * * *\", for: 4h}\n" + // pairs meet
			"  - windows: [{opens: \"0 14 * * *\", for: 19h}]",
			"6: window and window-2 and windows are not open together within two years"},
		{"windows: [{opens: \"0 9 * * *\", for: 1h, zone: Mars/Olympus}]", "4: unknown zone"},
		{"windows: [" + strings.Repeat("{opens: \"0 9 * * *\", for: 1h},", 17) + "]", "4: 17 windows: at most 16"},
		{"{window: {opens: \"0 9 * * *\", for: 1h}, windows: [{opens: \"0 9 * * *\", for: 1h}]}",
			"4: a gate has exactly one of soak, window, windows"},
		{"window: {opens: \"0 9 * * MON\", for: 8h}\n  - window: {opens: \"0 9 1 * *\", for: 5h}", ""},
		{"windows: [{opens: \"0 9 * * MON\", for: 8h}, {opens: \"0 9 29 2 *\", for: 5h}]", ""},
	} {
		_, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+"gates:\n  - "+tt.gates+"\n"), "x")
		got := strings.TrimPrefix(joinFaults(faults), "channels/x/channel.yaml:")
		if (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.gates, got, tt.want)
		}
	}
}
