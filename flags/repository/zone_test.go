package repository

import (
	"archive/zip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/internal/window"
)

func parseLocal(t interface{ Fatal(...any) }, text string) LocalTime {
	var l LocalTime
	if err := l.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLocal(t *testing.T) {
	for _, tt := range []struct{ zone, wall, want, wrong string }{
		{"Europe/Berlin", "2026-12-01T10:00:00", "2026-12-01T10:00:00+01:00", ""},
		{"Europe/Berlin", "2026-07-01T10:00", "2026-07-01T10:00:00+02:00", ""},
		{"Europe/Berlin", "2026-03-29T01:59:59", "2026-03-29T01:59:59+01:00", ""},
		{"Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T03:00:00+02:00", ""},
		{
			"Europe/Berlin", "2026-03-29T02:00:00", "",
			"does not exist in Europe/Berlin: at 2026-03-29T01:00:00Z clocks go forward to 2026-03-29T03:00:00",
		},
		{
			"Europe/Berlin", "2026-10-25T02:00:00", "2026-10-25T02:00:00+02:00",
			"exists twice in Europe/Berlin, at 2026-10-25T02:00:00+02:00 and at 2026-10-25T02:00:00+01:00",
		},
		{"Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T03:00:00+01:00", ""},
		{"Australia/Lord_Howe", "2026-10-04T02:15:00", "", "clocks go forward to 2026-10-04T02:30:00"},
		// a day that was left out
		{"Pacific/Apia", "2011-12-30T12:00:00", "", "clocks go forward to 2011-12-31T00:00:00"},
		{"America/New_York", "2026-11-01T01:30:00", "2026-11-01T01:30:00-04:00", "exists twice"},
		{"UTC", "2026-03-29T02:30:00", "2026-03-29T02:30:00Z", ""},
		{"Asia/Kathmandu", "2026-01-01T00:00:00", "2026-01-01T00:00:00+05:45", ""},
	} {
		zone, err := window.LoadZone(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		l := parseLocal(t, tt.wall)
		switch err := l.checkIn(zone); {
		case err == nil && tt.wrong != "":
			t.Errorf("%s in %s: nothing is wrong, want %s", tt.wall, tt.zone, tt.wrong)
		case err != nil && (tt.wrong == "" || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s in %s: %v, want %q", tt.wall, tt.zone, err, tt.wrong)
		}
		if got := l.inZone(zone).Format(time.RFC3339); tt.want != "" && got != tt.want {
			t.Errorf("%s in %s is %s, want %s", tt.wall, tt.zone, got, tt.want)
		}
	}
}

// Local.instants of the wall time at an instant contains the instant.
// The time package names an end in the past for the last hours of leap years that are far ahead: no time makes a check
// endless.
func TestLastDayOfALeapYear(t *testing.T) {
	zone, err := window.LoadZone("Africa/Cairo")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2040, 12, 31, 2, 0, 0, 0, zone)
	if _, end := window.OffsetBounds(at); end.After(at) {
		t.Log("the time package is mended")
	}
	l := LocalTimeOf(at)
	if err := l.checkIn(zone); err != nil {
		t.Error(err)
	}
	if got := l.instants(zone); len(got) != 1 || !got[0].Equal(at) {
		t.Errorf("%v, want %s", got, at)
	}
}

func TestInstantsAreTheClocks(t *testing.T) {
	names := []string{
		"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Tehran",
		"America/Sao_Paulo", "UTC",
	}
	rapid.Check(t, func(rt *rapid.T) {
		zone, err := window.LoadZone(rapid.SampledFrom(names).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "at"), 0)
		if rapid.Bool().Draw(rt, "near a change") {
			if _, end := window.OffsetBounds(at.In(zone)); !end.IsZero() {
				at = end.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(rt, "off")) * time.Second)
			}
		}
		l := LocalTimeOf(at.In(zone))
		found := false
		for i, x := range l.instants(zone) {
			if LocalTimeOf(x.In(zone)) != l || i > 1 {
				rt.Fatalf("%s in %s: %s shows something else, or is one too many", l, zone, x)
			}
			found = found || x.Equal(at)
		}
		if !found {
			rt.Fatalf("%s in %s: %s is missing among %v", l, zone, at, l.instants(zone))
		}
	})
}

