package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/engine/view"
)

// newUpgradedWorld makes a world whose cells ran 1.0.0 and run 1.1.0.
func newUpgradedWorld(t *testing.T, change func(files map[string]string)) *world {
	t.Helper()
	w := startWorld(t, change)
	for _, version := range []string{"1.0.0", "1.1.0"} {
		w.cutRelease(version, "fine")
		w.awaitRelease("eu-1", version)
		w.awaitRelease("acme", version)
	}
	return w
}

func (w *world) channelStatus(name string) (c view.ChannelStatus) {
	for _, c := range w.status().Channels {
		if c.Name == name {
			return c
		}
	}
	return c
}

// awaitVerdict waits until a verdict of the gate, with the given words, blocks a channel.
func (w *world) awaitVerdict(channel, gate, words string) {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		c := w.channelStatus(channel)
		for _, v := range c.Blocked {
			if v.Gate == gate && strings.Contains(v.Reason, words) {
				return "", true
			}
		}
		return fmt.Sprintf("no verdict of %s with %q: %+v", gate, words, c), false
	})
}

// awaitPlan waits until the plan is of the branch's tip, and returns the number of commits.
func (w *world) awaitPlan() string {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		s := w.status()
		return fmt.Sprintf("the plan is of %s", s.Commit),
			s.Commit == strings.TrimSpace(git(w.t, w.repo, "rev-parse", "main"))
	})
	return strings.TrimSpace(git(w.t, w.repo, "rev-list", "--count", "main"))
}

func (w *world) pushClone() {
	w.t.Helper()
	git(w.t, w.clone, "push", "-q", "origin", "HEAD:main")
}

// Fault 49, R1: `git revert` of the last promotion is a request to roll back. The engine answers once, by a commit of
// its own, and holds the channel until a person lifts the hold.
func TestRevertIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	w := newUpgradedWorld(t, nil)
	git(t, w.clone, "pull", "-q", "--rebase", "origin", "main")
	promoted := strings.TrimSpace(git(t, w.clone, "log", "-1", "--format=%H", "--", "channels/dedicated/head.yaml"))
	git(t, w.clone, "revert", "--no-edit", promoted)
	w.pushClone()
	w.awaitRelease("acme", "1.0.0")
	w.awaitRelease("eu-1", "1.1.0")
	log := git(t, w.repo, "log", "-1", "--format=%B", "main", "--", "channels/dedicated/head.yaml")
	if !strings.HasPrefix(log, "roll back dedicated to 1.0.0\n") || !strings.Contains(log, "\nRequested-By: bob\n") {
		t.Errorf("the answer is\n%s", log)
	}
	if head := w.readCommitted("channels/dedicated/head.yaml"); !strings.Contains(head, "sequence: 3\n") ||
		strings.Count(head, "release:") != 1 {
		t.Errorf("head:\n%s", head)
	}
	w.awaitVerdict("dedicated", "hold", "")
	before := w.awaitPlan()

	// The promotion's own commit, repeated with its message and decision, does not count as the engine's.
	git(t, w.clone, "pull", "-q", "--rebase", "origin", "main")
	git(t, w.clone, "checkout", promoted, "--", "channels/dedicated/head.yaml", "channels/dedicated/decision.json")
	git(t, w.clone, "commit", "-q", "-C", promoted)
	w.pushClone()
	w.awaitVerdict("dedicated", "hold", "")
	w.awaitPlan()
	if c := w.channelStatus("dedicated"); c.Release != "1.0.0" || c.Sequence != 3 || c.Request == nil ||
		c.Request.Release != "1.1.0" {
		t.Errorf("dedicated: %+v", c)
	}
	if n := strings.TrimSpace(git(t, w.repo, "rev-list", "--count", "main")); n != fmt.Sprint(atoi(before)+1) {
		t.Errorf("%s commits, want one more than %s: the replay itself", n, before)
	}
	// Once the hold is lifted, the engine answers the request once, with a new sequence.
	holds := strings.Fields(git(t, w.repo, "ls-tree", "-r", "--name-only", "main", "channels/dedicated/holds/"))
	lift := map[string]string{}
	for _, h := range holds {
		lift[h] = ""
	}
	w.pushFiles("lift the hold", lift)
	w.awaitRelease("acme", "1.1.0")
	if c := w.channelStatus("dedicated"); c.Sequence != 4 || c.Request != nil {
		t.Errorf("dedicated: %+v", c)
	}
}

