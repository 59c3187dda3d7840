package gitrepo

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// member is somebody with a worktree's git of their own: name, address and, perhaps, a key that signs all they commit.
type member struct{ name, keyFile, key string }

// gitWorld is a worktree in which several people work with git itself.
type gitWorld struct {
	t              *testing.T
	bare, work     string
	ada, bob, eve  member // eve signs nothing
	layout         Layout
	file, sideFile string // ada's approval, and another person's
	base           string
}

func newGitWorld(t *testing.T, layout Layout) *gitWorld {
	t.Helper()
	w := &gitWorld{t: t, layout: layout, eve: member{name: "eve"}, file: "channels/dedicated/approvals/1.0.0/ada.yaml",
		sideFile: "channels/dedicated/approvals/2.0.0/ada.yaml"}
	if layout == FlagsLayout {
		w.file, w.sideFile = "approvals/classes/ada.yaml", "approvals/editor/ada.yaml"
	}
	w.bare, w.work = newSharedRepository(t)
	for _, m := range []*member{&w.ada, &w.bob} {
		m.keyFile, m.key = testKey(t, "x")
	}
	w.ada.name, w.bob.name = "ada", "bob"
	w.base = gitIn(t, w.work, "rev-parse", "HEAD")
	return w
}

// as runs git as somebody.
func (w *gitWorld) as(m member, args ...string) string {
	w.t.Helper()
	config := []string{"-c", "commit.gpgsign=false", "-c", "merge.ff=false", "-c", "core.editor=true"}
	if m.keyFile != "" {
		config = []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + m.keyFile, "-c", "commit.gpgsign=true",
			"-c", "merge.ff=false", "-c", "core.editor=true"}
	}
	cmd := exec.Command("git", append(config, args...)...)
	cmd.Dir = w.work
	address := m.name + "@example.com"
	cmd.Env = append(hostGitEnv(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME="+m.name, "GIT_AUTHOR_EMAIL="+address, "GIT_COMMITTER_NAME="+m.name,
		"GIT_COMMITTER_EMAIL="+address)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, given as path and text in turn, and commits them as somebody.
func (w *gitWorld) commit(m member, files ...string) {
	w.t.Helper()
	w.write(files...)
	w.as(m, "commit", "-q", "-m", "change "+files[0])
}

func (w *gitWorld) write(files ...string) {
	w.t.Helper()
	for i := 0; i < len(files); i += 2 {
		writeFiles(w.t, w.work, map[string]string{files[i]: files[i+1]})
		w.as(w.eve, "add", files[i])
	}
}

// side makes a branch at the base and goes back to main afterwards.
func (w *gitWorld) side(name string, do func()) {
	w.t.Helper()
	w.as(w.eve, "checkout", "-q", "-b", name, w.base)
	do()
	w.as(w.eve, "checkout", "-q", "main")
}

// last returns what the newest of main's commits that touch a path says of the path.
func (w *gitWorld) last(name string) releases.FileChange {
	w.t.Helper()
	w.as(w.eve, "push", "-q", "-f", "origin", "main")
	r := openRepo(w.t, w.bare, func(o *Options) { o.Layout = w.layout })
	for _, c := range slices.Backward(mustChanges(w.t, r, w.base, mustFetch(w.t, r))) {
		for _, f := range c.Files {
			if f.Path == name {
				return f
			}
		}
	}
	w.t.Fatalf("no commit touches %s", name)
	return releases.FileChange{}
}

// R52: whatever people do with git, an approval is the word of who signed the commit that wrote it, alone. Flags'
// approvals are read by the same code.
func TestR52ApprovalsMadeWithGit(t *testing.T) {
	const text = "digest: x\n"
	for name, c := range map[string]struct {
		do   func(w *gitWorld)
		want func(w *gitWorld) string // the key; nil: none
	}{
		"signed": {func(w *gitWorld) { w.commit(w.ada, w.file, text) }, adas},
		"signed, with another approval": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text, w.sideFile, text)
		}, adas},
		"unsigned, in her name": {func(w *gitWorld) { w.commit(member{name: "ada"}, w.file, text) }, nil},
		"signed by another in her name": {func(w *gitWorld) {
			w.commit(member{"ada", w.bob.keyFile, ""}, w.file, text)
		}, bobs},
		"with another file": {func(w *gitWorld) { w.commit(w.ada, w.file, text, "README.md", "new\n") }, nil},
		"with settings":     {func(w *gitWorld) { w.commit(w.ada, w.file, text, "sluice.yaml", "kind: x\n") }, nil},
		"renamed by another": {func(w *gitWorld) {
			w.commit(w.ada, w.sideFile, text)
			if err := os.MkdirAll(filepath.Join(w.work, filepath.Dir(w.file)), 0o755); err != nil {
				w.t.Fatal(err)
			}
			w.as(w.bob, "mv", w.sideFile, w.file)
			w.as(w.bob, "commit", "-q", "-m", "move")
		}, bobs},
		"copied by another, unsigned": {func(w *gitWorld) {
			w.commit(w.ada, w.sideFile, text)
			w.commit(w.eve, w.file, text)
		}, nil},
		"withdrawn, and the withdrawal reverted by another": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text)
			w.as(w.ada, "rm", "-q", w.file)
			w.as(w.ada, "commit", "-q", "-m", "withdraw")
			w.as(w.eve, "revert", "--no-edit", "HEAD")
		}, nil},
		"reverted and put back by two reverts of another": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text)
			w.as(w.bob, "revert", "--no-edit", "HEAD")
			w.as(w.bob, "revert", "--no-edit", "HEAD")
		}, bobs},
		"cherry-picked by another": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.as(w.bob, "cherry-pick", "topic")
		}, bobs},
		"cherry-picked by another, unsigned": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.as(w.eve, "cherry-pick", "topic")
		}, nil},
		"rebased by another": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.commit(w.eve, "README.md", "meanwhile\n")
			w.as(w.eve, "rebase", "-q", "main", "topic")
			w.as(w.eve, "checkout", "-q", "main")
			w.as(w.eve, "merge", "-q", "--ff-only", "topic")
		}, nil},
		"squashed by another": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.as(w.bob, "merge", "-q", "--ff", "--squash", "topic")
			w.as(w.bob, "commit", "-q", "-m", "squash")
		}, bobs},
		"squashed by another, unsigned": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.as(w.eve, "merge", "-q", "--ff", "--squash", "topic")
			w.as(w.eve, "commit", "-q", "-m", "squash", "-m", "Co-authored-by: ada <ada@example.com>")
		}, nil},
		"amended by another": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text)
			w.as(w.bob, "commit", "-q", "--amend", "--no-edit")
		}, bobs},
		"amended by another, unsigned": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text)
			w.as(w.eve, "commit", "-q", "--amend", "-m", "better words")
		}, nil},
		"amended by herself, with more": {func(w *gitWorld) {
			w.commit(w.ada, w.file, text)
			w.write("README.md", "more\n")
			w.as(w.ada, "commit", "-q", "--amend", "--no-edit")
		}, nil},
		"merged by another": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, w.file, text) })
			w.as(w.eve, "merge", "-q", "topic")
		}, adas},
		"another's, merged by her": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.eve, w.file, text) })
			w.as(w.ada, "merge", "-q", "topic")
		}, nil},
		"hers, changed by another, merged by her": {func(w *gitWorld) {
			w.side("topic", func() {
				w.commit(w.ada, w.file, text)
				w.commit(w.eve, w.file, text+"comment: sure\n")
			})
			w.as(w.ada, "merge", "-q", "topic")
		}, nil},
		"another's, in an octopus merge of hers": {func(w *gitWorld) {
			w.side("one", func() { w.commit(w.eve, w.file, text) })
			w.side("two", func() { w.commit(w.eve, "README.md", "two\n") })
			w.as(w.ada, "merge", "-q", "one", "two")
		}, nil},
		"hers, in another's octopus merge": {func(w *gitWorld) {
			w.side("one", func() { w.commit(w.eve, "README.md", "one\n") })
			w.side("two", func() { w.commit(w.ada, w.file, text) })
			w.side("three", func() { w.commit(w.eve, "LICENSE", "three\n") })
			w.as(w.bob, "merge", "-q", "one", "two", "three")
		}, adas},
		"written in a merge of hers": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.eve, "README.md", "topic\n") })
			w.as(w.ada, "merge", "-q", "--no-commit", "topic")
			w.write(w.file, text)
			w.as(w.ada, "commit", "-q", "-m", "merge, and approve")
		}, adas},
		"written in a merge of hers, with more": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.eve, "README.md", "topic\n") })
			w.as(w.ada, "merge", "-q", "--no-commit", "topic")
			w.write(w.file, text, "LICENSE", "mine\n")
			w.as(w.ada, "commit", "-q", "-m", "merge, and more")
		}, nil},
		"written in a merge of another": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, "README.md", "topic\n") })
			w.as(w.eve, "merge", "-q", "--no-commit", "topic")
			w.write(w.file, text)
			w.as(w.eve, "commit", "-q", "-m", "merge, and approve")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, layout := range []Layout{ReleaseLayout, FlagsLayout} {
				w := newGitWorld(t, layout)
				c.do(w)
				want := ""
				if c.want != nil {
					want = c.want(w)
				}
				if got := w.last(w.file).Key; got != want {
					t.Errorf("layout %d: key %q, want %q", layout, got, want)
				}
			}
		})
	}
}

