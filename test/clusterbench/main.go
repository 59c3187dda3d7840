// Command clusterbench measures the Kubernetes target on a real API server, beside kubectl apply --server-side in the
// same run: 1,000 objects from nothing, without a change, and with one changed; then memory, processor time and
// requests at rest; and a release that goes to 100 cells, each in a namespace of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/figures"
)

// sizes say how much is measured. Others than the defaults show that a row works, and no more.
type sizes struct {
	only    string // group of rows; empty: all
	objects int
	cells   int
	rest    time.Duration
}

const (
	healEvery   = 5 * time.Second // six times as often as an agent does
	idleLimit   = 0.005           // of a core
	memoryLimit = 100 << 20
)

func main() {
	s := sizes{}
	flag.StringVar(&s.only, "only", "", "`GROUP` of rows: objects or cells (default both)")
	flag.IntVar(&s.objects, "objects", 1000, "`NUMBER` of objects in one release")
	flag.IntVar(&s.cells, "cells", 100, "`NUMBER` of cells, each in a namespace")
	flag.DurationVar(&s.rest, "rest", 30*time.Second, "how long the target is watched at rest")
	flag.Parse()
	debug.SetGCPercent(50) // as an agent has it
	if err := run(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s sizes) error {
	fmt.Println(figures.HeaderLine())
	for _, group := range []struct {
		name    string
		nodes   int
		measure func(context.Context, *cluster.Cluster, sizes) ([]figures.Row, error)
	}{
		{"objects", 1, measureObjects},
		{"cells", 1 + 2*s.cells/100, measureCells}, // a node takes 110 pods, and for a while there are two of each
	} {
		if s.only != "" && s.only != group.name {
			continue
		}
		if err := runGroup(ctx, s, group.nodes, group.measure); err != nil {
			return fmt.Errorf("%s: %w", group.name, err)
		}
	}
	return nil
}

// runGroup measures rows on a cluster of their own, and prints them.
func runGroup(ctx context.Context, s sizes, nodes int,
	measure func(context.Context, *cluster.Cluster, sizes) ([]figures.Row, error),
) (err error) {
	c, err := cluster.Start(ctx, nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	rows, err := measure(ctx, c, s)
	for _, row := range rows {
		fmt.Println(row)
	}
	return err
}

func measureObjects(ctx context.Context, c *cluster.Cluster, s sizes) ([]figures.Row, error) {
	kubectl, err := timeKubectl(ctx, c, s)
	if err != nil {
		return nil, err
	}
	return measureTarget(ctx, c, s, kubectl)
}

// timeKubectl applies the objects from nothing by kubectl, in a namespace of its own.
func timeKubectl(ctx context.Context, c *cluster.Cluster, s sizes) (time.Duration, error) {
	var all strings.Builder
	for _, text := range manifests(s.objects, "1") {
		all.WriteString("---\n" + text)
	}
	if out, err := c.Kubectl(ctx, "", "create", "namespace", "kubectl"); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	start := time.Now()
	out, err := c.Kubectl(ctx, all.String(), "-n", "kubectl", "apply", "--server-side", "-f", "-")
	if err != nil {
		return 0, fmt.Errorf("%w: %.300s", err, out)
	}
	return time.Since(start), nil
}

// manifests returns the objects: of ten, one Deployment without pods, the others ConfigMaps.
func manifests(n int, changed string) map[string]string {
	all := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("o-%04d", i)
		value := "1"
		if i == 10 {
			value = changed
		}
		if i%10 != 0 {
			all[name] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q, text: %q}\n",
				name, value, strings.Repeat("x", 500))
			continue
		}
		all[name] = fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\nspec:\n  replicas: 0\n"+
			"  selector: {matchLabels: {app: %[1]s}}\n  template:\n    metadata: {labels: {app: %[1]s}}\n"+
			"    spec: {containers: [{name: server, image: 'web:%s'}]}\n", name, value)
	}
	return all
}

func release(n int, version, changed string) cells.Rendered {
	r := cells.Rendered{Files: map[string][]byte{}, Proven: true, Assignment: cells.Assignment{Release: version,
		Digest: releases.DigestBytes([]byte(version + changed))}}
	for name, text := range manifests(n, changed) {
		r.Files[name+".yaml"] = []byte(text)
	}
	return r
}

