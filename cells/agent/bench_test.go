package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// Ten agents on one machine: from a change of the desired state until ten reports of health. The releases were rendered
// before, so everything but the render is measured (make bench).
func BenchmarkSwitchTenCells(b *testing.B) {
	p := newControlPlane(b)
	var agents []*cell
	for i := range 10 {
		s := newSettings(b, p)
		s.Cell = fmt.Sprintf("cell-%d", i)
		s.Health = "true"
		agents = append(agents, start(b, s, func(o *Options) {
			o.HealthyFor, o.ReportEvery, o.HealthInterval,
				o.HealInterval = 0, 0, 0, 0
		}))
	}
	both := []cells.Assignment{p.addRelease(b, "1.0.0", 0, agenttest.Release("1.0.0", nil)),
		p.addRelease(b, "1.1.0", 0, agenttest.Release("1.1.0", nil))}
	switchAll := func(i int) time.Duration {
		a := both[i%2]
		a.Sequence = int64(i + 1)
		since, begun := p.reportCount(), time.Now()
		p.assign(a)
		healthy := map[string]bool{}
		p.awaitAfter(b, since, "all healthy", func(r cells.Report) bool {
			if healthyOn(a)(r) {
				healthy[r.Cell] = true
			}
			return len(healthy) == len(agents)
		})
		return time.Since(begun)
	}
	switchAll(0)
	switchAll(1)
	var times []time.Duration
	for i := 2; b.Loop(); i++ {
		times = append(times, switchAll(i))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "ms-p99")
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-p50")
}

// An idle agent in a process of its own takes at most 30 MB (make bench).
func BenchmarkIdleMemory(b *testing.B) {
	p := newControlPlane(b)
	k := newAgentProcess(b, p)
	k.HealthTimeout = 5 * time.Second
	a := p.addRelease(b, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(a)
	k.start("", 0)
	p.await(b, "healthy", healthyOn(a))
	for b.Loop() {
		since := p.reportCount()
		for range 5 { // a few more heartbeats, health checks and heals
			p.awaitAfter(b, since, "healthy", healthyOn(a))
			since = p.reportCount()
		}
	}
	b.ReportMetric(residentMemory(b, k.command.Process.Pid), "MB-rss")
}

// residentMemory returns a process's resident memory in MB.
func residentMemory(tb testing.TB, pid int) float64 {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kb / 1000
		}
	}
	tb.Fatal("no VmRSS")
	return 0
}