func atoi(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}

// Fault 49: after one commit that squashes edits of several heads, each channel is answered once.
func TestSquashedEditsAreAnsweredOnce(t *testing.T) {
	t.Parallel()
	w := newUpgradedWorld(t, nil)
	git(t, w.clone, "pull", "-q", "--rebase", "origin", "main")
	for _, channel := range []string{"staging", "dedicated"} {
		promoted := strings.TrimSpace(git(t, w.clone, "log", "-1", "--format=%H", "--",
			"channels/"+channel+"/head.yaml"))
		git(t, w.clone, "revert", "--no-commit", promoted)
	}
	git(t, w.clone, "commit", "-qm", "go back, everywhere")
	w.pushClone()
	w.awaitRelease("acme", "1.0.0")
	w.awaitRelease("eu-1", "1.0.0")
	w.awaitPlan()
	for _, channel := range []string{"staging", "dedicated"} {
		want := []string{"promote 1.0.0 to " + channel, "promote 1.1.0 to " + channel, "go back, everywhere",
			"roll back " + channel + " to 1.0.0"}
		if diff := cmp.Diff(want, w.headSubjects(channel)); diff != "" {
			t.Errorf("%s:\n%s", channel, diff)
		}
		if c := w.channelStatus(channel); c.Sequence != 3 || c.Request != nil {
			t.Errorf("%+v", c)
		}
	}
}

// Fault 42, R1: each invalid head that a person writes gets a verdict, and the effective head stays.
func TestHandWrittenHeads(t *testing.T) {
	t.Parallel()
	w := newUpgradedWorld(t, nil)
	for name, c := range map[string]struct{ head, words string }{
		"unknown release": {"release: 9.9.9\n", "9.9.9, which is not in the repository"},
		"wrong digest": {"release: 1.1.0\ndigest: sha256:" + strings.Repeat("0", 64) + "\nsequence: 2\n",
			"the head already"},
		"old sequence": {"release: 1.1.0\nsequence: 1\n", "the head already"},
	} {
		w.pushFiles(name, map[string]string{"channels/dedicated/head.yaml": c.head})
		w.awaitVerdict("dedicated", "request", c.words)
		w.awaitPlan()
		if c := w.channelStatus("dedicated"); c.Release != "1.1.0" || c.Sequence != 2 {
			t.Errorf("%s: dedicated at %+v", name, c)
		}
	}
	w.awaitRelease("acme", "1.1.0")
	if n := len(w.headSubjects("dedicated")); n != 2+3 {
		t.Errorf("the engine answered with commits: %v", w.headSubjects("dedicated"))
	}
}

