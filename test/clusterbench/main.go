// Command clusterbench measures the Kubernetes target on a real API server, beside kubectl apply --server-side in the
// same run: 1,000 objects from nothing, without a change, and with one changed; then memory, processor time and
// requests at rest.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
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

const (
	objectCount = 1000
	restTime    = 30 * time.Second
	healEvery   = 5 * time.Second // six times as often as an agent does
	idleLimit   = 0.005           // of a core
	memoryLimit = 100 << 20
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	c, err := cluster.Start(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	kubectl, err := timeKubectl(ctx, c)
	if err != nil {
		return err
	}
	rows, err := measureTarget(ctx, c, kubectl)
	if err != nil {
		return err
	}
	fmt.Println(figures.HeaderLine())
	for _, row := range rows {
		fmt.Println(row)
	}
	return nil
}

// timeKubectl applies the objects from nothing by kubectl, in a namespace of its own.
func timeKubectl(ctx context.Context, c *cluster.Cluster) (time.Duration, error) {
	var all strings.Builder
	for _, text := range manifests("1") {
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
func manifests(changed string) map[string]string {
	all := map[string]string{}
	for i := range objectCount {
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

func release(version, changed string) cells.Rendered {
	r := cells.Rendered{Files: map[string][]byte{}, Proven: true, Assignment: cells.Assignment{Release: version,
		Digest: releases.DigestBytes([]byte(version + changed))}}
	for name, text := range manifests(changed) {
		r.Files[name+".yaml"] = []byte(text)
	}
	return r
}

func measureTarget(ctx context.Context, c *cluster.Cluster, kubectl time.Duration) (rows []figures.Row, err error) {
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
		{"1,000 objects from nothing", "1.0.0", "1", 1.0 / 3, objectCount},
		{"another release without a change", "1.1.0", "1", 1.0 / 10, 0},
		{"one Deployment of the 1,000 changed", "1.2.0", "2", 1.0 / 20, 1},
	} {
		writes.Store(0)
		start := time.Now()
		if err := target.Apply(ctx, release(pass.version, pass.changed)); err != nil {
			return nil, err
		}
		took := time.Since(start)
		if n := writes.Load(); n > pass.mostWrites {
			return nil, fmt.Errorf("%s: %d writes, want %d at most", pass.what, n, pass.mostWrites)
		}
		rows = append(rows, figures.TimeRow(pass.what, took, "kubectl, from nothing", kubectl, pass.limit))
	}
	rest, err := measureRest(ctx, target, &requests)
	return append(rows, rest...), err
}

// measureRest lets the target heal and look at health as an agent does, only more often.
func measureRest(ctx context.Context, target *kubernetes.Target, requests *atomic.Int64) ([]figures.Row, error) {
	r := release("1.2.0", "2")
	for target.Health(ctx) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	runtime.GC()
	before, start := requests.Load(), time.Now()
	used := processorTime()
	for time.Since(start) < restTime {
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
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return []figures.Row{
		{What: "memory with 1,000 objects watched", Got: fmt.Sprintf("%d MiB", memory.Sys>>20),
			Base: "limit 100 MiB", Ratio: float64(memory.Sys) / memoryLimit, Limit: 1},
		{What: "processor at rest, a heal each 5 s", Got: fmt.Sprintf("%.2f %%", 100*share),
			Base: "limit 0.5 % of a core", Ratio: share / idleLimit, Limit: 1},
		{What: "requests at rest", Got: fmt.Sprint(asked), Base: "in " + restTime.String(), Note: true},
	}, nil
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter counts requests.
type counter struct {
	next             http.RoundTripper
	requests, writes *atomic.Int64
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		c.writes.Add(1)
	}
	return c.next.RoundTrip(r)
}
