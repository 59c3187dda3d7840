package announcer_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/repository"
)

const kill = "kill plain"

func (p *process) kill(flag string) {
	p.w.t.Helper()
	if err := p.Kill(p.w.t.Context(), repository.Override{Flag: flag, Reason: "it is on fire", By: "ada"}); err != nil {
		p.w.t.Fatal(err)
	}
}

// engineCommits counts the engine's commits whose subject begins with prefix.
func (w *world) engineCommits(subject string) (n int) {
	for _, line := range w.history() {
		if strings.HasPrefix(line, "Sluice: "+subject) {
			n++
		}
	}
	return n
}

func stored(v *view.View, flag string) bool {
	return v.Flags != nil && slices.ContainsFunc(v.Flags.Kills,
		func(o repository.Override) bool { return o.Flag == flag })
}

func inFile(v *view.View, flag string) bool {
	return v.Flags != nil && v.Flags.Tip != nil &&
		slices.ContainsFunc(v.Flags.Tip.Overrides, func(o repository.Override) bool { return o.Flag == flag })
}

// R43: a kill is sent at once and committed once; only a commit lifts it, and a lifted kill does not come back.
func TestKillIsLiftedByACommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	p.kill("plain")
	p.waitForView("it is told", func(v *view.View) bool {
		return killed(t, v, "s1", "plain") &&
			killed(t, v, "d1", "plain")
	})
	v := p.waitForView("the file rules", func(v *view.View) bool { return inFile(v, "plain") && !stored(v, "plain") })
	if !killed(t, v, "d1", "plain") || !slices.Equal(v.Flags.Seen.Killed, []string{"plain"}) {
		t.Errorf("killed no more once it is committed; gates see %+v", v.Flags.Seen)
	}
	if killed(t, v, "d1", "classes") {
		t.Error("another flag is killed too")
	}
	w.commit("lift", map[string]string{"overrides/kill-plain.yaml": ""})
	p.waitForView("it is lifted", func(v *view.View) bool {
		return !killed(t, v, "d1", "plain") &&
			!killed(t, v, "s1", "plain")
	})
	p.stop()
	p = w.start("store.db")
	p.waitForView("it stays lifted", func(v *view.View) bool {
		return v.Flags != nil && v.Flags.Tip != nil &&
			!inFile(v, "plain")
	})
	p.kill("plain")
	p.waitForView("it is killed again", func(v *view.View) bool {
		return inFile(v, "plain") &&
			killed(t, v, "d1", "plain")
	})
	if n := w.engineCommits(kill); n != 2 {
		t.Errorf("%d commits: %q", n, w.history())
	}
	w.onlyOwnPaths()
}

// Fault 61, fault 33: while the tip is broken elsewhere, kills work, by the API and by a file; what was valid last
// stays in force.
func TestKillWhileTheTipIsBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	before := p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "s1") != nil })
	w.commit("break it", map[string]string{"flags/ui.yaml": "flags: {classes: {", "sluice.yaml": "nonsense: true\n"})
	v := p.waitForView("the fault is told", func(v *view.View) bool {
		return strings.Contains(v.Flags.Fault,
			"stay in force")
	})
	if got, was := bundle(t, v, "s1"), bundle(t, before, "s1"); len(got.Flags) != len(was.Flags) {
		t.Errorf("%d flags are in force, %d were", len(got.Flags), len(was.Flags))
	}
	if v.Flags.Height <= before.Flags.Height || v.Flags.Commit == before.Flags.Commit || len(v.Flags.Faults) == 0 {
		t.Errorf("height %d at %s after %d, faults %v", v.Flags.Height, v.Flags.Commit, before.Flags.Height,
			v.Flags.Faults)
	}
	p.kill("plain")
	v = p.waitForView("the kill is told and committed", func(v *view.View) bool {
		return killed(t, v, "d1", "plain") && inFile(v, "plain") && !stored(v, "plain")
	})
	if !strings.Contains(v.Flags.Fault, "stay in force") {
		t.Errorf("the tip is whole: %q", v.Flags.Fault)
	}
	w.commit("kill by hand", map[string]string{"overrides/now.yaml": "apiVersion: sluice/v1\nkind: Kill\n" +
		"flag: classes\nreason: by hand\n"})
	p.waitForView("a file kills too", func(v *view.View) bool {
		return killed(t, v, "d1", "classes") &&
			killed(t, v, "d1", "plain")
	})
	w.commit("mend it", map[string]string{"flags/ui.yaml": definitions, "sluice.yaml": settings})
	v = p.waitForView("the tip is in force", func(v *view.View) bool { return v.Flags.Fault == "" })
	if !killed(t, v, "d1", "plain") || !killed(t, v, "d1", "classes") {
		t.Error("mending lifted a kill")
	}
	if n := w.engineCommits(kill); n != 1 {
		t.Errorf("%d commits: %q", n, w.history())
	}
}

// R43: while the git host is away a kill is sent at once, even by a process that started meanwhile, and is committed
// exactly once when the host is back.
func TestKillWhileTheHostIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	away := w.flags + ".away"
	if err := os.Rename(w.flags, away); err != nil {
		t.Fatal(err)
	}
	p.kill("plain")
	v := p.waitForView("it is told", func(v *view.View) bool {
		return killed(t, v, "d1", "plain") &&
			v.Flags.Fault != ""
	})
	if !stored(v, "plain") || bundle(t, v, "d1") == nil {
		t.Errorf("told %+v", v.Flags.Kills)
	}
	p.stop() // between storing and committing
	w.flagsURL = "http://127.0.0.1:1/flags.git"
	p = w.startOn("store.db", "p0")
	p.waitForView("it is told by the next process",
		func(v *view.View) bool { return killed(t, v, "d1", "plain") && bundle(t, v, "d1") != nil })
	p.stop()
	if err := os.Rename(away, w.flags); err != nil {
		t.Fatal(err)
	}
	w.flagsURL = ""
	p = w.startOn("store.db", "p0")
	p.waitForView("it is committed", func(v *view.View) bool {
		return inFile(v, "plain") && !stored(v, "plain") &&
			v.Flags.Fault == ""
	})
	if n := w.engineCommits(kill); n != 1 {
		t.Errorf("%d commits: %q", n, w.history())
	}
}

