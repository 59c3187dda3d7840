// Package figures formats benchmark results: one row a figure, compared with a baseline of the same run or an absolute
// limit, and ending in met or short. It measures nothing but what Timed runs, and is for benchmarks only. All of it may
// be called at once.
package figures

import (
	"fmt"
	"slices"
	"time"
)

// Row is one figure. If Least and Note are false, the ratio must not be above Limit.
type Row struct {
	What  string
	Got   string
	Base  string  // the baseline's name and figure, or the limit
	Ratio float64 // got to base or, without a baseline, got to the limit's unit
	Limit float64
	Least bool // the ratio must not be below the limit
	Note  bool // not compared with anything
}

// HeaderLine returns the header line.
func HeaderLine() string {
	return fmt.Sprintf("%-66s %12s   %-38s %8s  %-9s", "figure", "got", "against", "ratio", "limit")
}

// Met reports whether the row keeps its limit.
func (r Row) Met() bool { return r.Note || r.Ratio == r.Limit || r.Least == (r.Ratio > r.Limit) }

func (r Row) String() string {
	if r.Note {
		return fmt.Sprintf("%-66s %12s   %s", r.What, r.Got, r.Base)
	}
	verdict, sign := "short", "<="
	if r.Met() {
		verdict = "met"
	}
	if r.Least {
		sign = ">="
	}
	return fmt.Sprintf("%-66s %12s   %-38s %8.3f  %s %-6.3g %s", r.What, r.Got, r.Base, r.Ratio, sign, r.Limit, verdict)
}

// RateRow returns a row that compares two rates.
func RateRow(what string, got float64, name string, base, limit float64) Row {
	return Row{What: what, Got: Rate(got), Base: name + " " + Rate(base), Ratio: got / base, Limit: limit, Least: true}
}

// TimeRow returns a row that compares two times.
func TimeRow(what string, got time.Duration, name string, base time.Duration, limit float64) Row {
	return Row{What: what, Got: Time(got), Base: name + " " + Time(base), Ratio: float64(got) / float64(base),
		Limit: limit}
}

// LimitRow returns a row of a time with an absolute limit.
func LimitRow(what string, got, limit time.Duration) Row {
	return Row{What: what, Got: Time(got), Base: "limit " + Time(limit), Ratio: float64(got) / float64(limit), Limit: 1}
}

// NoteRow returns a row that is printed beside others and compared with nothing.
func NoteRow(what, got, base string) Row { return Row{What: what, Got: got, Base: base, Note: true} }

// Rate formats a rate.
func Rate(rate float64) string {
	if rate >= 10_000 {
		return fmt.Sprintf("%.1fk/s", rate/1000)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// Time formats a duration.
func Time(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

// Median sorts all and returns the middle value.
func Median[T float64 | time.Duration](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// Quantile returns the time within which a share q of sorted times lies.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// TimeRuns runs f n times and returns the durations, sorted.
func TimeRuns(n int, f func(i int) error) ([]time.Duration, error) {
	all := make([]time.Duration, 0, n)
	for i := range n {
		begin := time.Now()
		if err := f(i); err != nil {
			return nil, err
		}
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return all, nil
}
