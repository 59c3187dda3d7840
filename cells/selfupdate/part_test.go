package selfupdate

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// pod is a pod in memory: it is replaced some seconds after its workload became another, unless it is broken, as a
// StatefulSet's pod that never was ready. Its containers are Parts, but for images that do not start. mu guards what
// follows it.
type pod struct {
	dir     string
	broken  func(container, image string) bool
	reports func(image string) bool // the control plane takes reports of an agent

	mu              sync.Mutex
	wanted, running map[string]string
	agent           *Part          // nil: it does not run
	changed         int            // images
	refused         map[string]int // requests to change the image of a container that will be
	end             context.CancelFunc
	ended           context.Context // of the pod
}

func newPod(t *testing.T) *pod {
	first := map[string]string{Agent: "mirror/sluice:1", Guard: "mirror/sluice:1"}
	return &pod{dir: filepath.Join(t.TempDir(), "update"), wanted: maps.Clone(first), running: first,
		broken:  func(string, string) bool { return false },
		reports: func(string) bool { return true }, end: func() {}}
}

func (p *pod) Images(context.Context) (wanted, running map[string]string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.wanted), maps.Clone(p.running), nil
}

func (p *pod) SetImage(_ context.Context, container, image string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused[container] > 0 {
		p.refused[container]--
		return errors.New("the API server is away")
	}
	p.wanted[container] = image
	p.changed++
	return nil
}

func (p *pod) Restart(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	return nil
}

// run runs one pod after the other until ctx ends.
func (p *pod) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.runOnce(ctx)
	}
}

func (p *pod) runOnce(ctx context.Context) {
	var processes sync.WaitGroup
	defer processes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	p.running, p.end, p.ended = maps.Clone(p.wanted), cancel, ctx
	isReady := true
	for _, container := range []string{Agent, Guard} {
		image := p.running[container]
		if p.broken(container, image) {
			isReady = false
			continue
		}
		part := New(Options{Part: container, Dir: p.dir, Workload: p, Limit: 10 * time.Minute})
		part.now = func() instant { return instant{wall: time.Now()} } // of the test's own clock
		processes.Go(func() { part.Run(ctx) })
		if container == Agent {
			p.agent = part
			if p.reports(image) {
				part.Reported()
			}
		}
	}
	p.mu.Unlock()
	for ctx.Err() == nil {
		time.Sleep(5 * time.Second)
		p.mu.Lock()
		if isReady && !maps.Equal(p.wanted, p.running) {
			cancel()
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.agent = nil
	p.mu.Unlock()
}

// update has whichever agent runs apply a release until one says how that went, as agents do that are started anew.
func (p *pod) update(ctx context.Context, image string) error {
	for ctx.Err() == nil {
		p.mu.Lock()
		agent, ended := p.agent, p.ended
		p.mu.Unlock()
		if agent == nil || ended.Err() != nil {
			time.Sleep(time.Second)
			continue
		}
		err := agent.Update(ended, Release{Key: "key of " + image, Components: []releases.Component{
			{Name: "server", Image: "server:1"}, {Name: Component, Image: image}}})
		if ended.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

// changes returns how many images were changed.
func (p *pod) changes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// inPod runs a test with a pod, on a clock of its own.
func inPod(t *testing.T, set func(*pod), test func(ctx context.Context, p *pod)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t)
		set(p)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		var running sync.WaitGroup
		running.Go(func() { p.run(ctx) })
		defer running.Wait()
		defer cancel()
		time.Sleep(time.Second)
		test(ctx, p)
	})
}

func (p *pod) want(t *testing.T, agent, guard string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]string{Agent: agent, Guard: guard}
	if !maps.Equal(p.running, want) || !maps.Equal(p.wanted, want) {
		t.Errorf("the pod runs %v and should have %v, want %v", p.running, p.wanted, want)
	}
}

