package flags

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func local(t interface{ Fatal(...any) }, text string) Local {
	var l Local
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
		{"Europe/Berlin", "2026-03-29T02:00:00", "", "does not exist in Europe/Berlin: at 2026-03-29T01:00:00Z clocks go forward to 2026-03-29T03:00:00"},
		{"Europe/Berlin", "2026-10-25T02:00:00", "2026-10-25T02:00:00+02:00", "exists twice in Europe/Berlin, at 2026-10-25T02:00:00+02:00 and at 2026-10-25T02:00:00+01:00"},
		{"Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T03:00:00+01:00", ""},
		{"Australia/Lord_Howe", "2026-10-04T02:15:00", "", "clocks go forward to 2026-10-04T02:30:00"},
		{"Pacific/Apia", "2011-12-30T12:00:00", "", "clocks go forward to 2011-12-31T00:00:00"}, // a day that was left out
		{"America/New_York", "2026-11-01T01:30:00", "2026-11-01T01:30:00-04:00", "exists twice"},
		{"UTC", "2026-03-29T02:30:00", "2026-03-29T02:30:00Z", ""},
		{"Asia/Kathmandu", "2026-01-01T00:00:00", "2026-01-01T00:00:00+05:45", ""},
	} {
		zone, err := loadZone(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		l := local(t, tt.wall)
		switch err := l.check(zone); {
		case err == nil && tt.wrong != "":
			t.Errorf("%s in %s: nothing is wrong, want %s", tt.wall, tt.zone, tt.wrong)
		case err != nil && (tt.wrong == "" || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s in %s: %v, want %q", tt.wall, tt.zone, err, tt.wrong)
		}
		if got := l.in(zone).Format(time.RFC3339); tt.want != "" && got != tt.want {
			t.Errorf("%s in %s is %s, want %s", tt.wall, tt.zone, got, tt.want)
		}
	}
}

// Whatever a clock shows at an instant, that instant is among those at which it shows it.
func TestInstantsAreTheClocks(t *testing.T) {
	names := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Tehran", "America/Sao_Paulo", "UTC"}
	rapid.Check(t, func(rt *rapid.T) {
		zone, err := loadZone(rapid.SampledFrom(names).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "at"), 0)
		if rapid.Bool().Draw(rt, "near a change") {
			if _, end := at.In(zone).ZoneBounds(); !end.IsZero() {
				at = end.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(rt, "off")) * time.Second)
			}
		}
		l := LocalOf(at.In(zone))
		found := false
		for i, x := range l.instants(zone) {
			if LocalOf(x.In(zone)) != l || i > 1 {
				rt.Fatalf("%s in %s: %s shows something else, or is one too many", l, zone, x)
			}
			found = found || x.Equal(at)
		}
		if !found {
			rt.Fatalf("%s in %s: %s is missing among %v", l, zone, at, l.instants(zone))
		}
	})
}

func TestZones(t *testing.T) {
	for _, name := range []string{"Local", "Europe/Atlantis", "../etc/passwd", "/etc/localtime"} {
		if _, err := loadZone(name); err == nil {
			t.Errorf("%s is a zone", name)
		}
	}
}