func measureTarget(ctx context.Context, c *cluster.Cluster, s sizes, kubectl time.Duration) (
	rows []figures.Row, err error,
) {
	config, _, err := kubernetes.Connect(c.Kubeconfig, "")
	if err != nil {
		return nil, err
	}
	var requests, writes atomic.Int64
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper { return counter{next, &requests, &writes} }
	state, err := os.MkdirTemp("", "sluice-clusterbench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	if out, err := c.Kubectl(ctx, "", "create", "namespace", "sluice"); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	target, err := kubernetes.New(kubernetes.Options{Cell: "bench", Config: config, StateDir: state, Namespace: "sluice"})
	if err != nil {
		return nil, err
	}
	defer target.Close()
	for _, pass := range []struct {
		what, version, changed string
		limit                  float64
		mostWrites             int64
	}{
		{figure("%d objects from nothing", s.objects), "1.0.0", "1", 1.0 / 3, int64(s.objects)},
		{"another release without a change", "1.1.0", "1", 1.0 / 10, 0},
		{figure("one Deployment of the %d changed", s.objects), "1.2.0", "2", 1.0 / 20, 1},
	} {
		writes.Store(0)
		start := time.Now()
		percent := debug.SetGCPercent(200) // as an agent has it meanwhile
		if err := target.Apply(ctx, release(s.objects, pass.version, pass.changed)); err != nil {
			return nil, err
		}
		took := time.Since(start)
		debug.SetGCPercent(percent)
		if n := writes.Load(); n > pass.mostWrites {
			return nil, fmt.Errorf("%s: %d writes, want %d at most", pass.what, n, pass.mostWrites)
		}
		rows = append(rows, figures.TimeRow(pass.what, took, "kubectl, from nothing", kubectl, pass.limit))
	}
	rest, err := measureRest(ctx, target, s, &requests)
	return append(rows, rest...), err
}

// measureRest lets the target heal and look at health as an agent does, only more often.
func measureRest(ctx context.Context, target *kubernetes.Target, s sizes, requests *atomic.Int64) (
	[]figures.Row, error,
) {
	r := release(s.objects, "1.2.0", "2")
	for target.Health(ctx) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	debug.FreeOSMemory() // as an agent does after an apply
	before, start := requests.Load(), time.Now()
	used := processorTime()
	for time.Since(start) < s.rest {
		if n, err := target.Heal(ctx, r); err != nil || n > 0 {
			return nil, fmt.Errorf("at rest %d objects were healed: %w", n, err)
		}
		if err := target.Health(ctx); err != nil {
			return nil, err
		}
		time.Sleep(healEvery)
	}
	share := float64(processorTime()-used) / float64(time.Since(start))
	asked := requests.Load() - before
	memory, err := residentMemory()
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		{What: figure("memory with %d objects watched, with the program's file", s.objects),
			Got: fmt.Sprintf("%d MiB", memory>>20), Base: "limit 100 MiB", Ratio: float64(memory) / memoryLimit,
			Limit: 1},
		{What: "processor at rest, a heal each 5 s", Got: fmt.Sprintf("%.2f %%", 100*share),
			Base: "limit 0.5 % of a core", Ratio: share / idleLimit, Limit: 1},
		{What: "requests at rest", Got: fmt.Sprint(asked), Base: "in " + s.rest.String(), Note: true},
	}, nil
}

// figure names a figure with a size.
func figure(format string, size int) string { return fmt.Sprintf(format, size) }

// residentMemory returns the memory of this process that is in use, with that of its file, in bytes.
func residentMemory() (int, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/self/statm is %q", text)
	}
	pages, err := strconv.Atoi(fields[1])
	return pages * os.Getpagesize(), err
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter counts requests, but for those of the Lease, which is renewed whatever happens.
type counter struct {
	next             http.RoundTripper
	requests, writes *atomic.Int64
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/leases") {
		return c.next.RoundTrip(r)
	}
	c.requests.Add(1)
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		c.writes.Add(1)
	}
	return c.next.RoundTrip(r)
}
