package agent

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/test/child"
)

// R43, invariant 8: an agent killed at any step of taking flags has, at its next start offline, what it reported in
// force; online it reaches the same end.
func TestKilledWhileFlagsAreTaken(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	k := newAgentProcess(t, p)
	product := serveFlags(t, &k.settings)
	healthy := p.onReport
	var killed atomic.Bool // that is what it reported
	p.onReport = func(r cells.Report) {
		healthy(r)
		if r.Flags != nil {
			killed.Store(r.Flags.Orders == agenttest.KillOrders("plain").Digest)
		}
	}
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	gate := func(height int64) flags.Gate {
		return flags.Gate{ID: fmt.Sprint("a", height), Features: []string{"classes"}}
	}
	p.setFlags(p.newFlags(1, newBundle(gate(1))))
	k.start("", 0)
	p.await(t, "on", announcementIs("a1", flags.On))
	height := int64(1)
	for _, point := range []string{"orders in force", "flags kept", "bundle kept", "reported"} {
		for _, after := range []int{0, 1} {
			if point == "bundle kept" && after > 0 {
				continue // the bundle is fetched once
			}
			k.kill()
			height += 2
			kill, lift := p.newFlags(height-1, newBundle(gate(height-1)), "plain"),
				p.newFlags(height, newBundle(gate(height)))
			killed.Store(false)
			p.setFlags(kill)
			k.start(point, after)
			if point != "orders in force" || after == 0 {
				k.awaitDeath()
			} else { // the next desired state takes it there again
				p.await(t, "killed", flagsInForce(kill))
				p.setFlags(lift)
				k.awaitDeath()
			}
			was := killed.Load()
			p.setDown(true)
			k.start("", 0)
			for product.evaluateFlag("plain") == "nobody there" {
				time.Sleep(time.Millisecond)
			}
			if got := product.evaluateFlag("plain"); was && got != "false" {
				t.Errorf("%s, %d: reported killed, and after a restart it is %s", point, after, got)
			}
			product.awaitFlag("classes", "true")
			since := p.reportCount()
			p.setDown(false)
			p.setFlags(kill)
			p.setFlags(lift)
			p.awaitAfter(t, since, "lifted "+point, flagsInForce(lift))
			product.wantFlag("plain", "true")
		}
	}
	k.checkOutcome("1.0.0")
}

// R38, fault 34: after a kill at any step of an apply, a feature that only one of two releases contains is off at the
// next start, offline too, until health held again.
func TestKilledBetweenReleasesFlagsAreOff(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"journal begun", "applying", "target has it", "journal applied"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			k := newAgentProcess(t, p)
			k.HealthTimeout = time.Minute
			stay := t.TempDir() + "/unhealthy"
			k.Health = "! test -e " + stay + " && " + k.Health
			product := serveFlags(t, &k.settings)
			two := p.addRelease(t, "1.1.0", 1, agenttest.ReleaseWithFeatures("1.1.0", "classes"))
			p.assign(two)
			p.setFlags(p.newFlags(1, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})))
			k.start("", 0)
			p.await(t, "on", announcementIs("a", flags.On))
			k.kill()
			one := p.addRelease(t, "1.0.0", 2, agenttest.Release("1.0.0", nil))
			p.assign(one)
			k.start(point, 0)
			k.awaitDeath()
			p.setDown(true)
			writeFile(t, stay)
			k.start("", 0)
			product.awaitFlag("classes", "false")
			product.awaitFlag("plain", "true")
			since := p.reportCount()
			p.setDown(false)
			three := p.addRelease(t, "1.2.0", 3, agenttest.ReleaseWithFeatures("1.2.0", "classes"))
			p.assign(three)
			p.awaitAfter(t, since, "begun", func(r cells.Report) bool {
				return r.Applying != nil && r.Applying.Key() == three.Key()
			})
			product.wantFlag("classes", "false") // between releases of which one lacks the feature
			removeFile(t, stay)
			p.awaitAfter(t, since, "on again",
				func(r cells.Report) bool { return healthyOn(three)(r) && announcementIs("a", flags.On)(r) })
			product.wantFlag("classes", "true")
		})
	}
}

