package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

// tellingTarget is a target whose product is told by what may be unreachable.
type tellingTarget struct {
	cells.Target
	mu      sync.Mutex
	cut     bool
	phases  []maintenance.Phase // that were told
	applied []maintenance.Phase // the phase told last, by apply
}

func (f *tellingTarget) TellMaintenance(_ context.Context, s maintenance.State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return errors.New("connection refused")
	}
	f.phases = append(f.phases, s.Phase)
	return nil
}

func (f *tellingTarget) Apply(ctx context.Context, r cells.Rendered) error {
	f.mu.Lock()
	last := maintenance.Off
	if n := len(f.phases); n > 0 {
		last = f.phases[n-1]
	}
	f.applied = append(f.applied, last)
	f.mu.Unlock()
	return f.Target.Apply(ctx, r)
}

// No marked component is replaced before the product could be told, and in the end it is told that it is over.
func TestTheProductIsToldFirst(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	p.update(func() {
		p.desired.Maintenance = &cells.Maintenance{
			Policy: maintenance.Policy{Drain: time.Minute, Maximum: 5 * time.Minute}}
	})
	p.assign(p.addRelease(t, "1.0.0", 1, releaseWithServer("1.0.0", "a")))
	var target *tellingTarget
	start(t, s, func(o *Options) {
		target = &tellingTarget{Target: o.Target, cut: true}
		o.Target = target
	})
	p.await(t, "1.0.0", func(r cells.Report) bool { return r.State == cells.StateHealthy })
	two := p.addRelease(t, "1.1.0", 2, releaseWithServer("1.1.0", "b"))
	p.assign(two)
	wantEvents(t, p, "1.1.0", "maintenance-entered")
	target.mu.Lock()
	if len(target.applied) != 1 {
		t.Errorf("applied at %v though nobody could be told", target.applied)
	}
	target.cut = false
	target.mu.Unlock()
	p.await(t, "1.1.0", healthyOn(two))
	wantEvents(t, p, "1.1.0", "maintenance-left")
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		target.mu.Lock()
		last, applied := target.phases[len(target.phases)-1], target.applied
		target.mu.Unlock()
		if applied[len(applied)-1] != maintenance.Draining && applied[len(applied)-1] != maintenance.Drained {
			t.Fatalf("applied at %v", applied)
		}
		if last == maintenance.Off {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody was told that it is over")
		}
	}
}