func adas(w *gitWorld) string { return w.ada.key }
func bobs(w *gitWorld) string { return w.bob.key }

// R52: of each commit that wrote a release's folder it is known who signed it; a merge vouches for what it wrote
// itself.
func TestR52CommitsOfReleasesMadeWithGit(t *testing.T) {
	const name, file = "releases/3.0.0", "releases/3.0.0/release.yaml"
	for what, c := range map[string]struct {
		do   func(w *gitWorld)
		want string // signers of what was written, in order of their names; "-": nobody
	}{
		"signed":   {func(w *gitWorld) { w.commit(w.ada, file, "x\n") }, "ada"},
		"unsigned": {func(w *gitWorld) { w.commit(w.eve, file, "x\n") }, "-"},
		"merged, unsigned": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, file, "x\n") })
			w.as(w.eve, "merge", "-q", "topic")
		}, "ada"},
		"an unsigned commit among signed ones, merged by one who signs": {func(w *gitWorld) {
			w.side("topic", func() {
				w.commit(w.ada, file, "x\n")
				w.commit(w.eve, "releases/3.0.0/app.yaml", "x\n")
				w.commit(w.ada, file, "y\n")
			})
			w.as(w.bob, "merge", "-q", "topic")
		}, "- ada ada"},
		"octopus": {func(w *gitWorld) {
			w.side("one", func() { w.commit(w.eve, "README.md", "one\n") })
			w.side("two", func() { w.commit(w.ada, file, "x\n") })
			w.as(w.eve, "merge", "-q", "one", "two")
		}, "ada"},
		"written in a merge": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, file, "x\n") })
			w.as(w.eve, "merge", "-q", "--no-commit", "topic")
			w.write("releases/3.0.0/app.yaml", "more\n")
			w.as(w.eve, "commit", "-q", "-m", "merge, and more")
		}, "- ada"},
		"squashed": {func(w *gitWorld) {
			w.side("topic", func() { w.commit(w.ada, file, "x\n") })
			w.as(w.eve, "merge", "-q", "--ff", "--squash", "topic")
			w.as(w.eve, "commit", "-q", "-m", "squash")
		}, "-"},
		"a branch merged into the branch": {func(w *gitWorld) {
			w.side("inner", func() { w.commit(w.eve, "releases/3.0.0/app.yaml", "x\n") })
			w.side("topic", func() {
				w.commit(w.ada, "README.md", "x\n")
				w.as(w.ada, "merge", "-q", "inner")
				w.commit(w.ada, file, "x\n")
			})
			w.as(w.ada, "merge", "-q", "topic")
		}, "- ada"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newGitWorld(t, ReleaseLayout)
			c.do(w)
			var got []string
			for _, commit := range w.last(name).Commits {
				switch {
				case commit.MergedOnly:
				case commit.Key == w.ada.key:
					got = append(got, "ada")
				case commit.Key == "":
					got = append(got, "-")
				default:
					got = append(got, "bob")
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("signed by %q, want %q: %+v", text, c.want, w.last(name).Commits)
			}
		})
	}
}
