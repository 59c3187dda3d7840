package announcer_test

import (
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// newSigner makes an SSH key, and returns its public half and a repository whose commits it signs.
func (w *world) newSigner(name string) (public string, repo *gitrepo.Repo) {
	w.t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.dir, name+".key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		w.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), w.openAs(name, name)
}

// openAs returns a repository whose commits one person's key signs in another's name.
func (w *world) openAs(name, signs string) *gitrepo.Repo {
	w.t.Helper()
	signer, err := gitrepo.LoadSigner(filepath.Join(w.dir, signs+".key"))
	if err != nil {
		w.t.Fatal(err)
	}
	repo, err := gitrepo.Open(w.t.Context(), w.flags, gitrepo.Options{
		Mirror: filepath.Join(w.dir, "mirrors", name),
		Author: releases.Person{Name: name, Email: name + "@example.com"}, Layout: gitrepo.FlagsLayout,
		Signer: signer, Log: w.log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = repo.Close() })
	return repo
}

// R22: an approval counts if the commit that last changed it is signed by a key that people lists, at that commit's
// first parent, for the person whose file it is; a claimed name does not count.
func TestApprovalsAreSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kims, kim := w.newSigner("kim")
	eves, eve := w.newSigner("eve")
	people := func(kim string) string {
		return "apiVersion: sluice/v1\nkind: Flags\npeople:\n  kim: {email: kim@example.com, keys: [\"" + kim + "\"]}\n"
	}
	w.commit("announce", map[string]string{"sluice.yaml": people(kims),
		"announcements/classes.yaml": announcement(time.Now().Add(time.Hour))})
	tree := w.tree()
	hash, _ := tree.Hash(tree.Announcements["classes"])
	file, text := "approvals/classes/kim.yaml", "hash: "+hash+"\n"
	p := w.start("store.db")
	p.reports()
	approvers := func(v *view.View) []string {
		if v.Flags == nil || len(v.Flags.Plan.Announcements) == 0 {
			return nil
		}
		return v.Flags.Plan.Announcements[0].Approvals
	}
	for _, step := range []struct {
		what  string
		who   *gitrepo.Repo
		files map[string]string
		want  bool
	}{
		{"her name alone", w.kim, map[string]string{file: text}, false},
		{"another's key", eve, map[string]string{file: text + "comment: sure\n"}, false},
		{"a key that the same commit lists", eve,
			map[string]string{file: text + "comment: yes\n", "sluice.yaml": people(eves)}, false},
		{"her key is listed again", w.ada, map[string]string{"sluice.yaml": people(kims)}, false},
		{"hers", kim, map[string]string{file: text}, true},
		{"touched by another since", w.ada, map[string]string{file: text + "comment: ada was here\n"}, false},
		{"hers again", kim, map[string]string{file: text}, true},
	} {
		commit := w.commitAs(step.who, step.what, step.files)
		v := p.waitForView(step.what+" is read", func(v *view.View) bool {
			return v.Flags != nil && v.Flags.Tip != nil && w.isAtOrAfter(v, commit)
		})
		if got := slices.Contains(approvers(v), "kim"); got != step.want {
			t.Errorf("%s: approved by %v, want %v", step.what, approvers(v), step.want)
		}
	}
	p.waitForView("it is armed", func(v *view.View) bool { return gated(bundle(t, v, "d1"), "classes") })
}

// R52: who wrote an announcement is known by key too: its author does not approve it from another address.
func TestR52AuthorsOfAnnouncements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kims, kim := w.newSigner("kim")
	leas, lea := w.newSigner("lea")
	settings := "apiVersion: sluice/v1\nkind: Flags\npeople:\n  kim: {email: kim@example.com, keys: [\"" + kims +
		" laptop\"]}\n  lea: {email: lea@example.com, keys: [\"" + leas + "\"]}\n"
	w.commit("settings", map[string]string{"sluice.yaml": settings})
	w.commitAs(w.openAs("bot", "kim"), "announce",
		map[string]string{"announcements/classes.yaml": announcement(time.Now().Add(time.Hour))})
	tree := w.tree()
	hash, _ := tree.Hash(tree.Announcements["classes"])
	p := w.start("store.db")
	p.reports()
	approvers := func(v *view.View) []string {
		if v.Flags == nil || len(v.Flags.Plan.Announcements) == 0 {
			return nil
		}
		return v.Flags.Plan.Announcements[0].Approvals
	}
	commit := w.commitAs(kim, "mine", map[string]string{"approvals/classes/kim.yaml": "hash: " + hash + "\n"})
	v := p.waitForView("kim's approval is read", func(v *view.View) bool {
		return v.Flags != nil && v.Flags.Tip != nil && w.isAtOrAfter(v, commit)
	})
	if got := approvers(v); len(got) != 0 {
		t.Errorf("approved by %v, an author", got)
	}
	w.commitAs(lea, "approve", map[string]string{"approvals/classes/lea.yaml": "hash: " + hash + "\n"})
	p.waitForView("lea's approval counts", func(v *view.View) bool { return slices.Equal(approvers(v), []string{"lea"}) })
}

// isAtOrAfter reports whether a view is of a commit, or of a later one.
func (w *world) isAtOrAfter(v *view.View, commit string) bool {
	if v.Flags.Commit == commit {
		return true
	}
	after, err := w.ada.Fetch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	line, err := w.ada.Changes(w.t.Context(), commit, after)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(line, func(c releases.Change) bool { return c.Commit == v.Flags.Commit })
}