// Fault 41, R24: a release folder that is edited after its merge is reported with the commit. The release is promoted
// no further, and all cells, new ones too, get the original bytes.
func TestEditedRelease(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil)
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("acme", "1.0.0")
	before := w.cellStatus("acme").Digest
	app := w.readCommitted("releases/1.0.0/app.yaml")
	w.pushFiles("only a word", map[string]string{"releases/1.0.0/app.yaml": strings.Replace(app, "fine", "finer", 1)})
	edit := strings.TrimSpace(git(t, w.clone, "rev-parse", "HEAD"))
	out, err := w.runSluice("validate", w.repo)
	if err == nil || !strings.Contains(out, "releases/1.0.0/release.yaml: release 1.0.0 was edited after its merge") ||
		!strings.Contains(out, edit[:12]) {
		t.Errorf("validate: %v\n%s", err, out)
	}
	w.awaitPlan()
	w.pushFiles("another cell", map[string]string{"cells/beta/cell.yaml": w.readCommitted("cells/acme/cell.yaml")})
	w.addAgent("beta").start()
	w.awaitRelease("beta", "1.0.0")
	for _, name := range []string{"eu-1", "acme", "beta"} {
		if m := w.installedManifests(name); !strings.Contains(m, "note: fine\n") ||
			w.cellStatus(name).Digest != before {
			t.Errorf("%s runs other bytes:\n%s", name, m)
		}
	}
	// An edited release that no cell has yet is not promoted.
	w.pushFiles("time for the edit", map[string]string{
		"channels/dedicated/channel.yaml": strings.Replace(dedicatedPolicy, "for: 1s", "for: 1h", 1)})
	w.cutRelease("1.1.0", "fine")
	w.eventually(func() (string, bool) { return "staging did not get 1.1.0", w.headRelease("staging") == "1.1.0" })
	w.pushFiles("another word", map[string]string{"releases/1.1.0/app.yaml": app})
	w.awaitVerdict("dedicated", "invalid", "was edited after its merge")
	w.pushFiles("the edit is there", map[string]string{"channels/dedicated/channel.yaml": dedicatedPolicy})
	w.awaitPlan()
	w.awaitVerdict("dedicated", "invalid", "was edited after its merge")
	if got := w.headSubjects("dedicated"); !slices.Equal(got, []string{"promote 1.0.0 to dedicated"}) {
		t.Errorf("dedicated: %v", got)
	}
}

// Fault 57, R19, R20: where no rollback is possible the channel halts, and says why. The bad release is quarantined,
// and nothing moves until a person decides.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before map[string]string // committed between the good and the bad release
		more   string            // in the bad release's release.yaml
		words  string
	}{
		"target quarantined": {map[string]string{"quarantine/1.0.0.yaml": "digest: @\nreason: leaks\n" +
			"failedIn: elsewhere\n"}, "", "1.0.0 is quarantined"},
		"below the floor": {map[string]string{"channels/staging/channel.yaml": stagingPolicy + "floor: 1.1.0\n"},
			"", "1.0.0 is below the floor 1.1.0"},
		"forward-only": {nil, "rollback: forward-only\n", "1.1.0 is forward-only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Without signatures a person may write failedIn, which is the engine's (R46).
			w := newWorld(t, func(files map[string]string) { files["sluice.yaml"] += "engine: unsigned\n" })
			w.addAgent("eu-1")
			w.startAll()
			w.cutRelease("1.0.0", "fine")
			w.awaitRelease("eu-1", "1.0.0")
			// Staging is then free for the next release.
			w.eventually(func() (string, bool) {
				return "dedicated did not get 1.0.0", w.headRelease("dedicated") == "1.0.0"
			})
			for file, text := range c.before {
				w.pushFiles("before",
					map[string]string{file: strings.Replace(text, "@", string(w.cellStatus("eu-1").Digest), 1)})
			}
			w.pushFiles("cut 1.1.0", map[string]string{
				"releases/1.1.0/release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: 1.1.0\n" + c.more,
				"releases/1.1.0/kustomization.yaml": "resources: [app.yaml]\n",
				"releases/1.1.0/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n" +
					"data: {version: 1.1.0, note: broken}\n",
			})
			w.eventually(func() (string, bool) {
				return "staging does not halt", strings.Contains(w.readCommitted("channels/staging/holds/halt-2.yaml"),
					c.words)
			})
			if q := w.readCommitted("quarantine/1.1.0.yaml"); !strings.Contains(q, "failedIn: staging") {
				t.Errorf("1.1.0 is not quarantined: %s", q)
			}
			w.awaitPlan()
			w.cutRelease("1.2.0", "fine")
			w.awaitVerdict("staging", "hold", c.words)
			want := []string{"promote 1.0.0 to staging", "promote 1.1.0 to staging"}
			if diff := cmp.Diff(want, w.headSubjects("staging")); diff != "" {
				t.Errorf("staging:\n%s", diff)
			}
		})
	}
}
