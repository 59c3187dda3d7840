package agent

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/flags"
)

// R40, fault 64: nothing turns on early in an agent whose machine's clock is set two days ahead, or back and ahead
// again: before it starts, between two starts without a network, or while the machine was off and the control plane is
// reachable. Each flag still turns on at its instant.
func TestNothingIsEarlyByTheWallClock(t *testing.T) {
	t.Parallel()
	const days = 48 * time.Hour
	for name, tt := range map[string]struct {
		first, second time.Duration
		boot          string // of the second start; empty: the machine keeps running
		down          bool   // no control plane after the first start
	}{
		"ahead":                 {first: days, second: days, down: true},
		"set ahead":             {second: days, down: true},
		"set back":              {first: days, second: -days, down: true},
		"off, set ahead":        {second: days, boot: "another"},
		"off, set back":         {first: days, second: -days, boot: "another"},
		"off, as far as it was": {first: days, second: days, boot: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			s.Skew = tt.first
			product := serveFlags(t, &s)
			c := start(t, s)
			one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
			p.assign(one)
			at := p.now().Add(6 * time.Second).Unix()
			p.setFlags(p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}, At: at})))
			p.await(t, "armed", announcementIs("a", flags.Armed))
			c.stop()
			s.Skew, s.Boot = tt.second, tt.boot
			p.setDown(tt.down)
			start(t, s)
			product.awaitFlag("plain", "true")
			for p.now().Unix() < at {
				if got := product.evaluateFlag("classes"); got != "false" && p.now().Unix() < at {
					t.Fatalf("%s before its time", got)
				}
				time.Sleep(5 * time.Millisecond)
			}
			product.awaitFlag("classes", "true")
			if late := p.now().Sub(time.Unix(at, 0)); late > 20*time.Second {
				t.Errorf("late by %s", late) // as if another clock counted
			}
		})
	}
}

// R40: one receipt with a time two days ahead turns nothing on, in this process and the next.
func TestOneWrongReceiptTurnsNothingOn(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	c := start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	f := p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"},
		At: p.now().Add(24 * time.Hour).Unix()}))
	p.setFlags(f)
	p.await(t, "armed", announcementIs("a", flags.Armed))
	since := p.reportCount()
	lies := 0
	p.update(func() {
		p.extraSkew = func() time.Duration {
			if lies++; lies%2 == 0 {
				return 0
			}
			return 48 * time.Hour
		}
	})
	for range 6 {
		p.awaitAfter(t, since, "another report", flagsInForce(f))
		since = p.reportCount()
		product.wantFlag("classes", "false")
	}
	c.stop()
	start(t, s)
	product.awaitFlag("plain", "true")
	product.wantFlag("classes", "false")
}
