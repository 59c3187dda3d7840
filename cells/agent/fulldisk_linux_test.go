package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/client"
	"github.com/sluice-cd/sluice/flags"
)

// A file that the machine does not let the agent read is not damaged: the start fails, and the file stays.
func TestFilesThatTheMachineDoesNotRead(t *testing.T) {
	for _, file := range []string{"outbox", "flags.json", "clock.json"} {
		p := newControlPlane(t)
		s := newSettings(t, p)
		must(t, os.MkdirAll(s.State, 0o700))
		must(t, os.Symlink("/proc/self/mem", filepath.Join(s.State, file))) // its first byte is an error to read
		o, err := s.options()
		must(t, err)
		a, err := New(o)
		must(t, err)
		if err := a.Run(t.Context()); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", file, err)
		}
		if to, err := os.Readlink(filepath.Join(s.State, file)); err != nil || to != "/proc/self/mem" {
			t.Errorf("%s: %s, %v", file, to, err)
		}
	}
	dir := t.TempDir()
	must(t, os.Symlink("/proc/self/mem", journalFile(dir))) // a file whose first byte is an error to read
	_, aside, err := loadJournal(dir, "acme", func(string) bool { return false })
	if !errors.Is(err, unix.EIO) || aside != "" {
		t.Errorf("put aside as %q, %v", aside, err)
	}
}

// room limits the size of what the agent may write to a file.
func (k *agentProcess) room(bytes uint64) {
	k.t.Helper()
	var limit unix.Rlimit
	must(k.t, unix.Prlimit(k.command.Process.Pid, unix.RLIMIT_FSIZE, nil, &limit))
	limit.Cur = bytes
	must(k.t, unix.Prlimit(k.command.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil))
}

// R49: on a disk that became read-only, as after a fault and a reboot, the agent starts and reports it, though a folder
// and the socket for flags can't be made: both are once it can write.
func TestR49StartOnAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	mount, err := os.MkdirTemp("", "ro") // the path of a socket must be short
	must(t, err)
	must(t, unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64m")) // root may do that, and CI runs as root
	t.Cleanup(func() { must(t, errors.Join(unix.Unmount(mount, unix.MNT_DETACH), os.Remove(mount))) })
	s.State, s.Dir = filepath.Join(mount, "state"), filepath.Join(mount, "target")
	s.Flags = "unix://" + filepath.Join(mount, "s")
	product := &flagsProduct{t, newFlagsClient(filepath.Join(mount, "s"))}
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.setFlags(p.newFlags(1, newBundle()))
	c := start(t, s)
	p.await(t, "healthy", healthyOn(one))
	product.awaitFlag("plain", "true")
	c.stop()
	must(t, os.Remove(filepath.Join(s.State, "work")))
	must(t, os.WriteFile(filepath.Join(s.State, ".new-1"), nil, 0o600)) // of an interrupted write
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	since := p.reportCount()
	start(t, s)
	p.awaitAfter(t, since, "it says so", func(r cells.Report) bool { return strings.Contains(r.Message, "read-only") })
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT, "size=64m"))
	product.awaitFlag("plain", "true")
	two := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(two)
	p.await(t, "healthy on the next", healthyOn(two))
}

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

	k.room(0)
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
	k.room(unix.RLIM_INFINITY)
	p.await(t, "kept", func(r cells.Report) bool { return flagsInForce(kill)(r) && r.Flags.Fault == "" })
	k.kill()
	p.setDown(true)
	k.start("", 0)
	product.awaitFlag("classes", "false")
	product.awaitFlag("plain", "true")
}

// A disk that gets full in any phase of a maintenance: nothing is refused that was not durable before, nothing is
// replaced that the journal does not allow, operations are accepted at the end that was durable, and the update goes on
// once there is room.
func TestFullDiskInEachPhaseOfAMaintenance(t *testing.T) {
	t.Parallel()
	const maximum = 4 * time.Second
	for _, phase := range []maintenance.Phase{maintenance.Announced, maintenance.Draining, maintenance.Drained} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			k := newAgentProcess(t, p)
			well := filepath.Join(t.TempDir(), "well")
			must(t, os.WriteFile(well, nil, 0o600))
			k.Hook, k.Health, p.onReport = "true", "test -e "+well, nil // commands can't write either
			k.HealthTimeout = 3 * time.Minute
			c := client.New(socketOf(t, &k.settings), client.Options{})
			policy := maintenance.Policy{Drain: maximum - time.Second/2, Maximum: maximum, Again: time.Second}
			if phase == maintenance.Announced {
				policy.Lead = time.Second
			}
			p.update(func() { p.desired.Maintenance = &cells.Maintenance{Policy: policy} })
			p.assign(p.addRelease(t, "1.0.0", 1, releaseWithServer("1.0.0", "a")))
			k.start("", 0)
			p.await(t, "1.0.0", runsHealthy("1.0.0"))
			op, err := c.Begin(t.Context(), "start", "under-way")
			must(t, err)
			if phase == maintenance.Drained {
				op.End()
				must(t, os.Remove(well)) // health is awaited
			}
			p.assign(p.addRelease(t, "1.1.0", 2, releaseWithServer("1.1.0", "b")))
			p.await(t, string(phase), func(r cells.Report) bool {
				return r.Maintenance != nil && r.Maintenance.Phase == phase && (phase != maintenance.Drained ||
					r.Applying != nil && strings.Contains(appManifest(t, k.Dir), "version: 1.1.0\n"))
			})
			k.room(0)
			durable, err := LoadMaintenance(k.State, time.Now())
			must(t, err)
			since := p.reportCount()
			op.End()
			must(t, os.WriteFile(well, nil, 0o600))
			p.awaitAfter(t, since, "it says that it can't write", func(r cells.Report) bool {
				return strings.Contains(r.Message, "file too large")
			})
			for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				next, err := c.Begin(t.Context(), "start", "next")
				refused := new(client.Refused)
				if err == nil {
					next.End()
					break
				}
				if !errors.As(err, &refused) || phase == maintenance.Announced || refused.After > maximum ||
					time.Now().After(end) {
					t.Fatalf("%v, and durable is %+v", err, durable)
				}
			}
			if now := time.Now(); now.Before(durable.Until.Add(-time.Second)) {
				t.Errorf("accepted %s before the end", durable.Until.Sub(now))
			}
			got := appManifest(t, k.Dir)
			if phase != maintenance.Drained && !strings.Contains(got, "version: 1.0.0\n") {
				t.Errorf("replaced without a journal: %s", got)
			}
			k.room(unix.RLIM_INFINITY)
			p.await(t, "1.1.0", runsHealthy("1.1.0"))
			if s, err := LoadMaintenance(k.State, time.Now()); err != nil || time.Until(s.Until) > maximum {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}
