package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	pgstore "github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/test/proxy"
	"github.com/sluice-cd/sluice/test/swarm"
)

// entryPolicy is the policy of a channel that takes each new release at once.
const entryPolicy = "apiVersion: sluice/v1\nkind: Channel\nsettleWithin: 1h\nadvance: newest\n"

// proxiedCells are cells behind a proxy: some of the swarm, and an agent with a proxy of its own, so that its
// connections are counted separately.
type proxiedCells struct {
	name                   string
	swarmProxy, agentProxy *proxy.Proxy
	group                  *cellGroup
	countsBefore           [2]int // connections before the fault
}

// proxyCells puts some of the fleet's cells, and an agent, behind proxies without a fault.
func (f *fleet) proxyCells(name string, members []swarm.Member, mode swarm.Mode) *proxiedCells {
	f.t.Helper()
	b := &proxiedCells{name: name, swarmProxy: proxy.New(f.t, f.plane.Addresses[0], proxy.Impairment{}),
		agentProxy: proxy.New(f.t, f.plane.Addresses[0], proxy.Impairment{})}
	b.group = f.startCells([]string{b.swarmProxy.Address()}, members, swarm.Options{Seed: 7, Fetch: true, Mode: mode})
	token := f.path(name + ".token")
	f.mustRunSluice("cell", "add", name, "--channel", "dedicated", "--repo", f.world.repo, "--token-file", token)
	f.startAgent(name, name, "--join", "@"+token, "--server", "https://"+b.agentProxy.Address())
	return b
}

func (b *proxiedCells) impair(f proxy.Impairment) {
	b.countsBefore[0], _ = b.swarmProxy.Counts()
	b.countsBefore[1], _ = b.agentProxy.Counts()
	b.swarmProxy.Impair(f)
	b.agentProxy.Impair(f)
}

// heal removes the fault. Existing connections are reset, so that no cell waits on them.
func (b *proxiedCells) heal() {
	for _, l := range []*proxy.Proxy{b.swarmProxy, b.agentProxy} {
		l.Impair(proxy.Impairment{})
		l.ResetConns()
	}
}

// checkDials checks that the agent dialled at most so many times while the connections were bad.
func (b *proxiedCells) checkDials(t *testing.T, bad time.Duration, most int) {
	t.Helper()
	many, _ := b.swarmProxy.Counts()
	alone, _ := b.agentProxy.Counts()
	many, alone = many-b.countsBefore[0], alone-b.countsBefore[1]
	t.Logf("%s: in %s ten cells dialled %d times, and the agent %d times", b.name, bad.Round(time.Second), many, alone)
	if alone > most {
		t.Errorf("%s: the agent dialled %d times in %s", b.name, alone, bad)
	}
}

// allHealthyOn reports whether all cells of a group are healthy on a release.
func (h *cellGroup) allHealthyOn(version string) bool {
	return !slices.ContainsFunc(h.Snapshots(), func(w swarm.Snapshot) bool {
		return w.State != cells.StateHealthy || w.Running == nil || w.Running.Release != version
	})
}

// awaitBehind waits until the cells and the agent behind each of some proxies are healthy on a release.
func (f *fleet) awaitBehind(version string, lines ...*proxiedCells) {
	f.t.Helper()
	for _, b := range lines {
		f.eventually(func() (string, bool) {
			return "behind the line " + b.name + " not all have " + version +
				": " + f.describeLagging(version), b.group.allHealthyOn(version)
		})
		f.awaitRelease(b.name, version)
	}
}

// checkBegunReleases checks that no cell ever began anything but the given releases, with the digests of the heads.
func (f *fleet) checkBegunReleases(versions ...string) {
	f.t.Helper()
	known := map[string]bool{}
	for _, version := range versions {
		log := git(f.t, f.world.repo, "log", "--format=%B", "main", "--", "channels/dedicated/head.yaml")
		for at := range strings.SplitSeq(log, "Release: ") {
			if rest, ok := strings.CutPrefix(at, version+"\nDigest: "); ok {
				digest, _, _ := strings.Cut(rest, "\n")
				known[version+" "+digest] = true
			}
		}
	}
	if len(known) != len(versions) {
		f.t.Errorf("the heads' digests are %v", known)
	}
	for _, w := range f.snapshots() {
		for _, a := range w.Began {
			if !known[a.Release+" "+string(a.Digest)] {
				f.t.Errorf("%s began %s %s, which no head names", w.Name, a.Release, a.Digest)
			}
		}
	}
}

