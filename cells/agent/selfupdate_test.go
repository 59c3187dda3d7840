package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

// ownAgent is a SelfUpdate that notes which agents releases name, and refuses one of them. mu guards what follows it.
type ownAgent struct {
	refused string

	mu       sync.Mutex
	named    []string
	verified []bool // of those
	reported bool
}

func (o *ownAgent) Run(ctx context.Context) { <-ctx.Done() }

func (o *ownAgent) Reported() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reported = true
}

type badAgent struct{ error }

func (badAgent) FailureCause() cells.Cause { return cells.CauseRelease }

func (o *ownAgent) Update(_ context.Context, release selfupdate.Release) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range release.Components {
		o.named, o.verified = append(o.named, c.Image), append(o.verified, release.Verified)
		if c.Image == o.refused {
			return badAgent{errors.New("it did not report")}
		}
	}
	return nil
}

// The agent is replaced before anything of the release is in place; one that does not work fails the release. The way
// back leaves the agent as it is.
func TestAgentIsReplacedFirst(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	named := func(files map[string]string, image string) map[string]string {
		files["release.yaml"] += "components: [{name: sluice-agent, image: \"" + image + "\"}]\n"
		return files
	}
	s := newSettings(t, p)
	s.Health = broken
	own := &ownAgent{refused: "a.example/sluice:3"}
	start(t, s, func(o *Options) { o.SelfUpdate = own })
	one := p.addRelease(t, "1.0.0", 1, named(agenttest.Release("1.0.0", nil), "a.example/sluice:1"))
	p.assign(one)
	p.await(t, "healthy on 1.0.0", healthyOn(one))
	p.assign(p.addRelease(t, "1.1.0", 2, named(brokenRelease("1.1.0"), "a.example/sluice:2")))
	p.await(t, "back on 1.0.0", func(r cells.Report) bool { return healthyOn(one)(r) && len(r.Failures) == 1 })
	p.assign(p.addRelease(t, "1.2.0", 3, named(agenttest.Release("1.2.0", nil), "a.example/sluice:3")))
	p.await(t, "1.2.0 failed", func(r cells.Report) bool {
		return healthyOn(one)(r) && len(r.Failures) == 2 && r.Failures[1].Cause == cells.CauseRelease &&
			strings.Contains(r.Failures[1].Reason, "it did not report")
	})
	if got := appManifest(t, s.Dir); !strings.Contains(got, "version: 1.0.0") {
		t.Errorf("in place: %s", got)
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	want := "a.example/sluice:1 a.example/sluice:2 a.example/sluice:3"
	if got := strings.Join(slices.Compact(own.named), " "); got != want {
		t.Errorf("it was asked for %q, want %q: not at a rollback", got, want)
	}
	if !own.reported {
		t.Error("it does not know that the control plane took reports")
	}
}

// T1 for the agent itself: only a release that signers signed replaces it.
func TestT1AgentIsReplacedBySignedReleases(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	r, err := trusttest.New(time.Now())
	must(t, err)
	named := func(version, image string, sequence int64) cells.Assignment {
		files := agenttest.Release(version, nil)
		files["release.yaml"] += "components: [{name: sluice-agent, image: \"" + image + "\"}]\n"
		a := p.addRelease(t, version, sequence, files)
		a.Channel = trusttest.Channel
		return a
	}
	good := named("1.1.0", "a.example/sluice:1", 1)
	r.List("1.1.0", good.Digest, trusttest.Channel)
	r.Pick("1.1.0", good.Digest)
	b, err := r.Bundle()
	must(t, err)
	serveTrust(t, p, r)
	s := newSettings(t, p)
	s.TrustRoot = releases.DigestBytes(b.Roots[0])
	own := &ownAgent{}
	start(t, s, func(o *Options) { o.SelfUpdate = own })
	p.assign(good)
	p.await(t, "healthy on 1.1.0", healthyOn(good))
	p.assign(named("9.9.9", "a.example/sluice:evil", 2))
	p.await(t, "9.9.9 is refused", saysWhy("the signers did not sign 9.9.9", good))
	own.mu.Lock()
	defer own.mu.Unlock()
	if got := strings.Join(slices.Compact(own.named), " "); got != "a.example/sluice:1" ||
		slices.Contains(own.verified, false) {
		t.Errorf("it was asked for %q, verified %v", got, own.verified)
	}
}

// T1 for the agent itself: a release that ran before the cell had a root of trust comes back without a signature, and
// brings no agent.
func TestT1NoAgentOfAReleaseFromBeforeThePin(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	files := agenttest.Release("1.0.0", nil)
	files["release.yaml"] += "components: [{name: sluice-agent, image: \"a.example/sluice:evil\"}]\n"
	before := p.addRelease(t, "1.0.0", 1, files)
	s := newSettings(t, p)
	own := &ownAgent{}
	unpinned := start(t, s, func(o *Options) { o.SelfUpdate = own })
	p.assign(before)
	p.await(t, "healthy on 1.0.0", healthyOn(before))
	unpinned.stop()
	own.mu.Lock()
	asked := len(own.named)
	if asked == 0 || slices.Contains(own.verified, true) {
		t.Errorf("before: it was asked for %v, verified %v", own.named, own.verified)
	}
	own.mu.Unlock()

	o, err := s.options()
	must(t, err)
	o.TrustRoot, o.SelfUpdate = releases.DigestBytes(nil), own
	a, err := New(o)
	must(t, err)
	l, err := a.openState()
	must(t, err)
	defer func() { must(t, l.close()) }()
	if !l.signatures.Pinned() || l.state.LastGood == nil {
		t.Fatal("the cell has no root of trust, or nothing ran")
	}
	must(t, l.runStep(t.Context(), step{Task: taskApply, Assignment: l.state.LastGood}, l.state.LastGood, true).err)
	if len(own.named) > asked {
		t.Errorf("it was asked for %v, verified %v", own.named[asked:], own.verified[asked:])
	}
}
