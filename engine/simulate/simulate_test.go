package simulate

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

var begin = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) // a Monday

func repositoryOf(t testing.TB, files map[string]string) Input {
	t.Helper()
	r := newRepository(Input{Files: fstest.MapFS{}, History: plan.NewHistory()})
	data := map[string][]byte{}
	if _, ok := files["sluice.yaml"]; !ok {
		data["sluice.yaml"] = []byte("apiVersion: sluice/v1\nkind: Pipeline\n")
	}
	for name, text := range files {
		data[name] = []byte(text)
	}
	if err := r.commit(anonymous, begin.Add(-time.Hour), "begin", data); err != nil {
		t.Fatal(err)
	}
	return Input{Files: r.tip, History: r.history, Open: r.open, From: begin, For: 30 * 24 * time.Hour}
}

func policy(name, text string) map[string]string {
	return map[string]string{"channels/" + name + "/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n" + text}
}

func releaseFiles(version string) map[string]string {
	return map[string]string{
		"releases/" + version + "/release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: " +
			version + "\n",
		"releases/" + version + "/kustomization.yaml": "resources: [app.yaml]\n",
		"releases/" + version + "/app.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n",
	}
}

func union(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, files := range all {
		for name, text := range files {
			m[name] = text
		}
	}
	return m
}

func scenarioOf(t testing.TB, body string) *Scenario {
	t.Helper()
	s, faults := Parse("scenario.yaml", []byte("apiVersion: sluice/v1\nkind: Scenario\n"+body))
	for _, f := range faults {
		t.Fatal(f)
	}
	return s
}

// fleetInput returns a pipeline of two channels with n dedicated cells and a release every third day, for a month.
func fleetInput(t testing.TB, n int) Input {
	in := repositoryOf(t, union(
		policy("staging", ""),
		policy("dedicated",
			"after: [staging]\ngates:\n  - soak: {for: 24h, cells: 3}\n"+
				"  - window: {opens: \"0 9 * * MON-THU\", for: 7h, zone: Europe/Berlin}\n"+
				"rollout:\n  waves: [{cells: 1, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}]\n"+
				"  maxInFlight: 50\n  failureBudget: 20\n"),
		releaseFiles("1.0.0"),
	))
	var b strings.Builder
	fmt.Fprintf(&b, "cells: {add: {staging: 5, dedicated: %d}}\noutages: [{every: 10d, for: 2h}]\nreleases:\n", n)
	for i := range 9 {
		fmt.Fprintf(&b, "  - {at: %dd, version: 1.%d.0, fails: %.2f}\n", 2+3*i, i+1, []float64{0, 0.01, 0.3}[i%3])
	}
	in.Scenario = scenarioOf(t, b.String())
	return in
}

// How a month's simulation grows with its cells: how many plans it makes, and what a plan costs for each cell. With
// twice the cells, a rollout that has maxInFlight takes twice as long, and so needs twice the plans.
func BenchmarkMonth(b *testing.B) {
	for _, cells := range []int{500, 1000, 2000, 5000} {
		b.Run(fmt.Sprint(cells), func(b *testing.B) {
			plans := 0
			for b.Loop() {
				b.StopTimer()
				in := fleetInput(b, cells)
				b.StartTimer()
				r, err := Run(b.Context(), in)
				if err != nil {
					b.Fatal(err)
				}
				plans = r.Summary.Plans
			}
			b.ReportMetric(float64(plans), "plans")
			perRun := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(perRun/float64(plans*cells), "ns/plan/cell")
		})
	}
}