// The agent is replaced by the one that a release names, from the repository that the owner installed. Its guard
// follows in another step.
func TestUpdate(t *testing.T) {
	inPod(t, func(*pod) {}, func(ctx context.Context, p *pod) {
		if err := p.update(ctx, "vendor/sluice:2"); err != nil {
			t.Fatal(err)
		}
		p.want(t, "mirror/sluice:2", "mirror/sluice:1")
		time.Sleep(20 * time.Minute)
		p.want(t, "mirror/sluice:2", "mirror/sluice:2")
		changed := p.changes()
		if err := p.update(ctx, "vendor/sluice:2"); err != nil || p.changes() != changed {
			t.Errorf("again: %v, %d changes", err, p.changes()-changed)
		}
		if err := p.update(ctx, "vendor/sluice:3"); err != nil {
			t.Fatal(err)
		}
		p.want(t, "mirror/sluice:3", "mirror/sluice:2")
	})
}

// An agent that does not start, or starts and does not report, is put back, and the release failed. Another try by the
// owner, or another release, is one.
func TestTheOldAgentIsPutBack(t *testing.T) {
	isSecond := func(image string) bool { return image == "mirror/sluice:2" }
	for name, set := range map[string]func(*pod){
		"it does not start": func(p *pod) {
			p.broken = func(container, image string) bool { return container == Agent && isSecond(image) }
		},
		"it does not report": func(p *pod) { p.reports = func(image string) bool { return !isSecond(image) } },
	} {
		t.Run(name, func(t *testing.T) {
			inPod(t, set, func(ctx context.Context, p *pod) {
				for range 2 {
					begun := time.Now()
					err := p.update(ctx, "vendor/sluice:2")
					if err == nil || cells.CauseOf(err) != cells.CauseUnknown ||
						!strings.Contains(err.Error(), "did not report within 10m") {
						t.Fatalf("it says %v", err)
					}
					if took := time.Since(begun); took > 15*time.Minute {
						t.Errorf("it took %s", took)
					}
					p.want(t, "mirror/sluice:1", "mirror/sluice:1")
				}
				if err := p.update(ctx, "vendor/sluice:3"); err != nil {
					t.Fatal(err)
				}
				p.want(t, "mirror/sluice:3", "mirror/sluice:1")
			})
		})
	}
}

// A pod that is replaced again and again begins no new wait: the old agent comes back all the same.
func TestReplacedPodsDoNotProlongTheWait(t *testing.T) {
	inPod(t, func(p *pod) {
		p.reports = func(image string) bool { return image != "mirror/sluice:2" }
	}, func(ctx context.Context, p *pod) {
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		var evictions sync.WaitGroup
		evictions.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(4 * time.Minute)
				_ = p.Restart(ctx)
			}
		})
		begun := time.Now()
		err := p.update(ctx, "vendor/sluice:2")
		if took := time.Since(begun); err == nil || ctx.Err() != nil || took > 15*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
		cancel()
		evictions.Wait()
		p.want(t, "mirror/sluice:1", "mirror/sluice:1")
	})
}

// Where somebody puts the old image back after the new agent worked, the agent does not change it for ever.
func TestSomebodyPutTheImageBack(t *testing.T) {
	inPod(t, func(*pod) {}, func(ctx context.Context, p *pod) {
		if err := p.update(ctx, "vendor/sluice:2"); err != nil {
			t.Fatal(err)
		}
		_ = p.SetImage(ctx, Agent, "mirror/sluice:1")
		time.Sleep(time.Minute)
		changed := p.changes()
		err := p.update(ctx, "vendor/sluice:2")
		if err == nil || cells.CauseOf(err) != cells.CauseCell || !strings.Contains(err.Error(), "somebody put") {
			t.Errorf("it says %v", err)
		}
		if p.changes() != changed {
			t.Error("it was changed again")
		}
		if err := p.update(ctx, "vendor/sluice:2"); err != nil { // another try
			t.Fatal(err)
		}
		p.want(t, "mirror/sluice:2", "mirror/sluice:1")
	})
}