// R38, fault 34: kills at random instants of random applies and rollbacks, with hooks that record how flags evaluate
// during a switch. No feature is on while a release may be running that lacks it, nor before health held for one that
// has it.
func TestKilledAtRandomInstantsNoFlagOutrunsItsCode(t *testing.T) {
	t.Parallel()
	const rounds = 25
	p := newControlPlane(t)
	k := newAgentProcess(t, p)
	p.onReport = nil
	product := serveFlags(t, &k.settings)
	self, err := child.Program()
	must(t, err)
	said := t.TempDir() + "/said" // in order: evaluations during switches, and where health held
	k.Hook = "echo switched $SLUICE_RELEASE $(" + self + " ask " + strings.TrimPrefix(k.Flags, "unix://") +
		" classes) >>" + said
	k.Health = broken + "; echo held $SLUICE_RELEASE >>" + said
	bad := agenttest.ReleaseWithFeatures("6.6.7", "classes")
	for name, text := range brokenRelease("6.6.7") {
		if name != "release.yaml" {
			bad[name] = text
		}
	}
	choices := []cells.Assignment{
		p.addRelease(t, "1.0.0", 0, agenttest.Release("1.0.0", nil)),
		p.addRelease(t, "1.1.0", 0, agenttest.ReleaseWithFeatures("1.1.0", "classes")),
		p.addRelease(t, "1.2.0", 0, agenttest.ReleaseWithFeatures("1.2.0", "classes", "other")),
		p.addRelease(t, "6.6.6", 0, brokenRelease("6.6.6")), p.addRelease(t, "6.6.7", 0, bad),
	}
	has := func(release string) bool { return release == "1.1.0" || release == "1.2.0" || release == "6.6.7" }
	inPlace := func() string { // empty: none, or a switch is in progress
		_, rest, _ := strings.Cut(appManifest(t, k.Dir), "version: ")
		version, _, _ := strings.Cut(rest, "\n")
		return strings.Trim(version, `"`)
	}
	p.setFlags(p.newFlags(1, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})))
	random := rand.New(rand.NewPCG(2, uint64(time.Now().UnixNano())))
	on := 0
	var next, good cells.Assignment
	look := func(until time.Time) {
		for time.Now().Before(until) {
			before := inPlace()
			got := product.evaluateFlag("classes")
			if after := inPlace(); got == "true" && before == after && before != "" && !has(before) {
				t.Fatalf("told of the feature while %s is in place", before)
			}
			if got == "true" && next.Release == "6.6.7" && !has(good.Release) {
				t.Fatalf("told of the feature, and nothing that has it ever worked since %s", good.Release)
			}
			if got == "true" {
				on++
			}
		}
	}
	for i := range rounds {
		next = choices[random.IntN(len(choices))]
		if i == 0 {
			next = choices[1]
		}
		next.Sequence = int64(i + 1)
		p.assign(next)
		for range random.IntN(4) {
			if k.command == nil {
				k.start("", 0)
			}
			look(time.Now().Add(time.Duration(random.IntN(500)) * time.Millisecond)) // the instant to kill at
			k.kill()
		}
		if k.command == nil {
			k.start("", 0)
		}
		p.await(t, "an end", func(r cells.Report) bool {
			return healthyOn(next)(r) || failedAt(next)(r) && r.State == cells.StateHealthy
		})
		if !strings.HasPrefix(next.Release, "6.") {
			good = next
		}
		look(time.Now().Add(20 * time.Millisecond))
	}
	may := false
	for line := range strings.Lines(readFile(t, said)) {
		word := append(strings.Fields(line), "killed meanwhile")
		switch {
		case word[0] == "held":
			may = has(word[1])
		case word[2] == "true" && (!may || !has(word[1])):
			t.Fatalf("told of the feature while %s was switched to:\n%s", word[1], readFile(t, said))
		case !has(word[1]):
			may = false
		}
	}
	if on == 0 {
		t.Error("nobody was ever told of it")
	}
}