func runInput(t *testing.T, in Input) *Result {
	t.Helper()
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// timelineOf returns a channel's timeline, with two words for each event.
func timelineOf(r *Result, channel string, which ...string) string {
	var all []string
	for _, e := range r.Timeline {
		if e.Channel == channel && slices.Contains(which, e.Kind) {
			all = append(all, e.Kind+" "+e.Release)
		}
	}
	return strings.Join(all, ", ")
}

// R46, R52: where the engine's key and owners are listed, a simulation's engine and what its scenario says count.
func TestListedKeys(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy"
	in := repositoryOf(t, union(policy("staging", ""), releaseFiles("1.0.0"),
		map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\nengine: {keys: [\"" + key + "\"]}\n" +
			"people: {ada: {keys: [\"" + key + " ada\"]}}\nowners: [ada]\n"}))
	in.Scenario = scenarioOf(t, "cells: {add: {staging: 2}}\nreleases: [{at: 2d, version: 1.1.0}]\n"+
		"people: [{at: 4d, do: quarantine, release: 1.1.0, reason: bad}]\n")
	r := runInput(t, in)
	const want = "promote 1.0.0, promote 1.1.0, rollback 1.0.0"
	if got := timelineOf(r, "staging", "promote", "rollback"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Equal inputs make equal results and charts, byte for byte. Another seed makes others.
func TestDeterministic(t *testing.T) {
	encoded := func(seed int64) string {
		in := fleetInput(t, 40)
		in.Scenario.Seed = seed
		r := runInput(t, in)
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(data) + string(SVG(r))
	}
	first := encoded(1)
	if encoded(1) != first {
		t.Error("two runs of one input differ")
	}
	if encoded(2) == first {
		t.Error("the seed changes nothing")
	}
}

// A release that fails on some cells stops within the failure budget, and is quarantined and rolled back. No downstream
// channel ever has it.
func TestBadReleaseStops(t *testing.T) {
	in := repositoryOf(t, union(
		policy("staging", "rollout: {waves: [{cells: 2, soak: 1h}, {percent: 100}], failureBudget: 1}\n"),
		policy("dedicated", "after: [staging]\ngates: [{soak: {for: 2h}}]\n"),
		releaseFiles("1.0.0"),
	))
	in.Scenario = scenarioOf(t,
		"cells: {add: {staging: 12, dedicated: 3}}\nreleases: [{at: 1d, version: 1.1.0, fails: 1}]\n")
	r := runInput(t, in)
	want := "promote 1.0.0, promote 1.1.0, rollback 1.0.0, quarantine 1.1.0"
	if got := timelineOf(r, "staging", "promote", "quarantine", "rollback"); got != want {
		t.Errorf("staging: %s, want %s", got, want)
	}
	if got, want := timelineOf(r, "dedicated", "promote", "rollback"), "promote 1.0.0"; got != want {
		t.Errorf("dedicated: %s, want %s", got, want)
	}
	saw := 0
	for _, a := range r.Arrivals {
		if a.Release == "1.1.0" {
			saw++
		}
	}
	if saw != 2 || r.Summary.Failed != 2 {
		t.Errorf("%d cells saw 1.1.0 and %d failed, want the 2 of the first wave", saw, r.Summary.Failed)
	}
}

// People's actions are commits: approvals count as sluice.yaml says (R22), holds stop promotions, and a request below
// the head rolls back and leaves a hold (R1).
func TestPeople(t *testing.T) {
	in := repositoryOf(t, union(
		map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\npeople:\n  ada: {email: ada@example.com, roles: [managers], keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG/IvJAu8LPJhX0OlSHfgPWKQhCXLtftJpTNrYLUG3Xc\"]}\n"},
		policy("staging", ""),
		policy("dedicated", "after: [staging]\ngates: [{soak: {for: 2h}}, {approval: {from: [managers]}}]\n"),
		releaseFiles("1.0.0"),
	))
	in.Scenario = scenarioOf(t, `cells: {add: {staging: 1, dedicated: 2}}
releases: [{at: 2d, version: 1.1.0}]
people:
  - {at: 1h, do: approve, channel: dedicated, release: 1.0.0, by: ada}
  - {at: 12h, do: approve, channel: dedicated, release: "*", by: ada}
  - {at: 2d, do: hold, channel: dedicated, hold: fair, reason: trade fair}
  - {at: 3d, do: lift, channel: dedicated, hold: fair}
  - {at: 5d, do: request, channel: dedicated, release: 1.0.0, by: ada}
`)
	r := runInput(t, in)
	want := "approve 1.0.0, promote 1.0.0, hold , approve 1.1.0, lift , promote 1.1.0, request 1.0.0, rollback 1.0.0"
	if got := timelineOf(r, "dedicated", "approve", "promote", "rollback", "hold", "lift", "request"); got != want {
		t.Errorf("dedicated: %s, want %s", got, want)
	}
	for _, e := range r.Timeline {
		if e.Kind == "promote" && e.Channel == "dedicated" && e.Release == "1.1.0" &&
			!e.At.Equal(begin.Add(72*time.Hour)) {
			t.Errorf("1.1.0 came at %s, want when the hold was lifted", e.At)
		}
	}
	i := slices.IndexFunc(r.Waits, func(w Wait) bool { return w.Channel == "dedicated" && w.Gate == "hold" })
	if i < 0 || r.Waits[i].Longest < 20*3600 {
		t.Errorf("the hold is not among the longest waits: %+v", r.Waits)
	}
}

// A probe of an outside gate gets the scenario's answer; no answer counts as no (R11).
func TestAnswers(t *testing.T) {
	for answers, want := range map[string]string{
		"[]":                                     "",
		"[{gate: check, from: 4d, holds: true}]": "promote 1.0.0",
		"[{gate: check, holds: true}, {gate: check, from: 1h, holds: false, reason: not yet}]": "",
	} {
		in := repositoryOf(t, union(policy("staging", ""),
			policy("dedicated", "after: [staging]\n"+
				"gates: [{soak: {for: 2h}}, {check: {url: \"https://gate.example/\", validFor: 1h}}]\n"),
			releaseFiles("1.0.0")))
		in.Scenario = scenarioOf(t, "cells: {add: {staging: 1, dedicated: 1}}\nanswers: "+answers+"\n")
		in.For = 6 * 24 * time.Hour
		r := runInput(t, in)
		if got := timelineOf(r, "dedicated", "promote"); got != want {
			t.Errorf("%s: %q, want %q", answers, got, want)
		}
	}
}

// A silent cell does not soak (R9), and clocks that are off stop what time decides (R10).
func TestOutagesAndSkew(t *testing.T) {
	for trouble, want := range map[string]time.Duration{
		"": 24*time.Hour + 10*time.Minute,
		// within the stale limit
		"outages: [{from: 6h, for: 4m, of: {channel: staging}}]\n": 24*time.Hour + 10*time.Minute,
		"outages: [{from: 6h, for: 2h, of: {channel: staging}}]\n": 32 * time.Hour,
		"skews: [{from: 20h, for: 30h, by: 2m}]\n":                 50 * time.Hour,
	} {
		in := repositoryOf(t,
			union(policy("staging", ""), policy("dedicated", "after: [staging]\ngates: [{soak: {for: 24h}}]\n"),
				releaseFiles("1.0.0")))
		in.Scenario = scenarioOf(t,
			"cells: {add: {staging: 2, dedicated: 1}, apply: {min: 10m}, hear: {min: 0s, max: 1ns}}\n"+trouble)
		r := runInput(t, in)
		var got time.Duration
		for _, e := range r.Timeline {
			if e.Kind == "promote" && e.Channel == "dedicated" {
				got = e.At.Sub(begin)
			}
		}
		if got < want || got > want+2*time.Minute {
			t.Errorf("%q: promoted after %s, want %s", trouble, got, want)
		}
	}
}

// A scenario may only name what exists.
func TestUnknownNames(t *testing.T) {
	for body, want := range map[string]string{
		"cells: {add: {none: 1}}": "no channel \"none\"",
		"people: [{at: 1d, do: approve, channel: staging, release: 1.0.0, by: eve}]": "eve: sluice.yaml does not name this person",
		"people: [{at: 1d, do: request, channel: staging, release: 7.0.0}]":          "no release \"7.0.0\"",
		"releases: [{at: 1d, version: 1.0.0}]":                                       "has a release 1.0.0 already",
		"releases: [{at: 2020-01-01T00:00:00Z, version: 1.1.0}]":                     "before the simulation begins",
		"outages: [{for: 1h, of: {cells: [x]}}]":                                     "no cell \"x\"",
		"cells: {report: 10m}":                                                       "make cells.report less than staleAfter",
	} {
		in := repositoryOf(t, union(policy("staging", ""), releaseFiles("1.0.0")))
		in.Scenario = scenarioOf(t, body+"\n")
		if _, err := Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

// The chart is well-formed XML, whatever the names and reasons.
func TestSVG(t *testing.T) {
	in := fleetInput(t, 20)
	r := runInput(t, in)
	r.Timeline = append(r.Timeline, Event{
		At: begin, Kind: "failed", Channel: "staging", Release: "<&\">", Cells: 1, Names: []string{"a"},
	})
	d := xml.NewDecoder(bytes.NewReader(SVG(r)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A length of 0s is obeyed where it is written, and cells report at once, whatever their interval.
func TestZeroIsALength(t *testing.T) {
	for body, most := range map[string]time.Duration{
		"{add: {staging: 6}, apply: {min: 1s, max: 1s}, hear: {min: 0s, max: 0s}, report: 2m}": 2 * time.Second,
		"{add: {staging: 6}, apply: {max: 0s}, hear: {min: 0s}}":                               time.Second,
		"{add: {staging: 6}, apply: {min: 10s}, hear: {max: 3s}}":                              15 * time.Second,
	} {
		in := repositoryOf(t, union(policy("staging", ""), releaseFiles("1.0.0")))
		in.For = 2 * time.Hour
		in.Scenario = scenarioOf(t, "cells: "+body+"\nreleases: [{at: 1h, version: 1.1.0}]\n")
		arrived := 0
		for _, a := range runInput(t, in).Arrivals {
			if took := a.At.Sub(a.Granted); a.Release == "1.1.0" && took > most {
				t.Errorf("%s: %s got %s after %s", body, a.Cell, a.Release, took)
			}
			arrived++
		}
		if arrived < 6 {
			t.Errorf("%s: %d arrivals", body, arrived)
		}
	}
	zero := []byte("apiVersion: sluice/v1\nkind: Scenario\ncells: {report: 0s}\n")
	if _, faults := Parse("s.yaml", zero); len(faults) != 1 {
		t.Errorf("report: 0s: %v", faults)
	}
}
