package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/releases"
)

// downFor returns a health command that fails for a release while a file is there.
func downFor(release, file string) string {
	return `test "$SLUICE_RELEASE" != ` + release + ` || test ! -e "` + file + `" || { echo the database is down; exit 1; }`
}

func failures(n int, state cells.State) func(cells.Report) bool {
	return func(r cells.Report) bool { return len(r.Failures) == n && r.State == state }
}

// R56: the owner's request makes the agent try again what failed under the same head, after a new start as well; each
// request counts once, and success ends the failure.
func TestR56OwnerAsksForAnotherTry(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	down := filepath.Join(t.TempDir(), "down")
	must(t, os.WriteFile(down, nil, 0o600))
	s.Health = downFor("1.1.0", down)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	c := start(t, s)
	p.await(t, "healthy", healthyOn(one))
	if a, err := RequestRetry(s.State); a != nil || err != nil {
		t.Errorf("nothing failed, and a retry is %v, %v", a, err)
	}
	two := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(two)
	back := func(r cells.Report) bool { return failedAt(two)(r) && healthyOn(one)(r) }
	first := p.await(t, "failed and back", back).Failures[0]

	request := func() {
		t.Helper()
		if a, err := RequestRetry(s.State); err != nil || a == nil || a.Release != "1.1.0" {
			t.Fatalf("asked for %v, %v", a, err)
		}
	}
	since := p.reportCount()
	request()
	p.awaitAfter(t, since, "failed again", func(r cells.Report) bool {
		return back(r) && len(r.Failures) == 1 && !r.Failures[0].At.Equal(first.At)
	})
	if _, err := os.Stat(retryFile(s.State)); err == nil {
		t.Error("the request is still there")
	}

	c.stop()
	request()
	must(t, os.Remove(down))
	since = p.reportCount()
	c = start(t, s)
	p.awaitAfter(t, since, "healthy on what had failed", func(r cells.Report) bool {
		return healthyOn(two)(r) && len(r.Failures) == 0
	})
	since = p.reportCount()
	c.stop()
	start(t, s)
	p.awaitAfter(t, since, "no failure is left", healthyOn(two))
	starts := 0
	for _, kind := range p.eventKinds() {
		if kind == "started" {
			starts++
		}
	}
	if starts != 4 { // 1.0.0, and three tries of 1.1.0
		t.Errorf("history is %v", p.eventKinds())
	}
}

// R56: the vendor's request is another assignment under the same head, whether what failed was rolled back, was a first
// install, or is forward-only and stuck.
func TestR56VendorAsksForAnotherTry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first       bool // nothing is installed
		forwardOnly bool
		state       cells.State // after the failure
	}{
		"rolled back":     {state: cells.StateHealthy},
		"a first install": {first: true, state: cells.StateFailed},
		"stuck":           {forwardOnly: true, state: cells.StateStuck},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			down := filepath.Join(t.TempDir(), "down")
			must(t, os.WriteFile(down, nil, 0o600))
			s.Health = downFor("1.1.0", down)
			start(t, s)
			if !c.first {
				one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
				p.assign(one)
				p.await(t, "healthy", healthyOn(one))
			}
			two := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
			two.ForwardOnly = c.forwardOnly
			p.assign(two)
			p.await(t, "failed", failures(1, c.state))
			again := two
			again.Retry = "2026-11-23T10:00:00Z"
			p.assign(again)
			p.await(t, "failed again", failures(2, c.state))
			must(t, os.Remove(down))
			again.Retry = "2026-11-23T11:00:00Z"
			p.assign(again)
			p.await(t, "healthy, and no failure is left", func(r cells.Report) bool {
				return healthyOn(again)(r) && len(r.Failures) == 0
			})
		})
	}
}

// R56, R18: the owner's request begins nothing against the owner's own decisions, nothing that is no longer wanted, and
// waits until it is known what is wanted.
func TestR56OwnersRequestIsBound(t *testing.T) {
	now := time.Now()
	failed := cells.Assignment{Channel: "c", Epoch: 1, Sequence: 2, Release: "1.1.0",
		Digest: releases.DigestBytes([]byte("1.1.0"))}
	other := failed
	other.Sequence, other.Release = 3, "1.2.0"
	for name, c := range map[string]struct {
		wanted  *cells.Assignment
		owner   *cells.Owner
		handled bool
		begins  bool
	}{
		"wanted still":     {wanted: &failed, handled: true, begins: true},
		"another release":  {wanted: &other, handled: true},
		"not known yet":    {},
		"the owner paused": {wanted: &failed, owner: &cells.Owner{Paused: "audit"}, handled: true},
	} {
		s := state{owner: ownerDecisions{decisions: c.owner}, desired: c.wanted}
		s.Accepted, s.Failures = &failed, []cells.Failure{{Assignment: failed, Reason: "broken"}}
		if handled := retryFailed(&s); handled != c.handled {
			t.Errorf("%s: handled %v", name, handled)
		}
		s.handleConfirmation(failed.Key(), now)
		if begins := s.Attempt != nil; begins != c.begins {
			t.Errorf("%s: begins %v, %+v", name, begins, s.Attempt)
		}
		if c.owner != nil {
			s.handleOwnerDecisions(ownerDecisions{}, now)
			if s.Attempt == nil {
				t.Errorf("%s: it does not begin afterwards", name)
			}
		}
	}
}
