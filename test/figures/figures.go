// Package figures is how benchmarks say what they found: a row a figure, held against a baseline of the same run or an
// absolute limit, and ending in met or short. It measures nothing, and is for benchmarks only.
package figures

import (
	"fmt"
	"slices"
	"time"
)

// Row is one figure. The zero values of Least and Note: the ratio must not be above Limit.
type Row struct {
	What  string
	Got   string
	Base  string  // what it is held against, and that one's figure
	Ratio float64 // got to base or, where there is no baseline, got to the limit's unit
	Limit float64
	Least bool // the ratio must not be below the limit
	Note  bool // it is printed beside others and held against nothing
}

// Head is the line above rows.
func Head() string {
	return fmt.Sprintf("%-66s %12s   %-38s %8s  %-9s", "figure", "got", "against", "ratio", "limit")
}

// Met tells whether the row keeps its limit.
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

// AtLeast is a row of two rates, side by side.
func AtLeast(what string, got float64, name string, base, limit float64) Row {
	return Row{What: what, Got: Rate(got), Base: name + " " + Rate(base), Ratio: got / base, Limit: limit, Least: true}
}

// AtMost is a row of two times, side by side.
func AtMost(what string, got time.Duration, name string, base time.Duration, limit float64) Row {
	return Row{What: what, Got: Time(got), Base: name + " " + Time(base), Ratio: float64(got) / float64(base), Limit: limit}
}

// Within is a row of a time with an absolute limit.
func Within(what string, got, limit time.Duration) Row {
	return Row{What: what, Got: Time(got), Base: "limit " + Time(limit), Ratio: float64(got) / float64(limit), Limit: 1}
}

// Beside is a figure that others are read beside.
func Beside(what, got, base string) Row { return Row{What: what, Got: got, Base: base, Note: true} }

// Rate gives a rate in words.
func Rate(rate float64) string {
	if rate >= 10_000 {
		return fmt.Sprintf("%.1fk/s", rate/1000)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// Time gives a time in words.
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

// Median gives the middle one of a few; it sorts them.
func Median[T float64 | time.Duration](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// Quantile gives the time that a share q of sorted times stayed within.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Timed runs f n times and gives each run's time, sorted.
func Timed(n int, f func(i int) error) ([]time.Duration, error) {
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