// Where somebody sets the image that was put back, the release goes on with it.
func TestSomebodySetsTheNewImage(t *testing.T) {
	inPod(t, func(p *pod) {
		r := Record{ID: "x", Part: Agent, For: "key of vendor/sluice:2", From: "mirror/sluice:1", To: "mirror/sluice:2",
			Phase: restored}
		if done, err := (records{p.dir}).change(Record{}, r); !done || err != nil {
			t.Fatal(done, err)
		}
		p.wanted[Agent] = r.To
	}, func(ctx context.Context, p *pod) {
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if err := p.update(ctx, "vendor/sluice:2"); err != nil {
			t.Error(err)
		}
	})
}

// A guard that does not start is put back by its agent, and is not tried again; updates go on.
func TestTheOldGuardIsPutBack(t *testing.T) {
	inPod(t, func(p *pod) {
		p.broken = func(container, image string) bool { return container == Guard && image == "mirror/sluice:2" }
	}, func(ctx context.Context, p *pod) {
		if err := p.update(ctx, "vendor/sluice:2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		p.want(t, "mirror/sluice:2", "mirror/sluice:1")
		changed := p.changes()
		time.Sleep(time.Hour)
		if p.changes() != changed {
			t.Error("the guard is tried again and again")
		}
		if err := p.update(ctx, "vendor/sluice:3"); err != nil {
			t.Fatal(err)
		}
		p.want(t, "mirror/sluice:3", "mirror/sluice:1")
	})
}

// The guard follows its agent though the first requests to change its image fail.
func TestTheGuardFollowsLater(t *testing.T) {
	inPod(t, func(p *pod) { p.refused = map[string]int{Guard: 3} }, func(ctx context.Context, p *pod) {
		if err := p.update(ctx, "vendor/sluice:2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		p.want(t, "mirror/sluice:2", "mirror/sluice:2")
	})
}

// Without a guard the agent stays as it is, and the release waits.
func TestNoGuard(t *testing.T) {
	inPod(t, func(p *pod) {
		p.broken = func(container, _ string) bool { return container == Guard }
	}, func(ctx context.Context, p *pod) {
		err := p.update(ctx, "vendor/sluice:2")
		var unavailable *cells.UnavailableError
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "no guard watched") ||
			!strings.Contains(err.Error(), "on a machine, the owner restarts the agent's service") {
			t.Errorf("it says %v", err)
		}
		p.want(t, "mirror/sluice:1", "mirror/sluice:1")
	})
}

// A release that names no agent leaves the agent as it is; one that names it without a version fails.
func TestReleasesWithoutAVersion(t *testing.T) {
	inPod(t, func(*pod) {}, func(ctx context.Context, p *pod) {
		p.mu.Lock()
		agent := p.agent
		p.mu.Unlock()
		release := Release{Key: "k", Components: []releases.Component{{Name: "server", Image: "server:2"}}}
		if err := agent.Update(ctx, release); err != nil {
			t.Error(err)
		}
		if err := p.update(ctx, "vendor/sluice"); cells.CauseOf(err) != cells.CauseRelease {
			t.Errorf("it says %v", err)
		}
		p.want(t, "mirror/sluice:1", "mirror/sluice:1")
	})
}

// Of two that change the record at once, one does: a confirmation that comes too late is none.
func TestOneChangesTheRecord(t *testing.T) {
	f := records{t.TempDir()}
	first := Record{ID: "x", Part: Agent, From: "a:1", To: "a:2", Phase: watched}
	if done, err := f.change(Record{}, first); !done || err != nil {
		t.Fatal(done, err)
	}
	late, early := first, first
	late.Phase, early.Phase = confirmed, undone
	if done, err := f.change(first, early); !done || err != nil {
		t.Fatal(done, err)
	}
	if done, err := f.change(first, late); done || err != nil {
		t.Errorf("changed: %t, %v", done, err)
	}
	if r, err := f.load(); r != early || err != nil {
		t.Errorf("it is %v, %v", r, err)
	}
	if err := os.WriteFile(f.file(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.load(); err == nil || !strings.Contains(err.Error(), f.file()) {
		t.Errorf("a damaged record: %v", err)
	}
}
