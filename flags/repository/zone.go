package repository

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/window"
)

const (
	localLayout  = "2006-01-02T15:04:05"
	minuteLayout = "2006-01-02T15:04"

	// Announcements have times in these years: in every zone, such a time is within the limits of flags.Gate.
	firstYear, lastYear = 1971, 9998
)

// zoneCache caches loaded zones by name.
type zoneCache map[string]*time.Location

func (z zoneCache) load(name string) (*time.Location, error) {
	if zone := z[name]; zone != nil {
		return zone, nil
	}
	zone, err := window.LoadZone(name)
	if err == nil {
		z[name] = zone
	}
	return zone, err
}

// UnmarshalText parses 2026-12-01T10:00:00, or the same without seconds.
func (l *LocalTime) UnmarshalText(text []byte) error {
	s := string(text)
	for _, form := range [...]string{localLayout, minuteLayout} {
		if wall, err := time.Parse(form, s); err == nil && len(s) == len(form) { // Parse accepts fractions too
			if year := wall.Year(); year < firstYear || year > lastYear {
				return fmt.Errorf("must be a time from %d to %d, not %s", firstYear, lastYear, s)
			}
			*l = LocalTime{wall}
			return nil
		}
	}
	if _, err := time.Parse(time.RFC3339, s); err == nil {
		return fmt.Errorf(
			"must be a wall time such as 2026-12-01T10:00:00, without an offset: %.60q; name the zone in zone",
			s)
	}
	return fmt.Errorf("must be a wall time such as 2026-12-01T10:00:00, not %.60q", s)
}

// MarshalText returns the text that UnmarshalText parses; empty for none.
func (l LocalTime) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String returns the wall time as written; empty: none.
func (l LocalTime) String() string {
	if l.IsZero() {
		return ""
	}
	return l.wall.Format(localLayout)
}

// IsZero reports whether l is no wall time.
func (l LocalTime) IsZero() bool { return l.wall.IsZero() }

// LocalTimeOf returns the wall time of t in its zone, in whole seconds.
func LocalTimeOf(t time.Time) LocalTime {
	return LocalTime{time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)}
}

// LatestTime returns the newest wall time, not after that of t in its zone, that clocks there show once: in the hour
// that they show twice, the last minute before it.
func LatestTime(t time.Time) LocalTime {
	l := LocalTimeOf(t)
	for len(l.instants(t.Location())) > 1 {
		l = LocalTime{l.wall.Truncate(time.Minute).Add(-time.Second)}
	}
	return l
}

// instants returns every instant at which a clock in zone shows l, earliest first: one, or none in a gap, or two in an
// overlap.
func (l LocalTime) instants(zone *time.Location) (all []time.Time) {
	const reach = 26 * time.Hour // no zone is farther from UTC
	for t := l.wall.Add(-reach).In(zone); ; {
		_, offset := t.Zone()
		_, end := window.OffsetBounds(t)
		at := l.wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if LocalTimeOf(at) == l && (len(all) == 0 || !all[len(all)-1].Equal(at)) {
			all = append(all, at)
		}
		if end.IsZero() || end.After(l.wall.Add(reach)) {
			return all
		}
		t = end
	}
}

// inZone returns the first instant at which a clock in zone shows l or, in a gap, would without the gap.
func (l LocalTime) inZone(zone *time.Location) time.Time {
	if all := l.instants(zone); len(all) > 0 {
		return all[0]
	}
	w := l.wall
	return time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, zone)
}

// checkIn returns what is wrong with l in zone, and what to write instead.
func (l LocalTime) checkIn(zone *time.Location) error {
	switch all := l.instants(zone); len(all) {
	case 1:
		return nil
	case 0:
		_, end := window.OffsetBounds(l.wall.Add(-26 * time.Hour).In(zone))
		for {
			before, after := LocalTimeOf(end.Add(-time.Second).In(zone)), LocalTimeOf(end.In(zone))
			if !before.wall.After(l.wall) && after.wall.After(l.wall) {
				return fmt.Errorf("%s does not exist in %s: at %s clocks go forward to %s; choose that or another time",
					l, zone, end.UTC().Format(time.RFC3339), after)
			}
			if _, end = window.OffsetBounds(end.In(zone)); end.IsZero() {
				return fmt.Errorf("%s does not exist in %s: choose another time", l, zone)
			}
		}
	default:
		return fmt.Errorf("%s exists twice in %s, at %s and at %s: choose another time, or write it in zone UTC",
			l, zone, all[0].Format(time.RFC3339), all[1].Format(time.RFC3339))
	}
}
