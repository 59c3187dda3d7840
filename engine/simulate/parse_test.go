package simulate

import (
	"strings"
	"testing"
	"time"
)

func TestParseFaults(t *testing.T) {
	head := "apiVersion: sluice/v1\nkind: Scenario\n"
	for body, want := range map[string]string{
		"sed: 1":                                                                "scenario.yaml:3: unknown field \"sed\"; did you mean \"seed\"?",
		"releases: [{version: 1.0.0}]":                                          "scenario.yaml:3: releases[0].at is required",
		"releases: [{at: soon, version: 1.0.0}]":                                "neither an instant",
		"releases: [{at: 1d, version: one}]":                                    "scenario.yaml:3: releases",
		"releases: [{at: 1d, version: 1.0.0, fails: 2}]":                        "must be at most 1",
		"releases: [{at: 1d, version: 1.0.0, fails: 0.6, stalls: 0.6}]":         "more than 1 together",
		"releases:\n  - {at: 1d, version: 1.0.0}\n  - {at: 2d, version: 1.0.0}": "scenario.yaml:5: 1.0.0 is there twice",
		"outages: [{from: 1d, for: 0s}]":                                        "for must be more than 0",
		"people: [{at: 1d, do: dance}]":                                         "must be request or approve or hold or lift or quarantine",
		"people: [{at: 1d, do: approve, channel: x, release: 1.0.0}]":           "approve needs by",
		"people: [{at: 1d, do: request, channel: x, release: \"*\"}]":           "only approve takes",
		"cells: {add: {x: -1}}":                                                 "from 0 to 100000",
		"cells: {report: 1s}":                                                   "at most every 5s",
		"cells: {apply: {min: 2h, max: 1h}}":                                    "max is less than min",
	} {
		s, faults := Parse("scenario.yaml", []byte(head+body+"\n"))
		if len(faults) == 0 {
			t.Errorf("%s: no fault, %+v", body, s)
			continue
		}
		if got := faults[0].String(); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestMoment(t *testing.T) {
	from := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2d12h": "2026-12-03T12:00:00Z", "36h": "2026-12-02T12:00:00Z",
		"0s": "2026-12-01T00:00:00Z", "2d": "2026-12-03T00:00:00Z",
		"2027-01-05T00:00:00+01:00": "2027-01-05T00:00:00+01:00",
	} {
		var m Moment
		if err := m.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := m.instant(from).Format(time.RFC3339); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "-1h", "d", "1.5d", "99999d", "1dd", "tomorrow"} {
		var m Moment
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, m)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("apiVersion: sluice/v1\nkind: Scenario\nseed: 1\nreleases: [{at: 1d, version: 1.0.0}]\n"))
	f.Add([]byte("apiVersion: sluice/v1\nkind: Scenario\npeople: [{at: 2d12h, do: hold, channel: x}]\n" +
		"outages: [{every: 1d, for: 1h}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, faults := Parse("f", data); (s == nil) != (len(faults) > 0) {
			t.Errorf("%v and %v", s, faults)
		}
	})
}
