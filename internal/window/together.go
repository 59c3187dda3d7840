package window

import "time"

const (
	// MaxList is the number of windows in a list.
	MaxList = 16
	// maxTogether is how far ahead an instant at which several lists are open is looked for (R55).
	maxTogether = 2 * 366 * 24 * time.Hour
	// maxChecked and maxJudged bound how often windows are asked when they will be open: while a policy is checked, and
	// while it is judged. Many windows that open every minute would keep the engine busy otherwise.
	maxChecked = 100_000
	maxJudged  = 5_000
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
// is none within two years (R55), or if windows open so often that it is not found.
func NextTogether(lists [][]Window, from time.Time) (time.Time, bool) {
	left := maxJudged
	return nextTogether(lists, from, &left)
}

// nextTogether is NextTogether, and asks windows left times at most.
func nextTogether(lists [][]Window, from time.Time, left *int) (time.Time, bool) {
	for at, together := from, false; ; {
		together = true
		for _, list := range lists {
			if *left -= len(list); *left < 0 {
				return time.Time{}, false
			}
			opens := firstOpen(list, at)
			if opens.IsZero() || opens.Sub(from) > maxTogether {
				return time.Time{}, false
			}
			if opens.After(at) {
				at, together = opens, false
			}
		}
		if together {
			return at, true
		}
	}
}

// firstOpen returns the first instant from at on at which any of the windows is open; zero: there is none. Without
// windows it is at itself.
func firstOpen(windows []Window, at time.Time) (first time.Time) {
	if len(windows) == 0 {
		return at
	}
	for i := range windows {
		if opens := windows[i].next(at); first.IsZero() || !opens.IsZero() && opens.Before(first) {
			first = opens
		}
	}
	return first
}

// OpenTogether reports whether the lists are open together again and again: whenever one asks, within two years. It
// depends on no clock: it asks at the beginning of each of the 28 years after which the calendar repeats. found is
// false if the windows open too often to find that out.
func OpenTogether(lists [][]Window) (together, found bool) {
	left := maxChecked
	for year := range 28 {
		if _, ok := nextTogether(lists, time.Date(2026+year, 1, 1, 0, 0, 0, 0, time.UTC), &left); !ok {
			return false, left >= 0
		}
	}
	return true, true
}
