package gitrepo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/releases"
)

var inRelease = regexp.MustCompile(`^releases/[^/]+/`)

// changedByGit lists the paths that git diff-tree prints for a commit against its first parent, in Sluice's terms: a
// release is one path.
func changedByGit(t *testing.T, dir, parent, commit string) map[string]bool {
	t.Helper()
	if parent == "" {
		parent = gitIn(t, dir, "hash-object", "-t", "tree", "/dev/null")
	}
	want := map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimRight(gitIn(t, dir, "diff-tree", "-r", "-z", "--no-renames",
		"--name-only", parent, commit), "\x00"), "\x00") {
		part := strings.Split(name, "/")
		switch {
		case inRelease.MatchString(name):
			want[part[0]+"/"+part[1]] = true
		case name == "sluice.yaml", part[0] == "channels", part[0] == "quarantine", part[0] == "trust",
			part[0] == "cells" && len(part) == 3 && (part[2] == "identity.yaml" || part[2] == "cell.yaml"):
			want[name] = true
		}
	}
	return want
}

func checkChanges(t *testing.T, dir string, list []releases.Change) {
	t.Helper()
	for _, c := range list {
		want := changedByGit(t, dir, c.Parent, c.Commit)
		for _, f := range c.Files {
			if !want[f.Path] {
				t.Errorf("%s: %s was not touched", c.Message, f.Path)
			}
			delete(want, f.Path)
			for _, side := range []struct{ commit, id string }{{c.Parent, f.Old}, {c.Commit, f.New}} {
				got, err := tryGit(dir, nil, "rev-parse", "--verify", "-q", side.commit+":"+f.Path)
				if got = strings.TrimSpace(got); err != nil || !strings.HasPrefix(f.Path, "releases/") &&
					gitIn(t, dir, "cat-file", "-t", got) != "blob" {
					got = "" // for all but releases, only files count
				}
				if got != side.id {
					t.Errorf("%s: %s is %q, git has %q", c.Message, f.Path, side.id, got)
				}
			}
		}
		if len(want) > 0 {
			t.Errorf("%s: missing %v", c.Message, want)
		}
	}
}

