package main

import (
	"fmt"
	"slices"
	"time"
)

// row is one figure held against its limit.
type row struct {
	what  string
	got   string
	base  string  // what it is held against, and that one's figure
	ratio float64 // got to base or, where there is no baseline, got to the limit's unit
	limit float64
	least bool // the ratio must not be below the limit; else not above
	note  bool // it is printed beside others and held against nothing
}

func (r row) String() string {
	if r.note {
		return fmt.Sprintf("%-66s %12s   %s", r.what, r.got, r.base)
	}
	verdict, sign := "met", "<="
	if r.least {
		sign = ">="
	}
	if r.least != (r.ratio >= r.limit) && r.ratio != r.limit {
		verdict = "short"
	}
	return fmt.Sprintf("%-66s %12s   %-38s %8.3f  %s %-6.3g %s", r.what, r.got, r.base, r.ratio, sign, r.limit, verdict)
}

// atLeast is a row of two rates, side by side.
func atLeast(what string, got float64, name string, base, limit float64) row {
	return row{what: what, got: perSecond(got), base: name + " " + perSecond(base), ratio: got / base, limit: limit, least: true}
}

// atMost is a row of two times, side by side.
func atMost(what string, got time.Duration, name string, base time.Duration, limit float64) row {
	return row{what: what, got: show(got), base: name + " " + show(base), ratio: float64(got) / float64(base), limit: limit}
}

// within is a row of a time with an absolute limit.
func within(what string, got, limit time.Duration) row {
	return row{what: what, got: show(got), base: "limit " + show(limit), ratio: float64(got) / float64(limit), limit: 1}
}

// beside is a figure that others are read beside.
func beside(what, got, base string) row { return row{what: what, got: got, base: base, note: true} }

func perSecond(rate float64) string {
	if rate >= 10_000 {
		return fmt.Sprintf("%.1fk/s", rate/1000)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

func show(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

// median gives the middle one of a few; it sorts them.
func median[T float64 | time.Duration](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// quantile gives the value that a share q of the sorted ones stayed within.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
