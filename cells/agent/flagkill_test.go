package agent

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
)

// R43, invariant 8: killed at any step of taking flags, the next start offline has in force what was reported; and online
// it comes to the same end.
func TestKilledWhileFlagsAreTaken(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	k := newKillable(t, p)
	who := withFlags(t, &k.settings)
	healthy := p.heard
	var killed atomic.Bool // so the control plane was told
	p.heard = func(r cells.Report) {
		healthy(r)
		if r.Flags != nil {
			killed.Store(r.Flags.Orders == orders("plain").Digest)
		}
	}
	one := p.ship(t, "1.0.0", 1, featured("1.0.0", "classes"))
	p.assign(one)
	gate := func(height int64) flags.Gate {
		return flags.Gate{ID: fmt.Sprint("a", height), Features: []string{"classes"}}
	}
	p.tell(p.word(1, bundleOf(gate(1))))
	k.start("", 0)
	p.await(t, "on", stateIs("a1", flags.On))
	height := int64(1)
	for _, point := range []string{"orders in force", "flags kept", "bundle kept", "reported"} {
		for _, after := range []int{0, 1} {
			if point == "bundle kept" && after > 0 {
				continue // it is fetched once
			}
			k.kill()
			height += 2
			kill, lift := p.word(height-1, bundleOf(gate(height-1)), "plain"), p.word(height, bundleOf(gate(height)))
			killed.Store(false)
			p.tell(kill)
			k.start(point, after)
			if point != "orders in force" || after == 0 {
				k.died()
			} else { // it comes there again with the next word
				p.await(t, "killed", inForce(kill))
				p.tell(lift)
				k.died()
			}
			was := killed.Load()
			p.down(true)
			k.start("", 0)
			for who.ask("plain") == "nobody there" {
				time.Sleep(time.Millisecond)
			}
			if got := who.ask("plain"); was && got != "false" {
				t.Errorf("%s, %d: reported killed, and after a restart it is %s", point, after, got)
			}
			who.until("classes", "true")
			mark := p.mark()
			p.down(false)
			p.tell(kill)
			p.tell(lift)
			p.awaitAfter(t, mark, "lifted "+point, inForce(lift))
			who.is("plain", "true")
		}
	}
	k.check("1.0.0")
}

// R38, fault 34: killed at any step of an apply, a feature that only one of two releases contains is off after the next
// start, offline too, until health held again.
func TestKilledBetweenReleasesFlagsAreOff(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"journal begun", "applying", "target has it", "journal applied"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t)
			k := newKillable(t, p)
			k.HealthTimeout = time.Minute
			stay := t.TempDir() + "/unhealthy"
			k.Health = "! test -e " + stay + " && " + k.Health
			who := withFlags(t, &k.settings)
			two := p.ship(t, "1.1.0", 1, featured("1.1.0", "classes"))
			p.assign(two)
			p.tell(p.word(1, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}})))
			k.start("", 0)
			p.await(t, "on", stateIs("a", flags.On))
			k.kill()
			one := p.ship(t, "1.0.0", 2, release("1.0.0", nil))
			p.assign(one)
			k.start(point, 0)
			k.died()
			p.down(true)
			writeFile(t, stay)
			k.start("", 0)
			who.until("classes", "false")
			who.until("plain", "true")
			mark := p.mark()
			p.down(false)
			three := p.ship(t, "1.2.0", 3, featured("1.2.0", "classes"))
			p.assign(three)
			p.awaitAfter(t, mark, "begun", func(r cells.Report) bool { return r.Applying != nil && r.Applying.Key() == three.Key() })
			who.is("classes", "false") // between releases, of which one lacks it
			removeFile(t, stay)
			p.awaitAfter(t, mark, "on again", func(r cells.Report) bool { return healthyOn(three)(r) && stateIs("a", flags.On)(r) })
			who.is("classes", "true")
		})
	}
}