func mustChanges(t *testing.T, r *Repo, since, tip string) []releases.Change {
	t.Helper()
	list, err := r.Changes(t.Context(), since, tip)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestChangesAreWhatGitSays(t *testing.T) {
	bare, work := newSharedRepository(t)
	steps := []struct {
		message string
		write   map[string]string
		remove  string
	}{
		{"cells", map[string]string{"cells/acme/identity.yaml": "epoch: 1\n", "cells/beta/cell.yaml": "x",
			"README.md": "x", "releases/README.md": "x"}, ""},
		{"release", map[string]string{"releases/1.1.0/release.yaml": "v", "quarantine/1.0.0.yaml": "reason: x\n",
			"channels/a/holds/x.yaml": "y"}, ""},
		{"cell only", map[string]string{"cells/acme/cell.yaml": "z"}, ""},
		{"edit a release", map[string]string{"releases/1.0.0/deploy/app.yaml": "z", "sluice.yaml": "z"}, ""},
		{"remove a channel", nil, "channels/a"},
		{"folder to file", map[string]string{"channels/a": "file", "channels/a.b": "x"}, ""},
		{"file to folder", map[string]string{"channels/a/b/c.yaml": "x"}, "channels/a"},
		{"remove a release", map[string]string{"cells/acme/identity.yaml": "epoch: 2\n"}, "releases/1.1.0"},
		{"remove a cell", nil, "cells/acme"},
	}
	var commits []string
	for _, s := range steps {
		if s.remove != "" {
			gitIn(t, work, "rm", "-rq", s.remove)
		}
		writeFiles(t, work, s.write)
		commits = append(commits, commitAll(t, work, s.message))
	}
	gitIn(t, work, "push", "-q", "origin", "main")
	r := openRepo(t, bare, nil)
	tip := mustFetch(t, r)
	all := mustChanges(t, r, "", tip)
	if len(all) != len(steps)+1 {
		t.Fatalf("%d changes, want %d", len(all), len(steps)+1)
	}
	checkChanges(t, bare, all)
	for i, c := range all[1:] {
		if c.Commit != commits[i] || c.Message != steps[i].message+"\n" ||
			c.Author != (releases.Person{Name: "Ada", Email: "ada@example.com"}) {
			t.Errorf("change %d is %+v", i, c)
		}
	}
	if some := mustChanges(t, r, commits[4], tip); len(some) != 4 || some[0].Commit != commits[5] {
		t.Errorf("since %s: %v", commits[4], some)
	}
	if none := mustChanges(t, r, tip, tip); len(none) != 0 {
		t.Errorf("since the tip: %v", none)
	}
	log, err := r.Commits(t.Context(), "channels/a", 2)
	if err != nil || len(log) != 2 || log[0].Message != "file to folder\n" || log[1].Message != "folder to file\n" {
		t.Errorf("log: %v %v", log, err)
	}
	if all, err := r.Commits(t.Context(), "cells/acme/identity.yaml", 0); err != nil || len(all) != 3 {
		t.Errorf("log: %v %v", all, err)
	}
}

// R5, fault 6: a commit that was acted upon is no longer in the branch's history.
func TestForcePushIsDivergence(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	first := mustFetch(t, r)
	second := mustPush(t, r, first, headDraft("two")...)[0]
	gitIn(t, work, "commit", "-q", "--allow-empty", "-m", "other")
	gitIn(t, work, "push", "-q", "--force", "origin", "main")
	tip := mustFetch(t, r)
	if _, err := r.Changes(t.Context(), second, tip); !errors.Is(err, releases.ErrDiverged) {
		t.Errorf("got %v", err)
	}
	for old, want := range map[string]bool{first: true, second: false, tip: true, strings.Repeat("0", 40): false} {
		if got, err := r.Contains(t.Context(), old, tip); err != nil || got != want {
			t.Errorf("Contains(%s) = %v, %v", old, got, err)
		}
	}
	// A merge makes the commit an ancestor again, but not a first-parent one: what the branch said in between counts.
	gitIn(t, work, "fetch", "-q", bare, second+":refs/heads/dropped")
	gitIn(t, work, "merge", "-q", "-m", "merge", "dropped")
	gitIn(t, work, "push", "-q", "origin", "main")
	if _, err := r.Changes(t.Context(), second, mustFetch(t, r)); !errors.Is(err, releases.ErrDiverged) {
		t.Errorf("after a merge: %v", err)
	}
	// Cells keep their head: the dropped commit is still readable, also after a repack.
	if err := r.Repack(t.Context()); err != nil {
		t.Fatal(err)
	}
	r2 := openRepo(t, bare, func(o *Options) { o.Mirror = r.mirror.dir })
	if text, err := r2.ReadFile(second, "channels/staging/head.yaml"); err != nil || string(text) != "two\n" {
		t.Errorf("%q %v", text, err)
	}
}

// R22: a release's authors are the authors of its folder's commits, whoever merged them.
func TestAuthorsOfMerges(t *testing.T) {
	bare, work := newSharedRepository(t)
	as := func(name string, args ...string) {
		t.Helper()
		gitIn(t, work, append([]string{"-c", "user.name=x", "-c", "user.email=x"},
			append(args, "--author="+name+" <"+strings.ToLower(name)+"@example.com>")...)...)
	}
	gitIn(t, work, "checkout", "-q", "-b", "topic")
	writeFiles(t, work, map[string]string{"releases/2.0.0/release.yaml": "1"})
	gitIn(t, work, "add", "-A")
	as("Bob", "commit", "-q", "-m",
		"cut\n\nCo-authored-by: Eve <eve@example.com>\nco-authored-by:  Finn Foo  <finn@example.com>")
	writeFiles(t, work, map[string]string{"channels/staging/channel.yaml": "changed"})
	gitIn(t, work, "add", "-A")
	as("Cyd", "commit", "-q", "-m", "policy")
	gitIn(t, work, "checkout", "-q", "main")
	writeFiles(t, work, map[string]string{"sluice.yaml": "changed"})
	commitAll(t, work, "meanwhile")
	gitIn(t, work, "checkout", "-q", "topic")
	gitIn(t, work, "merge", "-q", "-m", "bring main in", "main")
	writeFiles(t, work, map[string]string{"releases/2.0.0/notes.md": "2"})
	gitIn(t, work, "add", "-A")
	as("Dee", "commit", "-q", "-m", "notes")
	gitIn(t, work, "checkout", "-q", "main")
	gitIn(t, work, "merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
	gitIn(t, work, "push", "-q", "origin", "main")

	r := openRepo(t, bare, nil)
	list := mustChanges(t, r, "", mustFetch(t, r))
	checkChanges(t, bare, list)
	merge := list[len(list)-1]
	got := map[string]string{}
	for _, f := range merge.Files {
		var names []string
		for _, a := range f.Authors {
			names = append(names, a.Name)
		}
		slices.Sort(names)
		got[f.Path] = strings.Join(names, " ")
	}
	want := map[string]string{"releases/2.0.0": "Ada Bob Dee Eve Finn Foo", "channels/staging/channel.yaml": "Ada Cyd"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// R22: Key belongs to the signature over the raw commit, made by git itself or by Push.
func TestKeyIsTheSignatures(t *testing.T) {
	bare, _ := newSharedRepository(t)
	key, public := testKey(t, "ada")
	approve := map[string]string{"channels/dedicated/approvals/1.0.0/ada.yaml": "digest: x\n"}
	signer, err := LoadSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	r := openRepo(t, bare, func(o *Options) { o.Signer = signer })
	base := mustFetch(t, r)
	d := draft("approve", approve)
	ids := mustPush(t, r, base, d, draft("other", map[string]string{"channels/dedicated/head.yaml": "x"}))
	list := mustChanges(t, r, base, ids[1])
	if list[0].Key != public || list[1].Key != public {
		t.Errorf("keys %q and %q, want %q of both", list[0].Key, list[1].Key, public)
	}
	// git verifies the signature too, and refuses it for a commit changed afterwards.
	raw := gitIn(t, bare, "cat-file", "commit", ids[0]) + "\n"
	if !strings.Contains(raw, "gpgsig -----BEGIN SSH SIGNATURE-----") {
		t.Fatalf("not signed:\n%s", raw)
	}
	for name, forged := range map[string]string{
		"message":  strings.Replace(raw, "approve", "approvE", 1),
		"author":   strings.Replace(raw, "author Sluice", "author Sluicd", 1),
		"unsigned": regexp.MustCompile(`(?s)gpgsig.*-----END SSH SIGNATURE-----\n`).ReplaceAllString(raw, ""),
		"garbage":  strings.Replace(raw, "U1NIU0lH", "U1NIU0lI", 1),
	} {
		if forged == raw {
			t.Fatalf("%s: nothing was forged", name)
		}
		out, err := tryGit(bare, []byte(forged), "hash-object", "-t", "commit", "-w", "--stdin")
		if err != nil {
			t.Fatal(out)
		}
		commit := strings.TrimSpace(out)
		gitIn(t, bare, "update-ref", "refs/heads/main", commit)
		if list := mustChanges(t, r, base, mustFetch(t, r)); len(list) != 1 || list[0].Key != "" {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// R22: approvals reach the branch by merges too. The signer of the content counts, not the person who merged it.
func TestKeyOfMergedApprovals(t *testing.T) {
	bare, _ := newSharedRepository(t)
	key, public := testKey(t, "ada")
	signer, err := LoadSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	plain := openRepo(t, bare, nil)
	base := mustFetch(t, plain)
	gitIn(t, bare, "branch", "topic", base)
	topic := openRepo(t, bare, func(o *Options) { o.Signer, o.Branch = signer, "topic" })
	mustFetch(t, topic)
	const file = "channels/dedicated/approvals/1.0.0/ada.yaml"
	side := mustPush(t, topic, base, draft("approve", map[string]string{file: "digest: x\n"}))[0]
	main := mustPush(t, plain, base, headDraft("meanwhile")...)[0]
	for name, c := range map[string]struct{ content, want string }{
		"merged":  {"digest: x\n", public},
		"altered": {"digest: y\n", ""}, // by whoever merged
	} {
		tree := mustPush(t, openRepo(t, bare, func(o *Options) { o.Branch = "scratch-" + name }),
			"", draft("scratch", map[string]string{file: c.content, "channels/staging/head.yaml": "meanwhile\n"}))[0]
		merge := gitIn(t, bare, "commit-tree", tree+"^{tree}", "-p", main, "-p", side, "-m", "merge")
		gitIn(t, bare, "update-ref", "refs/heads/main", merge)
		list := mustChanges(t, plain, main, mustFetch(t, plain))
		if len(list) != 1 || list[0].Key != "" {
			t.Fatalf("%s: %+v", name, list)
		}
		i := slices.IndexFunc(list[0].Files, func(f releases.FileChange) bool { return f.Path == file })
		if got := list[0].Files[i].Key; got != c.want {
			t.Errorf("%s: key %q, want %q", name, got, c.want)
		}
	}
}

// testKey makes an SSH key without ssh-keygen: its file, and its public half in authorized_keys form.
func testKey(t *testing.T, comment string) (file, public string) {
	t.Helper()
	private, pub := newKey(t)
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pemBytes(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

// R52: a file that becomes a link with the same bytes has changed, and one that becomes executable has not.
func TestLinksInPlaceOfFilesAreChanges(t *testing.T) {
	bare, work := newSharedRepository(t)
	for _, name := range []string{"sluice.yaml", "trust/1.root.json", "cells/acme/cell.yaml"} {
		writeFiles(t, work, map[string]string{name: "x"})
		commitAll(t, work, "file "+name)
		blob := strings.TrimSpace(gitIn(t, work, "rev-parse", "HEAD:"+name))
		gitIn(t, work, "update-index", "--chmod=+x", name)
		gitIn(t, work, "commit", "-qm", "executable")
		gitIn(t, work, "update-index", "--cacheinfo", "120000,"+blob+","+name)
		gitIn(t, work, "commit", "-qm", "link")
		gitIn(t, work, "push", "-q", "origin", "main")
		r := openRepo(t, bare, nil)
		all := mustChanges(t, r, "", mustFetch(t, r))
		executable, link := all[len(all)-2], all[len(all)-1]
		want := []releases.FileChange{{Path: name, Old: blob, New: "120000 " + blob, Authors: link.Files[0].Authors}}
		if len(executable.Files) > 0 || !reflect.DeepEqual(link.Files, want) {
			t.Errorf("%s: executable %v, link %v", name, executable.Files, link.Files)
		}
		gitIn(t, work, "checkout", "-qf", "HEAD", "--", ".")
		gitIn(t, work, "rm", "-q", "--cached", name)
		gitIn(t, work, "clean", "-qfd")
		gitIn(t, work, "commit", "-qm", "remove")
	}
}
