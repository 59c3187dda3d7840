package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// A host that protects tags stops no promotion: the branch moves without them, and people are told (R61).
func TestRefusedTagsStopNothing(t *testing.T) {
	for name, hook := range map[string]struct{ name, script string }{
		"each ref by itself": {"update", `case "$1" in refs/tags/*) echo "tags are protected" >&2; exit 1;; esac`},
		"the push as a whole": {"pre-receive",
			`if grep -q refs/tags/; then echo "You are not allowed to create this Tag" >&2; exit 1; fi`},
	} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newSharedRepository(t)
			writeHook(t, bare, hook.name, hook.script)
			r := openRepo(t, bare, nil)
			base := mustFetch(t, r)
			tip := mustPush(t, r, base, taggedDraft("1", base))[0]
			if notes := r.HostNotes(); gitIn(t, bare, "rev-parse", "main") != tip || len(notes) != 1 ||
				!strings.Contains(strings.ToLower(notes[0]), "tag") {
				t.Errorf("the branch is at %s; notes %q", gitIn(t, bare, "rev-parse", "main"), notes)
			}
			writeHook(t, bare, hook.name, "cat > /dev/null; echo x >> "+bare+"/pushes\n")
			tip = mustPush(t, r, tip, taggedDraft("2", tip))[0]
			if got := readPushes(t, bare); got != 1 || len(r.HostNotes()) != 1 {
				t.Errorf("%d pushes; notes %q", got, r.HostNotes())
			}
			r.notes.suspectTags("an hour ago", r.notes.tagsAgain.Add(-2*tagsRetry))
			mustPush(t, r, tip, taggedDraft("3", tip))
			if gitIn(t, bare, "tag") != "sluice/staging/3" || len(r.HostNotes()) != 0 {
				t.Errorf("tags %q, notes %q", gitIn(t, bare, "tag"), r.HostNotes())
			}
		})
	}
}

// A hook that refuses a push with tags, and says nothing of them, is asked once in a try: the next try has no tags.
func TestTagsAreLeftOutOfTheNextTry(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "pre-receive",
		"echo x >> "+bare+"/pushes; if grep -q refs/tags/; then echo 'not you' >&2; exit 1; fi")
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	refused := new(releases.RefusedError)
	if _, err := r.Push(t.Context(), base, []releases.Draft{taggedDraft("1", base)}); !errors.As(err, &refused) ||
		!strings.Contains(refused.Reason, "not you") || readPushes(t, bare) != 1 || len(r.HostNotes()) != 0 {
		t.Fatalf("got %v after %d pushes; notes %q", err, readPushes(t, bare), r.HostNotes())
	}
	mustPush(t, r, base, taggedDraft("1", base))
	if n := readPushes(t, bare); n != 2 || len(r.HostNotes()) != 1 {
		t.Errorf("%d pushes; notes %q", n, r.HostNotes())
	}
}

// A host that refuses the branch is quoted, and asked once in a try (R61): what git says of the tags beside it is no
// lock. The text is clean (R54).
func TestRefusedBranchIsQuoted(t *testing.T) {
	for name, script := range map[string]string{
		"update":      `[ "$1" = refs/heads/main ] || exit 0` + "\n",
		"pre-receive": "cat > /dev/null\n",
	} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newSharedRepository(t)
			writeHook(t, bare, name, script+"echo x >> "+bare+"/pushes\nprintf 'GH006: \\033[31mprotected\\n' >&2; exit 1")
			r := openRepo(t, bare, nil)
			base := mustFetch(t, r)
			for try := 1; try <= 3; try++ {
				_, err := r.Push(t.Context(), base, []releases.Draft{taggedDraft("1", base)})
				refused := new(releases.RefusedError)
				if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "GH006") ||
					strings.ContainsAny(refused.Reason, "\x1b\n") || strings.Contains(refused.Reason, "atomic") {
					t.Fatalf("got %v", err)
				}
				if n := readPushes(t, bare); n != try || len(r.HostNotes()) != 0 {
					t.Fatalf("%d pushes in %d tries; notes %q", n, try, r.HostNotes())
				}
			}
		})
	}
}

// The default branch is renamed: whoever named none follows HEAD. While the old one is there, it stays, and people are
// told.
func TestRenamedDefaultBranch(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	named := openRepo(t, bare, func(o *Options) { o.Branch = "main" })
	base := mustFetch(t, r)
	mustFetch(t, named)
	gitIn(t, bare, "branch", "trunk", "main")
	gitIn(t, bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
	commit := commitAll(t, work, "while both are there")
	gitIn(t, work, "push", "-q", "origin", "HEAD:main")
	if got := mustFetch(t, r); got != commit || len(r.HostNotes()) != 1 ||
		!strings.Contains(r.HostNotes()[0], "trunk") {
		t.Errorf("fetched %s, want %s; notes %q", got, commit, r.HostNotes())
	}
	gitIn(t, bare, "update-ref", "-d", "refs/heads/main")
	if got := mustFetch(t, r); got != base || r.branch() != "trunk" || len(r.HostNotes()) != 1 ||
		!strings.Contains(r.HostNotes()[0], "main is gone: trunk, its default branch, is followed since 2") {
		t.Errorf("fetched %s of %s; notes %q", got, r.branch(), r.HostNotes())
	}
	if tip := mustPush(t, r, base, headDraft("1")...)[0]; gitIn(t, bare, "rev-parse", "trunk") != tip {
		t.Error("the push went elsewhere")
	}
	if _, err := named.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "--branch") {
		t.Errorf("a named branch that is gone: %v", err)
	}
}

func taggedDraft(sequence, tagged string) releases.Draft {
	d := headDraft(sequence)[0]
	d.Tags = map[string]string{"sluice/staging/" + sequence: tagged}
	return d
}

func readPushes(t *testing.T, bare string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(bare, "pushes"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "x")
}
