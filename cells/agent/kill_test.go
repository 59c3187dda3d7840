package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/test/child"
)

// agentProcess is an agent in a process of its own, with commands that record what they do.
type agentProcess struct {
	settings
	t       testing.TB
	plane   *controlPlane
	hooks   string // a line when a hook begins, and when it ends
	healths string // a line each time health held: the process's tag and the release
	starts  int
	command *exec.Cmd
	output  bytes.Buffer
}

func newAgentProcess(t testing.TB, p *controlPlane) *agentProcess {
	t.Helper()
	k := &agentProcess{settings: newSettings(t, p), t: t, plane: p}
	k.hooks, k.healths = filepath.Join(t.TempDir(), "hooks"), filepath.Join(t.TempDir(), "healths")
	k.Hook = "echo begin $$ >>" + k.hooks + "; sleep 0.01; echo end $$ >>" + k.hooks
	k.Health = broken + "; echo $TAG $SLUICE_RELEASE >>" + k.healths
	k.HealthTimeout = 100 * time.Millisecond
	t.Cleanup(k.kill)
	// Fault 34: no report says healthy unless health held before, in the process that reports.
	p.onReport = func(r cells.Report) {
		if r.State == cells.StateHealthy && !strings.Contains("\n"+readFile(t, k.healths),
			"\n"+r.Agent+" "+r.Running.Release+"\n") {
			t.Errorf("%s reports %s healthy before it was", r.Agent, r.Running.Release)
		}
	}
	return k
}

// start starts a process that kills itself at a test point, after it was there that many times.
func (k *agentProcess) start(point string, after int) {
	k.t.Helper()
	self, err := child.Program()
	must(k.t, err)
	s := k.settings
	k.starts++
	s.KillAt, s.KillAfter, s.Tag = point, after, fmt.Sprint("start-", k.starts)
	text, err := json.Marshal(s)
	must(k.t, err)
	k.command = exec.Command(self, "agent", string(text))
	k.command.Stderr = &k.output
	must(k.t, k.command.Start())
}

// awaitDeath waits for a process that kills itself.
func (k *agentProcess) awaitDeath() {
	k.t.Helper()
	_ = k.command.Wait()
	if k.command.ProcessState.Exited() {
		k.t.Fatalf("the agent ended by itself: %s", &k.output)
	}
	k.command = nil
}

func (k *agentProcess) kill() {
	if k.command == nil {
		return
	}
	_ = k.command.Process.Kill()
	_ = k.command.Wait()
	k.command = nil
}

// checkOutcome checks what must be true in the end.
func (k *agentProcess) checkOutcome(version string) {
	k.t.Helper()
	if got := appManifest(k.t, k.Dir); !strings.Contains(got, "version: "+version+"\n") {
		k.t.Errorf("in place: %s, want %s", got, version)
	}
	open := ""
	for line := range strings.Lines(readFile(k.t, k.hooks)) {
		verb, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verb == "end" && open != id {
			k.t.Fatalf("two hooks at once:\n%s", readFile(k.t, k.hooks))
		}
		if open = ""; verb == "begin" {
			open = id
		}
	}
	k.plane.mu.Lock()
	defer k.plane.mu.Unlock()
	if len(k.plane.eventConflicts) > 0 {
		k.t.Errorf("history: %v", k.plane.eventConflicts)
	}
}

// Fault 34: after a kill at any step of an apply or a rollback, the next start resumes or reverts to the same end.
func TestKilledAtEveryStep(t *testing.T) {
	points := []struct {
		at    string
		after int
	}{
		{"history kept", 0}, {"history kept", 2}, {"history kept", 4},
		{"journal taken", 0}, {"journal begun", 0}, {"applying", 0}, {"target has it", 0},
		{"journal applied", 0}, {"reported", 0}, {"reported", 1}, {"reported", 2},
	}
	for _, kind := range []string{"good", "bad", "forward-only", "bad forward-only"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			k := newAgentProcess(t, p)
			good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			p.assign(good)
			k.start("", 0)
			p.await(t, "healthy", healthyOn(good))
			for i, point := range points {
				k.kill()
				version := fmt.Sprintf("1.%d.0", i+1)
				files := agenttest.Release(version, nil)
				bad := strings.HasPrefix(kind, "bad")
				if bad {
					files = brokenRelease(version)
				}
				next := p.addRelease(t, version, int64(i+2), files)
				next.ForwardOnly = strings.HasSuffix(kind, "forward-only")
				p.assign(next)
				k.start(point.at, point.after)
				k.awaitDeath()
				since := p.reportCount()
				k.start("", 0)
				switch {
				case bad && next.ForwardOnly:
					p.awaitAfter(t, since, "stuck "+point.at,
						func(r cells.Report) bool { return failedAt(next)(r) && r.State == cells.StateStuck })
					k.checkOutcome(version)
				case bad:
					p.awaitAfter(t, since, "failed and back "+point.at,
						func(r cells.Report) bool { return failedAt(next)(r) && healthyOn(good)(r) })
					k.checkOutcome(good.Release)
				default:
					p.awaitAfter(t, since, "healthy "+point.at, healthyOn(next))
					k.checkOutcome(version)
					good = next
				}
			}
		})
	}
}

// Fault 34: the same at random instants, several in a row, with the outcome of an undisturbed run.
func TestKilledAtRandomInstants(t *testing.T) {
	t.Parallel()
	const rounds = 40
	p := newControlPlane(t)
	k := newAgentProcess(t, p)
	works := []cells.Assignment{p.addRelease(t, "1.0.0", 0, agenttest.Release("1.0.0", nil)),
		p.addRelease(t, "1.1.0", 0, agenttest.Release("1.1.0", nil))}
	fails := p.addRelease(t, "6.6.6", 0, brokenRelease("6.6.6"))
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var good cells.Assignment
	kills := 0
	for i := range rounds {
		next := works[i%2]
		bad := i > 0 && random.IntN(3) == 0
		if bad {
			next = fails
		}
		next.Sequence = int64(i + 1)
		p.assign(next)
		for range random.IntN(4) {
			if k.command == nil {
				k.start("", 0)
			}
			time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // the instant to kill at
			k.kill()
			kills++
		}
		if k.command == nil {
			k.start("", 0)
		}
		if bad {
			p.await(t, "failed and back", func(r cells.Report) bool { return failedAt(next)(r) && healthyOn(good)(r) })
		} else {
			p.await(t, "healthy", healthyOn(next))
			good = next
		}
		k.checkOutcome(good.Release)
	}
	t.Logf("%d rounds, killed %d times", rounds, kills)
}