// checkAgentEvents checks that the events of each agent are in the database, each once and without a gap, at least up
// to the last that the agent knows to be acknowledged. The agents have stopped.
func (f *fleet) checkAgentEvents() {
	f.t.Helper()
	st, err := pgstore.Open(f.t.Context(), f.database, pgstore.Options{Log: zerolog.Nop()})
	if err != nil {
		f.t.Fatal(err)
	}
	defer st.Close()
	states, err := st.Cells(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for name := range f.agents {
		history, err := st.Events(f.t.Context(), name, 1000)
		if err != nil {
			f.t.Fatal(err)
		}
		var numbers []int64
		for _, e := range history {
			numbers = append(numbers, e.Number)
		}
		slices.Sort(numbers)
		for i, n := range numbers {
			if n != int64(i+1) {
				f.t.Errorf("%s: its events are kept as %v", name, numbers)
				break
			}
		}
		if s := states[name]; s == nil || len(numbers) == 0 || s.Confirmed > int64(len(numbers)) {
			f.t.Errorf("%s: %d events are kept, and it knows more to be acknowledged: %+v", name, len(numbers), s)
		}
	}
}

// stopAndCheck stops the agents and checks that nothing of any cell is lost.
func (f *fleet) stopAndCheck(versions ...string) {
	f.t.Helper()
	for _, a := range f.agents {
		a.stop()
	}
	f.checkNothingLost()
	f.checkAgentEvents()
	f.checkBegunReleases(versions...)
	var moves []string
	for _, v := range versions {
		moves = append(moves, "promote "+v+" to dedicated")
	}
	f.checkHeads(map[string][]string{"dedicated": moves})
}

// Behind connections that are slow, reset every second, or altered, all cells get the next release nevertheless, and
// the one after once the fault is gone. Other cells notice nothing, no acknowledged report is lost (invariant 8), no
// cell dials without end (R33), and no altered bytes are acted on.
func TestBadLines(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 100, 0, 1, entryPolicy)
	good := f.startCells(f.plane.Addresses, f.members[:70], swarm.Options{Seed: 7, Fetch: true})
	slow := f.proxyCells("slow", f.members[70:80], swarm.Stream)
	shortLived := f.proxyCells("cut", f.members[80:90], swarm.LongPoll)
	altered := f.proxyCells("bent", f.members[90:], swarm.Stream)
	f.commitRelease("1.0.0")
	f.eventually(func() (string, bool) { return "not all have 1.0.0", good.allHealthyOn("1.0.0") })
	f.awaitBehind("1.0.0", slow, shortLived, altered)
	calm := good.Counts()

	begun := time.Now()
	slow.impair(proxy.Impairment{Latency: 300 * time.Millisecond, Rate: 8 << 10})
	shortLived.impair(proxy.Impairment{Lifetime: [2]time.Duration{900 * time.Millisecond, 1100 * time.Millisecond}})
	altered.impair(proxy.Impairment{AlterWithin: 12 << 10})
	for _, b := range []*proxiedCells{slow, shortLived, altered} { // existing connections predate the fault
		b.swarmProxy.ResetConns()
		b.agentProxy.ResetConns()
	}
	f.commitRelease("1.0.1")
	f.eventually(func() (string, bool) {
		return "cells with good connections do not have 1.0.1", good.allHealthyOn("1.0.1")
	})
	took := time.Since(begun)
	f.awaitBehind("1.0.1", slow, shortLived)
	f.eventually(func() (string, bool) {
		_, many := altered.swarmProxy.Counts()
		_, alone := altered.agentProxy.Counts()
		return fmt.Sprintf("%d and %d bytes were changed", many, alone), many >= 20 && alone >= 3
	})
	bad := time.Since(begun)
	for _, b := range []*proxiedCells{slow, shortLived, altered} {
		// Full jitter from 100 ms on begins with a few tries in the first second; a reset each second makes two
		// connections.
		b.checkDials(t, bad, 15+4*int(bad/time.Second))
	}
	if c := good.Counts(); c.Failed != calm.Failed || c.Refused != calm.Refused {
		t.Errorf("cells with good connections had trouble: %+v, before %+v: %v", c, calm, good.LastError())
	}
	t.Logf("cells with good connections had 1.0.1 after %s, cells with slow and short-lived ones after %s",
		took.Round(time.Millisecond), bad.Round(time.Millisecond))

	for _, b := range []*proxiedCells{slow, shortLived, altered} {
		b.heal()
	}
	f.awaitBehind("1.0.1", altered)
	f.commitRelease("1.0.2")
	f.awaitBehind("1.0.2", slow, shortLived, altered)
	f.eventually(func() (string, bool) {
		return "cells with good connections do not have 1.0.2", good.allHealthyOn("1.0.2")
	})
	f.stopAndCheck("1.0.0", "1.0.1", "1.0.2")
}

