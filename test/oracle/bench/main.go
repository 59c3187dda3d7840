// Command bench measures what the project promises about feature flags, each figure beside a baseline measured
// alternately in the same run, and prints a table with a row per figure, ending in met or short. The command test/fleet
// measures how long a change takes to be in force in a thousand cells.
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
	"strings"

	"github.com/sluice-cd/sluice/test/figures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if len(os.Args) == 2 && os.Args[1] == "load" {
		err = loadOnce(os.Stdout)
	} else {
		err = command(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	only := flag.String("only", "", "run the groups whose name contains this: client, evaluation, remote, load")
	flag.Parse()
	return run(ctx, os.Stdout, *only)
}

// group measures some rows together.
type group struct {
	name    string
	measure func(ctx context.Context) ([]figures.Row, error)
}

func run(ctx context.Context, out io.Writer, only string) error {
	fmt.Fprintln(out, figures.HeaderLine())
	for _, g := range []group{{"client", measureClients}, {"evaluation", measureEvaluation}, {"remote", measureRemote},
		{"load", measureLoads}} {
		if !strings.Contains(g.name, only) {
			continue
		}
		rows, err := g.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for _, r := range rows {
			fmt.Fprintln(out, r)
		}
	}
	return nil
}
