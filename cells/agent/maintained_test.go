package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/client"
)

// releaseWithServer returns the files of a release whose marked component is an image.
func releaseWithServer(version, image string) map[string]string {
	files := agenttest.Release(version, nil)
	files["release.yaml"] += "components:\n  - {name: server, maintenance: true, image: \"r.example/server@sha256:" +
		strings.Repeat(image, 64) + "\"}\nmaintenance:\n  texts: {en: {start: \"No start until {until}.\"}}\n"
	return files
}

// awaitText waits until an operation is refused, and returns what the user sees.
func awaitText(t *testing.T, c *client.Client) string {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		op, err := c.Begin(t.Context(), "start", "probe")
		if refused := new(client.Refused); errors.As(err, &refused) {
			return refused.Text
		}
		must(t, err)
		op.End()
	}
	t.Fatal("no operation is refused")
	return ""
}

// socketOf has the agent serve on a socket, whose path must be short, and returns it.
func socketOf(t *testing.T, s *settings) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "local")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.Flags = "unix://" + filepath.Join(dir, "s")
	return filepath.Join(dir, "s")
}

func runsHealthy(version string) func(cells.Report) bool {
	return func(r cells.Report) bool { return r.State == cells.StateHealthy && r.Running.Release == version }
}

func wantEvents(t *testing.T, p *controlPlane, version string, kinds ...string) {
	t.Helper()
	p.await(t, strings.Join(kinds, ", "), func(cells.Report) bool {
		all := p.kindsOf(version)
		for _, kind := range kinds {
			i := strings.Index(all, " "+kind+" ")
			if i < 0 {
				return false
			}
			all = all[i:]
		}
		return true
	})
}

// kindsOf returns the kinds of a release's events, in order, each between spaces.
func (p *controlPlane) kindsOf(version string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := " "
	for n := int64(1); n <= int64(len(p.events)); n++ {
		if e := p.events[n]; e.Release == version {
			all += e.Kind + " "
		}
	}
	return all
}

// With a real agent: an operation under way is waited for, users see the release's text, what runs is replaced only
// then, and an update that changes nothing marked refuses nothing.
func TestAnUpdateWaitsForOperations(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	c := client.New(socketOf(t, &s), client.Options{})
	p.update(func() {
		p.desired.Maintenance = &cells.Maintenance{
			Policy: maintenance.Policy{Drain: time.Minute, Maximum: 5 * time.Minute}}
	})
	p.assign(p.addRelease(t, "1.0.0", 1, releaseWithServer("1.0.0", "a")))
	start(t, s)
	p.await(t, "1.0.0", func(r cells.Report) bool { return r.State == cells.StateHealthy })
	op, err := c.Begin(t.Context(), "start", "ws-1")
	must(t, err)
	p.assign(p.addRelease(t, "1.1.0", 2, releaseWithServer("1.1.0", "b")))
	if text := awaitText(t, c); !strings.HasPrefix(text, "No start until ") {
		t.Error(text)
	}
	p.await(t, "waits, and has not begun (R14)", func(r cells.Report) bool {
		return strings.Contains(r.Message, "maintenance for 1.1.0") && r.Applying == nil &&
			r.State == cells.StateHealthy
	})
	if got := appManifest(t, s.Dir); !strings.Contains(got, "version: 1.0.0\n") {
		t.Errorf("replaced under an operation: %s", got)
	}
	if state, err := LoadMaintenance(s.State, time.Now()); err != nil || state.Phase != maintenance.Draining {
		t.Errorf("%+v, %v", state, err)
	}
	op.End()
	p.await(t, "1.1.0", runsHealthy("1.1.0"))
	wantEvents(t, p, "1.1.0", "started", "maintenance-announced", "maintenance-entered", "applied", "healthy",
		"maintenance-left")
	p.assign(p.addRelease(t, "1.2.0", 3, releaseWithServer("1.2.0", "b")))
	p.await(t, "1.2.0", runsHealthy("1.2.0"))
	if kinds := p.kindsOf("1.2.0"); strings.Contains(kinds, "maintenance") {
		t.Errorf("nothing marked changes: %s", kinds)
	}
}

// Killed with SIGKILL in each phase, the agent leaves an end that comes by itself, goes on at its next start, and what
// refuses then was durable before.
func TestKilledInEachPhaseOfAMaintenance(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"journal prepared", "maintenance announced", "maintenance draining",
		"maintenance drained", "applying", "target has it", "journal applied"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			k := newAgentProcess(t, p)
			k.HealthTimeout = time.Minute
			socket := socketOf(t, &k.settings)
			policy := maintenance.Policy{Lead: 50 * time.Millisecond, Drain: 29 * time.Second,
				Maximum: 30 * time.Second, Again: time.Second}
			p.update(func() { p.desired.Maintenance = &cells.Maintenance{Policy: policy} })
			p.assign(p.addRelease(t, "1.0.0", 1, releaseWithServer("1.0.0", "a")))
			k.start("", 0)
			p.await(t, "1.0.0", func(r cells.Report) bool { return r.State == cells.StateHealthy })
			k.kill()
			p.assign(p.addRelease(t, "1.1.0", 2, releaseWithServer("1.1.0", "b")))
			k.start(point, 0)
			k.awaitDeath()
			state, err := LoadMaintenance(k.State, time.Now())
			must(t, err)
			if left := time.Until(state.Until); left > policy.Maximum {
				t.Errorf("without an agent operations would be refused for %s", left)
			}
			j, err := readJournal(k.State)
			must(t, err)
			if j.Upkeep.Record == nil && j.Attempt != nil && j.Attempt.Phase == phasePrepared {
				t.Error("prepared, and nothing is announced")
			}
			k.start("", 0)
			c := client.New(socket, client.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			refused := make(chan client.State, 100)
			go c.Watch(ctx, func(s client.State) {
				if s.Seconds > 0 {
					refused <- s
				}
			})
			p.await(t, "1.1.0", runsHealthy("1.1.0"))
			wantEvents(t, p, "1.1.0", "maintenance-entered", "applied", "maintenance-left")
			for len(refused) > 0 {
				if s := <-refused; time.Duration(s.Seconds)*time.Second > policy.Maximum+time.Second {
					t.Errorf("%+v", s)
				}
			}
			k.checkOutcome("1.1.0")
		})
	}
}
