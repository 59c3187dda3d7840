// Command fleet measures what the project promises about ten thousand cells. Each figure alternates with a bare
// baseline in the same run. It prints a table: one row a figure, each ending in met or short. Server, load and baseline
// are processes of their own on this machine; package swarm makes the load. The command needs git, and PostgreSQL or
// the right to install it (see test/postgres).
//
// Absolute figures mean little on a shared machine: read the ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := raiseFileLimit()
	if err == nil && len(os.Args) == 3 && os.Args[1] == "child" {
		err = runChild(ctx, os.Args[2])
	} else if err == nil {
		err = runBench(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// raiseFileLimit raises this process's and its children's limit of open files to the maximum.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func runChild(ctx context.Context, role string) (err error) {
	var d commands
	switch role {
	case "bare":
		if d, err = bareCommands(); err != nil {
			return err
		}
	case "load":
		if d, err = loadCommands(); err != nil {
			return err
		}
	case "flood":
		d = floodCommands()
	case "pull":
		d = pullCommands()
	case "stub":
		d = stubCommands(ctx)
	default:
		return fmt.Errorf("there is no role %q", role)
	}
	return serveCommands(os.Stdin, os.Stdout, d)
}

type bench struct {
	out         io.Writer
	dir         string
	binary      string
	profile     string        // folder for CPU profiles of the server; empty: none
	streamCells int           // cells on streams
	reportCells int           // cells that poll and report; fewer would reach their rate limits
	rounds      int           // of each comparison
	roundLength time.Duration // of a round that counts responses
	pushCount   int
	floodLength time.Duration // of the longest flood of strangers

	fleetCount  int    // made so far
	sharedFleet *fleet // used by most groups; nil: not made yet
}

// keySeed determines the cells' keys.
const keySeed = 2026

func runBench(ctx context.Context) error {
	only := flag.String("only", "",
		"run the groups whose name contains this: disk, store, polls, reports, fanout, push, flags, reconnect, cost; strangers and images, which run only if they are named")
	quick := flag.Bool("quick", false, "a small run: 2,000 cells, few rounds. What it says of ten thousand is nothing")
	profile := flag.String("profile", "", "write CPU profiles of the server to this folder, one a group")
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("the command takes flags, but no arguments")
	}
	b := &bench{out: os.Stdout, profile: *profile, streamCells: 10_000, reportCells: 10_000, rounds: 5,
		roundLength: 2 * time.Second, pushCount: 20, floodLength: time.Minute}
	if *quick {
		b.streamCells, b.reportCells, b.rounds, b.roundLength, b.pushCount = 2_000, 5_000, 3, time.Second, 5
		b.floodLength = 12 * time.Second
	}
	return b.run(ctx, *only)
}

// strangersGroup runs only if it is named: it takes minutes.
const strangersGroup = "strangers"

type group struct {
	name    string
	measure func(context.Context) ([]figures.Row, error)
}

func (b *bench) run(ctx context.Context, only string) (err error) {
	if b.dir, err = os.MkdirTemp("", "sluice-fleet-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir) //nolint:errcheck // temporary
	defer func() {
		if b.sharedFleet != nil {
			b.sharedFleet.stop()
		}
	}()
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil { //nolint:gosec // nothing secret
			return err
		}
	}
	if b.binary, err = buildBinary(ctx, b.dir, b.profile != ""); err != nil {
		return err
	}
	fmt.Fprintln(b.out, figures.HeaderLine())
	for _, g := range []group{
		{"disk", b.measureDisk}, {"store", b.measureStores}, {"polls", b.measurePolls}, {"reports", b.measureReports},
		{"fanout", b.measureFanout},
		{"push", b.measurePush}, {"flags", b.measureFlags}, {"reconnect", b.measureReconnect}, {"cost", b.measureCost},
		{strangersGroup, b.measureStrangers}, {imagesGroup, b.measureImages},
	} {
		if (g.name == strangersGroup || g.name == imagesGroup) && only != g.name {
			continue
		}
		if !strings.Contains(g.name, only) {
			continue
		}
		rows, err := g.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for _, r := range rows {
			fmt.Fprintln(b.out, r)
		}
	}
	return nil
}