// R43: even a process that never could read the repository sends kills to a cell that has flags.
func TestKillWithoutRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	p.reports()
	was, _, _ := p.engine.View().Cell("d1")
	p.stop()
	w.flagsURL = "http://127.0.0.1:1/flags.git"
	p = w.start("store.db") // with an empty mirror
	p.kill("plain")
	v := p.waitForView("it is told", func(v *view.View) bool { return killed(t, v, "d1", "plain") })
	is, _, _ := v.Cell("d1")
	if is.Flags.Bundle.Digest != was.Flags.Bundle.Digest || is.Flags.Height != was.Flags.Height {
		t.Errorf("told %+v, before %+v", is.Flags, was.Flags)
	}
}

// A git host that accepts connections and never answers delays no kill.
func TestKillWhileTheHostHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	p.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts
	w.flagsURL = "http://" + l.Addr().String() + "/flags.git"
	p = w.startOn("store.db", "p0")
	began := time.Now()
	p.kill("plain")
	p.waitForView("it is told", func(v *view.View) bool { return killed(t, v, "d1", "plain") })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("told after %v", took)
	}
	p.waitForView("it is told that the host hangs (R61)", func(v *view.View) bool {
		return strings.Contains(v.Flags.Fault, "a fetch of the flags repository has been under way since 2") &&
			killed(t, v, "d1", "plain") && bundle(t, v, "d1") != nil
	})
}

// A rival's commit in between loses nothing: the kill is decided again, and committed once.
func TestRivals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	for i := range 4 {
		p.kill([]string{"plain", "classes"}[i%2])
		w.commit("meanwhile", map[string]string{"README.md": strings.Repeat("x", i+1)})
	}
	p.waitForView("both are committed", func(v *view.View) bool {
		return inFile(v, "plain") && inFile(v, "classes") && !stored(v, "plain") && !stored(v, "classes")
	})
	if n := w.engineCommits("kill "); n < 1 || n > 2 {
		t.Errorf("%d commits: %q", n, w.history())
	}
	w.onlyOwnPaths()
}

// A process that does not lead learns of a kill from the store, sends it to its cells within 2 s, and commits nothing;
// a new leader continues.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leader := w.start("store.db")
	leader.reports()
	leader.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	follower := w.start("store.db")
	follower.waitForView("its cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	if !leader.engine.Leads() || follower.engine.Leads() {
		t.Fatal("the first does not lead")
	}
	began := time.Now()
	follower.kill("plain")
	leader.waitForView("who leads hears of it", func(v *view.View) bool { return killed(t, v, "d1", "plain") })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("heard after %v", took)
	}
	v := follower.waitForView("the follower reads the commit",
		func(v *view.View) bool { return inFile(v, "plain") && killed(t, v, "d1", "plain") })
	if !killed(t, v, "s1", "plain") {
		t.Error("not killed in s1")
	}
	leader.stop()
	follower.kill("classes")
	follower.waitForView("it leads, and commits",
		func(v *view.View) bool { return inFile(v, "classes") && !stored(v, "classes") })
	if n := w.engineCommits("kill "); n != 2 {
		t.Errorf("%d commits: %q", n, w.history())
	}
}

// R26, R43: a restored database has old kills. What was committed and lifted since is not killed again, what was not
// committed yet is, and nothing is committed twice.
func TestRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	away := w.flags + ".away"
	if err := os.Rename(w.flags, away); err != nil {
		t.Fatal(err)
	}
	p.kill("plain")
	p.waitForView("it is told", func(v *view.View) bool { return killed(t, v, "d1", "plain") })
	if err := p.store.Backup(t.Context(), filepath.Join(w.dir, "restored.db")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, w.flags); err != nil {
		t.Fatal(err)
	}
	p.NotifyPush()
	p.waitForView("it is committed", func(v *view.View) bool { return inFile(v, "plain") && !stored(v, "plain") })
	lifted := w.commit("lift", map[string]string{"overrides/kill-plain.yaml": ""})
	p.waitForView("it is lifted", func(v *view.View) bool {
		return v.Flags.Commit == lifted &&
			!killed(t, v, "d1", "plain")
	})
	p.kill("classes")
	p.waitForView("another is committed", func(v *view.View) bool {
		return inFile(v, "classes") &&
			!stored(v, "classes")
	})
	p.stop()
	p = w.startOn("restored.db", "p0")
	p.waitForView("the branch is read", func(v *view.View) bool {
		return v.Flags != nil && inFile(v, "classes") && !killed(t, v, "d1", "plain") && !stored(v, "plain")
	})
	p.reports()
	p.waitUntilQuiet()
	if v := p.engine.View(); killed(t, v, "d1", "plain") || !killed(t, v, "d1", "classes") || v.Flags.Fault != "" {
		t.Errorf("stored %+v, fault %q", v.Flags.Kills, v.Flags.Fault)
	}
	if n := w.engineCommits("kill "); n != 2 {
		t.Errorf("%d commits: %q", n, w.history())
	}
}
