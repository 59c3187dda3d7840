// Command bench measures what the project promises about speed. Each figure has its baseline in the same run. It prints
// a table: one row a figure, each ending in met or short. The command needs git, and builds the repositories that it
// measures in the system's temporary folder, once. For debug sessions it needs OpenSSH, which root gets on Debian.
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

	"github.com/sluice-cd/sluice/test/figures"
)

func main() {
	only := flag.String("only", "", "run the groups whose name contains one of these, with commas between them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	do := func() error { return run(ctx, os.Stdout, *only) }
	if dir := os.Getenv(exportChild); dir != "" {
		do = func() error { return runExportChild(ctx, dir) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type group struct {
	name    string
	measure func(ctx context.Context, dir string) ([]figures.Row, error)
}

func run(ctx context.Context, out io.Writer, only string) error {
	dir, err := os.MkdirTemp("", "sluice-bench-run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	fmt.Fprintln(out, figures.HeaderLine())
	for _, g := range []group{{"promotion", measurePromotion}, {"signing", measureSigning}, {"plan", measurePlan},
		{"cells", measureCells}, {"memory", measureMemory}, {"maintenance", measureMaintenance},
		{"commands", measureCommands}, {"sign-in", measureSignIn}, {"notices", measureNotices},
		{"trust", measureTrust}, {"export", measureExport}, {"debug", measureDebug}} {
		if !slices.ContainsFunc(strings.Split(only, ","), func(o string) bool { return strings.Contains(g.name, o) }) {
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
