package window

import "time"

const (
	// MaxList is the number of windows in a list.
	MaxList = 16
	// maxTogether is how far ahead an instant at which several lists are open is looked for (R55).
	maxTogether = 2 * 366 * 24 * time.Hour
	// maxOpenings bounds the openings that are looked at, for windows that open every minute.
	maxOpenings = 20_000
)

// JudgeAny reports whether any of the windows is open at now; without windows, the answer is always yes. If open, until
// is an instant up to which it stays open, or zero for ever. If shut, until is when the first window opens, and why
// says so.
func JudgeAny(windows []Window, now time.Time) (open bool, why string, until time.Time) {
	for i := range windows {
		isOpen, shutReason, instant := windows[i].Judge(now)
		switch {
		case isOpen && !open:
			open, why, until = true, "", instant
		case isOpen && (instant.IsZero() || !until.IsZero() && instant.After(until)):
			until = instant
		case open || isOpen:
		case why == "" || !instant.IsZero() && (until.IsZero() || instant.Before(until)):
			why, until = shutReason, instant
		}
	}
	return open || len(windows) == 0, why, until
}

// NextTogether returns the first instant from from on at which each of the lists has an open window, and false if there
// is none within two years (R55).
func NextTogether(lists [][]Window, from time.Time) (time.Time, bool) {
	at := from
	for range maxOpenings {
		together := true
		for _, list := range lists {
			open, _, until := JudgeAny(list, at)
			if open {
				continue
			}
			if until.IsZero() || until.Sub(from) > maxTogether {
				return time.Time{}, false
			}
			at, together = until, false
		}
		if together {
			return at, true
		}
	}
	return time.Time{}, false
}

// OpenTogether reports whether the lists are open together again and again: whenever one asks, within two years. It
// depends on no clock: it asks at the beginning of each of the 28 years after which the calendar repeats.
func OpenTogether(lists [][]Window) bool {
	for year := range 28 {
		if _, ok := NextTogether(lists, time.Date(2026+year, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
			return false
		}
	}
	return true
}
