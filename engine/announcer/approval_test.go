package announcer_test

import (
	"crypto/ed25519"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/manifest"
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

// R52: where a flags repository lists owners, its settings change only by one of them: nobody else lists a person,
// lowers a rule, or takes the owners away. What was in force before stays so, also where an older commit's flags count.
func TestR52OwnersOfFlagsSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	adas, ada := w.newSigner("ada-laptop")
	eves, eve := w.newSigner("eve")
	person := func(name, key string) string { return "  " + name + ": {keys: [\"" + key + "\"]}\n" }
	settings := func(more string, people ...string) string {
		return "apiVersion: sluice/v1\nkind: Flags\npeople:\n" + strings.Join(people, "") + more
	}
	owned := settings("owners: [ada]\n", person("ada", adas))
	read := func() (announce.Input, []manifest.Fault) {
		t.Helper()
		tip, err := w.ada.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in, err := announcer.ReadInput(t.Context(), w.ada, tip, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		files, withheld, err := announcer.ReadFiles(t.Context(), w.ada, tip)
		if err != nil {
			t.Fatal(err)
		}
		if got := repository.Load(nil, files).Settings; in.Commit == tip && !reflect.DeepEqual(got, in.Tip.Settings) {
			t.Errorf("the tip's settings are %+v, and those of the plan %+v", got, in.Tip.Settings)
		}
		return in, withheld
	}
	want := func(what string, isWithheld bool, people ...string) {
		t.Helper()
		in, withheld := read()
		if got := slices.Sorted(maps.Keys(in.Tip.Settings.People)); !slices.Equal(got, people) {
			t.Errorf("%s: people are %v, want %v", what, got, people)
		}
		found := len(withheld) == 1 && withheld[0].File == "sluice.yaml" && withheld[0].Code == manifest.Forbidden &&
			strings.Contains(withheld[0].Message, "have ada make it")
		if found != isWithheld || !isWithheld && len(withheld) > 0 {
			t.Errorf("%s: faults %v, want one: %t", what, withheld, isWithheld)
		}
	}
	put := func(who *gitrepo.Repo, text string) {
		w.commitAs(who, "settings", map[string]string{"sluice.yaml": text})
	}
	put(w.kim, owned)
	want("the first list comes from anybody", false, "ada")
	hers := settings("owners: [ada]\n", person("ada", adas), person("eve", eves))
	put(eve, hers)
	want("eve lists herself", true, "ada")
	w.commit("announce", map[string]string{"announcements/classes.yaml": announcement(time.Now().Add(time.Hour))})
	tree := w.tree()
	hash, _ := tree.Hash(tree.Announcements["classes"])
	w.commitAs(eve, "approve", map[string]string{"approvals/classes/eve.yaml": "hash: " + hash + "\n"})
	if in, _ := read(); len(in.Proven) != 0 {
		t.Errorf("her approval counts: %+v", in.Proven)
	}
	w.commit("a slip", map[string]string{"flags/ui.yaml": "flags: [\n"}) // the flags of an older commit count
	want("at an older commit that has her list", true, "ada")
	put(eve, owned+"# words\n")
	want("eve says what is in force, in other words", false, "ada")
	want("then an older commit still has her list", false, "ada")
	w.commit("mend it", map[string]string{"flags/ui.yaml": definitions})
	for _, text := range []string{settings("", person("ada", adas)), settings("owners: [eve]\n", person("eve", eves)),
		"\x00", "", strings.Replace(owned, "people:", "approvals: {count: 0}\npeople:", 1)} {
		for _, who := range []*gitrepo.Repo{w.kim, eve} {
			put(who, text)
			want(text, true, "ada")
			if in, _ := read(); in.Tip.Settings.Approvals.Count != 1 {
				t.Errorf("%q: the rule is %+v", text, in.Tip.Settings.Approvals)
			}
		}
	}
	put(ada, hers)
	want("an owner lists eve", false, "ada", "eve")
	if in, _ := read(); len(in.Proven) != 0 {
		t.Errorf("an approval from before she was listed counts: %+v", in.Proven)
	}
	w.commitAs(eve, "approve again", map[string]string{
		"approvals/classes/eve.yaml": "hash: " + hash + "\ncomment: now listed\n"})
	if in, _ := read(); len(in.Proven) != 1 {
		t.Errorf("her approval does not count: %+v", in.Proven)
	}
	put(ada, settings("", person("ada", adas)))
	put(eve, settings("", person("eve", eves)))
	want("an owner ends owners", false, "eve")
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
