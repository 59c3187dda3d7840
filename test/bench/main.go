// Command bench measures what the project promises about speed, each figure beside its baseline in
// the same run, and prints a table: a row a figure, each ending in met or short. It needs git, and
// builds the repositories that it measures on in the system's temporary folder, once.
//
// Absolute times mean little on a shared machine: read the ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "run the groups whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one figure held against its limit.
type row struct {
	what  string
	got   string
	base  string  // what it is held against, and that one's figure
	ratio float64 // got to base or, where there is no baseline, got to the limit's unit
	limit float64 // the ratio must not be above it
}

func (r row) String() string {
	verdict := "met"
	if r.ratio > r.limit {
		verdict = "short"
	}
	return fmt.Sprintf("%-58s %12s   %-28s %8.3f  <= %-6.3g %s", r.what, r.got, r.base, r.ratio, r.limit, verdict)
}

// group measures some rows together.
type group struct {
	name    string
	measure func(ctx context.Context, dir string) ([]row, error)
}

func run(ctx context.Context, out io.Writer, only string) error {
	dir, err := os.MkdirTemp("", "sluice-bench-run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	fmt.Fprintf(out, "%-58s %12s   %-28s %8s  %-9s\n", "figure", "got", "against", "ratio", "limit")
	for _, g := range []group{{"promotion", promotion}, {"plan", plan}, {"cells", cellsSwitch}, {"memory", memory}} {
		if !strings.Contains(g.name, only) {
			continue
		}
		rows, err := g.measure(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for _, r := range rows {
			fmt.Fprintln(out, r)
		}
	}
	return nil
}

// timed runs f n times and gives each run's time, sorted.
func timed(n int, f func(i int) error) ([]time.Duration, error) {
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

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// quantile gives the time that a share q of the runs stayed within.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// versus is a row of two times, side by side.
func versus(what string, got time.Duration, name string, base time.Duration, limit float64) row {
	return row{what, show(got), name + " " + show(base), float64(got) / float64(base), limit}
}

// within is a row of a time with an absolute limit.
func within(what string, got, limit time.Duration) row {
	return row{what, show(got), "limit " + show(limit), float64(got) / float64(limit), 1}
}

func show(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}
