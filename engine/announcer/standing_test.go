package announcer

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// flagFile returns a file of flags with their default variants, as "a=lit b=dark". A flag with another variant than lit
// and dark has a fault.
func flagFile(all string) string {
	var b strings.Builder
	b.WriteString("flags:\n")
	for f := range strings.FieldsSeq(all) {
		name, variant, _ := strings.Cut(f, "=")
		fmt.Fprintf(&b, "  %s: {state: ENABLED, variants: {lit: true, dark: false}, defaultVariant: %s, "+
			"metadata: {feature: %s, off: dark}}\n", name, variant, name)
	}
	return b.String()
}

const badRule = `flags:
  i: {state: ENABLED, variants: {lit: true, dark: false}, defaultVariant: dark}
  j: {state: ENABLED, variants: {lit: true, dark: false}, defaultVariant: lit, targeting: {"iff": [true, "lit"]}}
`

// inForce sums a tree up: flags with their default variants, announcements, and which files stand where.
func inForce(tree *repository.Tree, named map[string]string) string {
	if tree == nil {
		return "nothing"
	}
	var all []string
	for key, d := range tree.Flags {
		all = append(all, fmt.Sprintf("%s=%s", key, d.DefaultVariant))
	}
	for id := range tree.Announcements {
		all = append(all, "announced:"+id)
	}
	for _, s := range tree.Standing {
		all = append(all, fmt.Sprintf("%s@%s", s.File, named[s.Commit]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Fault 33: a file with a fault stands at its last content without, and keeps nothing else from changing. What is in
// force is a function of the history: a process that read every commit and one that begins at the end find the same.
func TestFilesStand(t *testing.T) {
	t.Parallel()
	type commit = map[string]string // files; an empty one is removed
	ui := func(all string) commit { return commit{"flags/ui.yaml": flagFile(all)} }
	announce := func(features string) commit {
		return commit{"announcements/x.yaml": "apiVersion: sluice/v1\nkind: Announcement\ntitle: New\n" +
			"publishAt: 2031-01-01T10:00:00\nzone: UTC\nfeatures: [" + features + "]\n"}
	}
	both := func(a, b commit) commit {
		maps.Copy(a, b)
		return a
	}
	for name, c := range map[string]struct {
		commits []commit
		want    []string // after each commit
	}{
		"bad from its first commit on": {
			[]commit{ui("a=lit"), {"flags/new.yaml": "flags: {"}, ui("a=dark"), {"flags/new.yaml": flagFile("n=lit")}},
			[]string{"a=lit", "a=lit flags/new.yaml@", "a=dark flags/new.yaml@", "a=dark n=lit"}},
		"bad in the first commit of all": {
			[]commit{{"flags/ui.yaml": flagFile("a=lit"), "flags/new.yaml": flagFile("n=none")}, ui("a=dark")},
			[]string{"a=lit flags/new.yaml@", "a=dark flags/new.yaml@"}},
		"bad for long, then mended": {
			[]commit{ui("a=lit b=lit"), {"flags/o.yaml": flagFile("o=lit")}, ui("a=none b=dark"), ui("a=nought"),
				{"flags/o.yaml": flagFile("o=dark")}, {"flags/ui.yaml": "nonsense"}, ui("a=dark")},
			[]string{"a=lit b=lit", "a=lit b=lit o=lit", "a=lit b=lit flags/ui.yaml@0 o=lit",
				"a=lit b=lit flags/ui.yaml@0 o=lit", "a=lit b=lit flags/ui.yaml@0 o=dark",
				"a=lit b=lit flags/ui.yaml@0 o=dark", "a=dark o=dark"}},
		"bad, then deleted, then bad again": {
			[]commit{ui("a=lit"), ui("a=none"), {"flags/ui.yaml": "", "flags/o.yaml": flagFile("o=lit")}, ui("a=none")},
			[]string{"a=lit", "a=lit flags/ui.yaml@0", "o=lit", "flags/ui.yaml@ o=lit"}},
		"renamed while bad, then mended": {
			[]commit{ui("a=lit"), ui("a=none"), {"flags/ui.yaml": "", "flags/web.yaml": flagFile("a=none")},
				{"flags/o.yaml": flagFile("o=lit")}, {"flags/web.yaml": flagFile("a=dark")}},
			[]string{"a=lit", "a=lit flags/ui.yaml@0", "a=lit flags/web.yaml@", "a=lit flags/web.yaml@ o=lit",
				"a=dark o=lit"}},
		"renamed and broken at once, then deleted": {
			[]commit{ui("a=lit"), {"flags/ui.yaml": "", "flags/web.yaml": "flags: ["}, {"flags/web.yaml": ""}},
			[]string{"a=lit", "a=lit flags/web.yaml@", ""}},
		"one rule of many flags": {
			[]commit{{"flags/r.yaml": flagFile("i=lit j=dark")}, {"flags/r.yaml": badRule}, ui("a=lit")},
			[]string{"i=lit j=dark", "flags/r.yaml@0 i=lit j=dark", "a=lit flags/r.yaml@0 i=lit j=dark"}},
		"a flag of another file, in a file that sorts before": {
			[]commit{ui("a=lit"), {"flags/b.yaml": flagFile("b=lit")}, {"flags/b.yaml": flagFile("a=dark b=dark")},
				{"flags/c.yaml": flagFile("c=lit")}},
			[]string{"a=lit", "a=lit b=lit", "a=lit b=lit flags/b.yaml@1", "a=lit b=lit c=lit flags/b.yaml@1"}},
		"moved to another file, while the one it leaves is bad": {
			[]commit{{"flags/a.yaml": flagFile("x=lit y=lit"), "flags/b.yaml": flagFile("z=lit")},
				{"flags/a.yaml": flagFile("y=none"), "flags/b.yaml": flagFile("x=dark z=dark")},
				{"flags/a.yaml": flagFile("y=dark")}},
			[]string{"x=lit y=lit z=lit", "flags/a.yaml@0 flags/b.yaml@0 x=lit y=lit z=lit", "x=dark y=dark z=dark"}},
		"announced, and the flags' file is bad": {
			[]commit{ui("a=lit"), announce("a"), ui("a=none"), {"flags/o.yaml": flagFile("o=lit")}},
			[]string{"a=lit", "a=lit announced:x", "a=lit announced:x flags/ui.yaml@0",
				"a=lit announced:x flags/ui.yaml@0 o=lit"}},
		"an announcement of what is not there": {
			[]commit{ui("a=lit"), announce("b"), ui("a=dark"), announce("a")},
			[]string{"a=lit", "a=lit announcements/x.yaml@", "a=dark announcements/x.yaml@", "a=dark announced:x"}},
		"an announcement together with its flag, which is bad": {
			[]commit{ui("a=lit"), both(commit{"flags/b.yaml": flagFile("b=none")}, announce("b")),
				{"flags/b.yaml": flagFile("b=lit")}},
			[]string{"a=lit", "a=lit announcements/x.yaml@ flags/b.yaml@", "a=lit announced:x b=lit"}},
		"an announcement whose flag goes: all waits": {
			[]commit{both(ui("a=lit b=lit"), announce("a, b")), ui("a=dark"), ui("a=dark b=dark")},
			[]string{"a=lit announced:x b=lit", "a=lit announced:x b=lit", "a=dark announced:x b=dark"}},
		"sluice.yaml is bad: all waits": {
			[]commit{ui("a=lit"), {"sluice.yaml": "nonsense: true\n", "flags/ui.yaml": flagFile("a=dark")}},
			[]string{"a=lit", "a=lit"}},
		"a record and a head": {
			[]commit{ui("a=lit"), {"heads/s.yaml": "commit: x\n", "records/x/s.yaml": "outcome: sometimes\n"},
				ui("a=dark")},
			[]string{"a=lit", "a=lit heads/s.yaml@ records/x/s.yaml@", "a=dark heads/s.yaml@ records/x/s.yaml@"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLine(t)
			follows := &reader{repo: w.repo}
			var got []string
			for i, files := range c.commits {
				tip := w.commit(files)
				w.names[tip] = fmt.Sprint(i)
				s, err := follows.readSnapshot(t.Context(), tip)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, inForce(s.inForce, w.names))
				fresh, err := (&reader{repo: w.repo}).readSnapshot(t.Context(), tip)
				if err != nil {
					t.Fatal(err)
				}
				if again := inForce(fresh.inForce, w.names); again != got[i] {
					t.Errorf("commit %d: %q for who followed, %q after a restart", i, got[i], again)
				}
				if why := whyFilesStand(s.tipTree); (why == "") != (len(s.tipTree.Standing) == 0) {
					t.Errorf("commit %d: %q", i, why)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file that stands says so by path, with the commit that is in force; a record's commit is read the same way, and a
// history that was rewritten counts as it is now.
func TestStandingFilesAreTold(t *testing.T) {
	t.Parallel()
	w := newLine(t)
	first := w.commit(map[string]string{"flags/ui.yaml": flagFile("a=lit")})
	bad := w.commit(map[string]string{"flags/ui.yaml": flagFile("a=none")})
	r := &reader{repo: w.repo}
	s, err := r.readSnapshot(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	why := whyFilesStand(s.tipTree)
	for _, part := range []string{"flags/ui.yaml:2", "none", "content of " + first[:12] + " stays", "All else"} {
		if !strings.Contains(why, part) {
			t.Errorf("%q lacks %q", why, part)
		}
	}
	if s.valid != bad || !slices.ContainsFunc(s.tipTree.Faults, func(f manifest.Fault) bool {
		return f.File == "flags/ui.yaml" && !f.Warning
	}) {
		t.Errorf("in force: %s; faults %v", s.valid, s.tipTree.Faults)
	}
	// Another history, in which the last content without a fault is another.
	w.tip = w.root
	other := w.commit(map[string]string{"flags/ui.yaml": flagFile("a=dark b=lit")})
	rewritten := w.commit(map[string]string{"flags/ui.yaml": flagFile("a=none")})
	for _, r := range []*reader{r, {repo: w.repo}} {
		s, err := r.readSnapshot(t.Context(), rewritten)
		if err != nil {
			t.Fatal(err)
		}
		if got := inForce(s.inForce, map[string]string{other: "other"}); got != "a=dark b=lit flags/ui.yaml@other" {
			t.Errorf("rewritten: %s", got)
		}
	}
}

// line is a flags repository whose commits a test makes one after the other.
type line struct {
	t         *testing.T
	repo      *gitrepo.Repo
	bare      string
	root, tip string
	names     map[string]string // of commits
}

func newLine(t *testing.T) *line {
	t.Helper()
	w := &line{t: t, bare: filepath.Join(t.TempDir(), "flags.git"), names: map[string]string{}}
	by := releases.Person{Name: "ada", Email: "ada@example.com"}
	_, err := gitrepo.Init(t.Context(), w.bare, gitrepo.InitOptions{Bare: true, Message: "begin", Author: by,
		When: time.Now(), Files: map[string][]byte{"sluice.yaml": []byte("apiVersion: sluice/v1\nkind: Flags\n")}})
	if err != nil {
		t.Fatal(err)
	}
	w.repo, err = gitrepo.Open(t.Context(), w.bare, gitrepo.Options{Mirror: filepath.Join(t.TempDir(), "mirror"),
		Author: by, Layout: gitrepo.FlagsLayout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.repo.Close() })
	if w.tip, err = w.repo.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.root = w.tip
	return w
}

// commit makes a commit on tip, which is the branch's or an earlier one.
func (w *line) commit(files map[string]string) string {
	w.t.Helper()
	update := exec.CommandContext(w.t.Context(), "git", "-C", w.bare, "update-ref", "refs/heads/main", w.tip)
	if err := update.Run(); err != nil {
		w.t.Fatal(err)
	}
	d := releases.Draft{Message: "change", When: time.Now(), Files: map[string][]byte{}}
	for name, text := range files {
		if d.Files[name] = nil; text != "" {
			d.Files[name] = []byte(text)
		}
	}
	if _, err := w.repo.Fetch(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	commits, err := w.repo.Push(w.t.Context(), w.tip, []releases.Draft{d})
	if err != nil {
		w.t.Fatal(err)
	}
	w.tip = commits[0]
	return w.tip
}
