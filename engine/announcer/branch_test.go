package announcer_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/repository"
)

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", append([]string{"-C", w.flags}, args...)...)
	cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Eve",
		"GIT_AUTHOR_EMAIL=eve@example.com", "GIT_COMMITTER_NAME=Eve", "GIT_COMMITTER_EMAIL=eve@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// R39: after a force-push cells keep what they have, even after a restart, until a commit accepts the branch and is
// higher; kills are sent meanwhile.
func TestForcePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	root := w.git("rev-parse", "main")
	w.commit("more", map[string]string{"flags/ui.yaml": definitions +
		"  third: {state: ENABLED, variants: {a: 1, b: 2}, defaultVariant: a}\n"})
	w.commit("and more", map[string]string{"README.md": "x"})
	was := p.waitForView("the third flag is told", func(v *view.View) bool {
		b := bundle(t, v, "s1")
		return b != nil && len(b.Flags["third"]) > 0 && v.Flags.Height == 4
	})
	lost := was.Flags.Commit
	w.git("update-ref", "refs/heads/main", root)
	p.NotifyPush()
	stays := func(v *view.View) bool {
		b := bundle(t, v, "s1")
		return v.Flags != nil && v.Flags.Diverged != nil && v.Flags.Diverged.Seen == lost &&
			v.Flags.Diverged.Tip == root && b != nil && len(b.Flags["third"]) > 0 && v.Flags.Height == was.Flags.Height
	}
	v := p.waitForView("what cells have stays", stays)
	if want := fmt.Sprintf("Acknowledge-Divergence: %s %d", lost, was.Flags.Height); !strings.Contains(v.Flags.Fault,
		want) {
		t.Errorf("%q does not say %q", v.Flags.Fault, want)
	}
	p.stop()
	p = w.startOn("store.db", "p0")
	p.waitForView("it stays over a restart", stays)
	p.kill("plain")
	p.waitForView("a kill is told", func(v *view.View) bool { return killed(t, v, "s1", "plain") })
	w.commit("accept it, too low", map[string]string{"README.md": "y"})
	accept := func(trailer string) {
		tip := w.git("rev-parse", "main")
		made := w.git("commit-tree", "-p", tip, "-m", "accept the branch", "-m", trailer, tip+"^{tree}")
		w.git("update-ref", "refs/heads/main", made)
		p.NotifyPush()
	}
	accept("Acknowledge-Divergence: " + lost)
	time.Sleep(300 * time.Millisecond)
	p.waitForView("a trailer without a height is not enough",
		func(v *view.View) bool { return v.Flags.Diverged != nil })
	accept(fmt.Sprintf("Acknowledge-Divergence: %s %d", lost, was.Flags.Height))
	v = p.waitForView("the branch is accepted", func(v *view.View) bool {
		b := bundle(t, v, "s1")
		return v.Flags.Diverged == nil && b != nil && len(b.Flags["third"]) == 0
	})
	if v.Flags.Height <= was.Flags.Height || v.Flags.Fault != "" || !killed(t, v, "s1", "plain") {
		t.Errorf("height %d after %d, fault %q", v.Flags.Height, was.Flags.Height, v.Flags.Fault)
	}
	p.waitForView("the kill is committed on the new branch",
		func(v *view.View) bool { return inFile(v, "plain") && !stored(v, "plain") })
}

// A hold keeps an armed announcement from being sent; approvals and edits by others than the author are distinguished
// (R22, R42).
func TestHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	w.commit("announce", map[string]string{"announcements/classes.yaml": announcement(time.Now().Add(time.Hour))})
	w.approve("classes")
	p.waitForView("it is armed", func(v *view.View) bool { return gated(bundle(t, v, "d1"), "classes") })
	w.commit("hold", map[string]string{"overrides/wait.yaml": "apiVersion: sluice/v1\nkind: Hold\n" +
		"announcement: classes\nreason: not yet\n"})
	p.waitForView("it is held", func(v *view.View) bool {
		_, held := orders(t, v, "d1")
		return v.Flags != nil && (len(held) == 1 || !gated(bundle(t, v, "d1"), "classes"))
	})
}

// Fault 33: a slip in a record or a head takes nothing back, and is not overwritten.
func TestBrokenMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	at := time.Now().Add(soon).Truncate(time.Second)
	w.commit("announce", map[string]string{"announcements/classes.yaml": announcement(at)})
	w.approve("classes")
	was := p.waitForView("it is published", func(v *view.View) bool {
		return v.Flags != nil && v.Flags.Tip != nil &&
			v.Flags.Tip.Records["classes"]["dedicated"].Outcome == repository.Published &&
			v.Flags.Tip.Heads["dedicated"].Commit != ""
	})
	const record, head = "records/classes/dedicated.yaml", "heads/dedicated.yaml"
	for file, text := range map[string]string{record: "outcome: sometimes\n", head: "commit: HEAD\n"} {
		before := w.git("show", "main:"+file) + "\n"
		broken := w.commit("break "+file, map[string]string{file: text})
		v := p.waitForView("the slip is told", func(v *view.View) bool { return v.Flags.Commit == broken })
		if got := v.Flags.Tip.Records["classes"]["dedicated"]; got.Outcome != repository.Published ||
			!gated(bundle(t, v, "d1"), "classes") {
			t.Errorf("%s: taken back: %+v", file, got)
		}
		if v.Flags.Tip.Heads["dedicated"] != was.Flags.Tip.Heads["dedicated"] || len(v.Flags.Plan.Writes) > 0 {
			t.Errorf("%s: %+v, to be written: %+v", file, v.Flags.Tip.Heads, v.Flags.Plan.Writes)
		}
		mended := w.commit("mend "+file, map[string]string{file: before})
		p.waitForView("it is mended", func(v *view.View) bool {
			return v.Flags.Commit == mended &&
				v.Flags.Fault == ""
		})
	}
}

// A flags repository may begin empty, and be replaced by another: then cells keep what they have (R39), and kills are
// sent.
func TestBeginsEmptyAndIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := w.flags
	w.flags = filepath.Join(w.dir, "empty.git")
	w.flagsURL = w.flags
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", "-b", "main",
		w.flags).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := w.start("store.db")
	p.reports()
	v := p.waitForView("it is said that there is nothing",
		func(v *view.View) bool { return v.Flags != nil && v.Flags.Fault != "" })
	t.Log(v.Flags.Fault)
	w.git("fetch", "-q", full, "main:main")
	p.NotifyPush()
	p.waitForView("the first commit is told", func(v *view.View) bool {
		return bundle(t, v, "d1") != nil &&
			v.Flags.Fault == ""
	})
	p.reports()
	p.waitUntilQuiet()
	other := w.git("commit-tree", "-m", "another beginning", "main^{tree}")
	w.git("update-ref", "refs/heads/main", other)
	p.NotifyPush()
	v = p.waitForView("it is another's", func(v *view.View) bool {
		return v.Flags.Diverged != nil &&
			v.Flags.Diverged.Tip == other
	})
	if bundle(t, v, "d1") == nil || len(v.Flags.Plan.Writes) > 0 && w.git("rev-parse", "main") != other {
		t.Errorf("told %+v", v.Flags)
	}
	p.kill("plain")
	p.waitForView("a kill is told", func(v *view.View) bool { return killed(t, v, "d1", "plain") })
	if got := w.git("rev-parse", "main"); got != other {
		t.Errorf("something was committed: %s", got)
	}
}
