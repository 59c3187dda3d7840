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
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/flags"
)

// testSharer is where a cell's node parts look.
type testSharer struct {
	mu   sync.Mutex
	away bool
	last flagserver.Shared
}

func (b *testSharer) Share(_ context.Context, s flagserver.Shared, bundle func() ([]byte, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errors.New("the board is away")
	}
	b.last = s
	_, err := bundle()
	return err
}

func (b *testSharer) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *testSharer) contains(feature string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.last.Features, feature)
}

// R38 on the nodes: what lacks a feature is not applied before the nodes can know. While they can't, it waits, and says
// so.
func TestR38NothingBeginsBeforeTheNodesCanKnow(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	b := &testSharer{}
	o, err := s.options()
	must(t, err)
	o.Nodes = b
	a, err := New(o)
	must(t, err)
	a.onTestPoint = func(point string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if point == "target has it" && (b.away || slices.Contains(b.last.Features, "classes")) {
			t.Errorf("%s was applied while the nodes have %v, away: %t", b.last.Release, b.last.Features, b.away)
		}
	}
	runForTest(t, s, a)
	p.setFlags(p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})))
	two := p.addRelease(t, "1.1.0", 1, agenttest.ReleaseWithFeatures("1.1.0", "classes"))
	p.assign(two)
	p.await(t, "on", func(r cells.Report) bool { return healthyOn(two)(r) && announcementIs("a", flags.On)(r) })
	for !b.contains("classes") {
		time.Sleep(5 * time.Millisecond)
	}
	b.setAway(true)
	one := p.addRelease(t, "1.0.0", 2, agenttest.Release("1.0.0", nil))
	since := p.reportCount()
	p.assign(one)
	p.awaitAfter(t, since, "waiting", func(r cells.Report) bool {
		return strings.Contains(r.Message, "share the flags with the cell's nodes: the board is away")
	})
	p.awaitAfter(t, since, "the nodes' flags are reported as old", func(r cells.Report) bool {
		return r.Flags != nil && strings.Contains(r.Flags.Fault, "the cell's nodes keep the flags of before")
	})
	b.setAway(false)
	p.awaitAfter(t, since, "applied", func(r cells.Report) bool {
		return healthyOn(one)(r) && r.Flags.Fault == "" && !b.contains("classes")
	})
}