// Around every change of every zone's clocks from 2020 to 2037, Local.instants agrees with time.Date, which returns an
// instant that shows a wall time if there is one, and with the offsets before and after the change.
func TestEveryZonesChanges(t *testing.T) {
	changes := 0
	for _, name := range zoneNames(t) {
		zone, err := window.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC); ; {
			_, end := window.OffsetBounds(at.In(zone))
			if end.IsZero() || end.Year() > 2037 {
				break
			}
			changes++
			checkAroundChange(t, zone, end)
			at = end
		}
	}
	apia, err := window.LoadZone("Pacific/Apia")
	if err != nil {
		t.Fatal(err)
	}
	checkAroundChange(t, apia, time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC))
	if changes < 5000 {
		t.Errorf("%d changes were looked at: the zones are not all there", changes)
	}
}

// checkAroundChange checks wall times around a change of a zone's clocks against the offsets before and after it.
func checkAroundChange(t *testing.T, zone *time.Location, change time.Time) {
	t.Helper()
	_, before := change.Add(-time.Second).In(zone).Zone()
	_, after := change.In(zone).Zone()
	for _, offset := range []int{before, after, (before + after) / 2} {
		for _, off := range []int{-3601, -1800, -1, 0, 1, 1800, 3601} {
			wall := change.UTC().Add(time.Duration(offset+off) * time.Second)
			l := LocalTimeOf(wall)
			var want []time.Time
			for _, o := range []int{before, after} {
				x := wall.Add(-time.Duration(o) * time.Second)
				if LocalTimeOf(x.In(zone)) == l && (len(want) == 0 || !want[0].Equal(x)) {
					want = append(want, x)
				}
			}
			got := l.instants(zone)
			if len(got) != len(want) {
				t.Fatalf("%s in %s is at %v, want %v", l, zone, got, want)
			}
			for i := range want {
				if !got[i].Equal(want[i]) {
					t.Fatalf("%s in %s is at %v, want %v", l, zone, got, want)
				}
			}
			date := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
			if LocalTimeOf(date) == l && !got[0].Equal(date) && !got[len(got)-1].Equal(date) ||
				LocalTimeOf(date) != l && len(got) > 0 {
				t.Fatalf("%s in %s is at %v, and time.Date says %s", l, zone, got, date)
			}
			if err := l.checkIn(zone); (err == nil) != (len(want) == 1) {
				t.Fatalf("%s in %s: %v, and it is at %v", l, zone, err, want)
			}
			if at := l.inZone(zone); len(want) > 0 && !at.Equal(want[0]) {
				t.Fatalf("%s in %s is first at %s, want %s", l, zone, at, want[0])
			}
		}
	}
}

// zoneNames returns every zone that Go knows.
func zoneNames(t *testing.T) (names []string) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	for _, f := range all.File {
		if !f.FileInfo().IsDir() {
			names = append(names, f.Name)
		}
	}
	return names
}

func TestZones(t *testing.T) {
	for _, name := range []string{"Local", "Europe/Atlantis", "../etc/passwd", "/etc/localtime"} {
		if _, err := window.LoadZone(name); err == nil {
			t.Errorf("%s is a zone", name)
		}
	}
}

// Issue 13, part 11: a time that is to be written down now exists once, also in the hour that clocks show twice.
func TestLatestTime(t *testing.T) {
	for at, want := range map[string]string{
		"2026-10-25T01:59:30+02:00": "2026-10-25T01:59:30", // before
		"2026-10-25T02:00:00+02:00": "2026-10-25T01:59:59", // the hour, for the first time
		"2026-10-25T02:30:15+02:00": "2026-10-25T01:59:59",
		"2026-10-25T02:30:15+01:00": "2026-10-25T01:59:59", // and for the second
		"2026-10-25T03:00:00+01:00": "2026-10-25T03:00:00", // after
		"2026-03-29T03:00:00+02:00": "2026-03-29T03:00:00", // after a gap
	} {
		instant, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := window.LoadZone("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		l := LatestTime(instant.In(zone))
		if l.String() != want {
			t.Errorf("at %s: %s, want %s", at, l, want)
		}
		if err := l.checkIn(zone); err != nil || l.inZone(zone).After(instant) {
			t.Errorf("at %s: %s, %v", at, l, err)
		}
	}
}
