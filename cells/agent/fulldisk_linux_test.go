package agent

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/flags"
)

// R43, invariant 8: with a full disk, a kill is in force at once and not reported as saved until there is room.
func TestKillOnAFullDisk(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	k := newAgentProcess(t, p)
	k.Health, p.onReport = "true", nil // commands can't write either
	product := serveFlags(t, &k.settings)
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	gate := flags.Gate{ID: "a", Features: []string{"classes"}}
	f := p.newFlags(1, newBundle(gate))
	p.setFlags(f)
	k.start("", 0)
	p.await(t, "on", func(r cells.Report) bool {
		return flagsInForce(f)(r) && announcementIs("a", flags.On)(r) && healthyOn(one)(r)
	})

	room := func(bytes uint64) { // limits the size of a file
		var limit unix.Rlimit
		must(t, unix.Prlimit(k.command.Process.Pid, unix.RLIMIT_FSIZE, nil, &limit))
		limit.Cur = bytes
		must(t, unix.Prlimit(k.command.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil))
	}
	room(0)
	since := p.reportCount()
	kill := p.newFlags(2, newBundle(gate, flags.Gate{ID: "b"}), "classes")
	p.setFlags(kill)
	product.awaitFlag("classes", "false")
	r := p.awaitAfter(t, since, "in force, and not kept",
		func(r cells.Report) bool { return announcementIs("a", flags.Killed)(r) && r.Flags.Fault != "" })
	for range 3 {
		if r.Flags.Height != 1 || r.Flags.Orders != f.Orders.Digest || r.Flags.Bundle != f.Bundle.Digest ||
			!strings.Contains(r.Flags.Fault, "file too large") {
			t.Fatalf("told as %+v", r.Flags)
		}
		r = p.awaitAfter(t, p.reportCount(), "still", func(r cells.Report) bool { return r.Flags != nil })
	}
	room(unix.RLIM_INFINITY)
	p.await(t, "kept", func(r cells.Report) bool { return flagsInForce(kill)(r) && r.Flags.Fault == "" })
	k.kill()
	p.setDown(true)
	k.start("", 0)
	product.awaitFlag("classes", "false")
	product.awaitFlag("plain", "true")
}