// Connections are half open, in both directions or one, for more than two heartbeats (R33). A release that is made
// meanwhile reaches the cells once bytes pass again. The control plane keeps serving other cells.
func TestHalfOpenLines(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 100, 0, 1, entryPolicy)
	good := f.startCells(f.plane.Addresses, f.members[:70], swarm.Options{Seed: 7, Fetch: true})
	both := f.proxyCells("both", f.members[70:80], swarm.Stream)
	up := f.proxyCells("up", f.members[80:90], swarm.LongPoll)
	down := f.proxyCells("down", f.members[90:], swarm.Stream)
	f.commitRelease("1.0.0")
	f.eventually(func() (string, bool) { return "not all have 1.0.0", good.allHealthyOn("1.0.0") })
	f.awaitBehind("1.0.0", both, up, down)
	calm := good.Counts()

	begun := time.Now()
	both.impair(proxy.Impairment{BlockUp: true, BlockDown: true})
	up.impair(proxy.Impairment{BlockUp: true})
	down.impair(proxy.Impairment{BlockDown: true})
	f.commitRelease("1.0.1")
	f.eventually(func() (string, bool) {
		return "cells with good connections do not have 1.0.1", good.allHealthyOn("1.0.1")
	})
	took := time.Since(begun)
	// An agent gives a silent stream up after two missed heartbeats.
	f.eventually(func() (string, bool) {
		noticed := 0
		for _, name := range []string{"both", "down"} {
			if strings.Contains(f.processLog(name), "streams don't get through") {
				noticed++
			}
		}
		return "no agent has noticed that its stream is dead", noticed == 2 && time.Since(begun) > 32*time.Second
	})
	bad := time.Since(begun)
	for _, b := range []*proxiedCells{both, up, down} {
		b.checkDials(t, bad, 20)
	}
	if c := good.Counts(); c.Failed != calm.Failed || c.Refused != calm.Refused {
		t.Errorf("cells with good connections had trouble: %+v, before %+v: %v", c, calm, good.LastError())
	}
	for _, b := range []*proxiedCells{both, up, down} {
		b.heal()
	}
	f.awaitBehind("1.0.1", both, up, down)
	t.Logf("cells with good connections had 1.0.1 after %s, the others %s after theirs were whole",
		took.Round(time.Millisecond), (time.Since(begun) - bad).Round(time.Millisecond))
	f.stopAndCheck("1.0.0", "1.0.1")
}

// Every connection to the cell is reset after 128 KiB, during a download of a megabyte. The download resumes by Range,
// and the release begins after its digest was verified.
func TestResetInTheMiddleOfADownload(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	address, _, _ := strings.Cut(w.server.args[slices.Index(w.server.args, "--cells")+1], " ")
	l := proxy.New(t, address, proxy.Impairment{ResetAfter: 128 << 10})
	w.agents["acme"].stop()
	w.startAgent("acme", "acme", "--server", "https://"+l.Address())
	notes := make([]byte, 900<<10)
	random := rand.NewChaCha8([32]byte{1})
	for i := range notes {
		notes[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n"[random.Uint64()%64]
	}
	files := map[string]string{"releases/1.0.1/notes.md": string(notes)}
	for name, data := range releaseFiles("1.0.1") {
		files[name] = string(data)
	}
	before, _ := l.Counts()
	w.pushFiles("cut 1.0.1", files)
	w.awaitRelease("acme", "1.0.1")
	after, _ := l.Counts()
	t.Logf("%d connections for a release of %d KiB, reset after 128 KiB each", after-before, len(notes)>>10)
	if after-before < 4 || after-before > 40 {
		t.Errorf("it took %d connections", after-before)
	}
	if log := w.processLog("acme"); strings.Contains(log, "refused") {
		t.Errorf("the release was blamed for its line:\n%s", log)
	}
}
