package plan_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const (
	adaKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG/IvJAu8LPJhX0OlSHfgPWKQhCXLtftJpTNrYLUG3Xc"
	people = "people:\n  ada: {email: ada@example.com, keys: [\"" + adaKey + "\"]}\n" +
		"  bob: {email: bob@example.com, keys: [\"" + nextKey + "\"]}\n"
	owned = people + "owners: [ada]\nengine: {keys: [\"" + engineKey + "\"]}\n"
)

// ownedWorld is a settled pipeline that ada owns; bob and mallory sign with keys of their own, eve signs nothing.
func ownedWorld(t *testing.T, more ...map[string]string) *World {
	t.Helper()
	w := One(t, "floor: 0.9.0\n", append(more, pipeline(owned))...)
	w.Signs = map[string]string{"sluice": engineKey, "ada": adaKey, "bob": nextKey, "mallory": malloryKey}
	return w
}

// wantWithheld checks that exactly these files have a fault that says who must sign.
func wantWithheld(t *testing.T, w *World, files ...string) {
	t.Helper()
	var got []string
	for _, f := range w.Desired().Faults {
		if f.Code == manifest.Forbidden && strings.Contains(f.Message, "have ada make it in a signed commit") {
			got = append(got, f.File)
		}
	}
	if strings.Join(got, " ") != strings.Join(files, " ") {
		t.Errorf("withheld %v, want %v: %v", got, files, w.Desired().Faults)
	}
}

// R52, R48: a file that no owner changed stays as it was, in the commit that had it last; what can't be read there is a
// fault of the file, and no error.
func TestR52FilesInForce(t *testing.T) {
	t.Parallel()
	commits := map[string]fstest.MapFS{
		"before":  {"channels/staging/channel.yaml": {Data: []byte("floor: 0.9.0\n")}},
		"between": {"channels": {Data: []byte("a file in the folder's place")}},
		"after":   {"channels/staging/channel.yaml": {Data: []byte("floor: 0.1.0\n")}},
	}
	open := func(commit string) (fs.FS, error) { return commits[commit], nil }
	for from, want := range map[string]string{"before": "floor: 0.9.0\n", "": "\x00"} {
		w := plan.WithheldFiles{}
		w.Fold(releases.Change{Commit: "after", Parent: "between"}, releases.FileChange{
			Path: "channels/staging/channel.yaml", Old: "a", OldIn: from, New: "b"}, false)
		files, err := w.InForce(commits["after"], open)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(files, "channels/staging/channel.yaml"); string(got) != want || err != nil {
			t.Errorf("in force from %q: %q (%v)", from, got, err)
		}
	}
}

// R52: a policy stays in force as it was until an owner signs a change, and an owner's change counts.
func TestR52OwnersOfPolicies(t *testing.T) {
	const file = "channels/staging/channel.yaml"
	floor := func(w *World) string { return w.Desired().Channels["staging"].Policy.Floor.String() }
	for _, by := range []string{"eve", "bob", "mallory", "sluice"} {
		w := ownedWorld(t)
		w.Commit(by, "lower the floor", Policy("staging", "floor: 0.1.0\n"))
		if floor(w) != "0.9.0" {
			t.Errorf("%s: the floor is %s", by, floor(w))
		}
		wantWithheld(t, w, file)
		w.Commit(by, "again", Policy("staging", "floor: 0.2.0\npromote: manual\n"))
		w.Commit("ada", "something else", Policy("other", ""))
		if floor(w) != "0.9.0" {
			t.Errorf("%s: the floor is %s after an owner's other commit", by, floor(w))
		}
		wantWithheld(t, w, file)
		w.Commit("bob", "cut", Release("1.1.0"))
		w.WantActions("promote 1.1.0 other; promote 1.1.0 staging")
		w.WantHead("staging", "1.1.0") // the engine's own decision counts, by the policy in force
		w.Commit(by, "put back", Policy("staging", "floor: 0.9.0\n"))
		wantWithheld(t, w)
		w.Commit(by, "gone", map[string]string{file: ""})
		if floor(w) != "0.9.0" {
			t.Errorf("%s: removed the policy", by)
		}
		w.Commit("ada", "mine", Policy("staging", "floor: 0.3.0\n"))
		wantWithheld(t, w)
		if floor(w) != "0.3.0" {
			t.Errorf("an owner's floor is %s", floor(w))
		}
	}
}

// R52: only an owner makes a hotfix, a quarantine or a freeze, and only an owner ends one; the engine's quarantines
// count by its key.
func TestR52OwnersOfStops(t *testing.T) {
	const hotfix, stop, end = "channels/staging/hotfixes/1.1.0.yaml", "quarantine/1.1.0.yaml", "quarantine"
	fix := "digest: @digest:1.1.0\nreason: urgent\nexpiry: 2027-01-01T00:00:00Z\n"
	quarantine := "digest: @digest:1.1.0\nreason: bad\n"
	frozen := people + "owners: [ada]\nengine: {keys: [\"" + engineKey + "\"]}\n" +
		"freezes: [{from: 2026-11-01T00:00:00Z, until: 2027-01-01T00:00:00Z, reason: holidays}]\n"
	w := ownedWorld(t)
	w.Commit("bob", "cut", Release("1.1.0"))
	for _, by := range []string{"eve", "mallory"} {
		w.Commit(by, "hotfix", map[string]string{hotfix: fix})
		if n := len(w.Desired().Channels["staging"].Hotfixes); n != 0 {
			t.Errorf("%s: %d hotfixes", by, n)
		}
		w.Commit(by, "stop", map[string]string{stop: quarantine})
		if q := w.Desired().Quarantine; len(q) != 0 {
			t.Errorf("%s: quarantined %+v", by, q)
		}
		w.Commit(by, "freeze", pipeline(frozen))
		wantWithheld(t, w, hotfix, stop, "sluice.yaml")
		w.Commit(by, "undo", Union(map[string]string{hotfix: "", stop: ""}, pipeline(owned)))
		wantWithheld(t, w)
		w.Commit(by, "a file in the folder's place", map[string]string{end: "x\n"})
		wantWithheld(t, w, end)
		if manifest.Fatal(w.Desired().Channels["staging"].Faults) {
			t.Errorf("%s: a file stops all channels: %v", by, w.Desired().Channels["staging"].Faults)
		}
		w.Commit(by, "undo", map[string]string{end: ""})
	}
	w.Commit("ada", "all of it", Union(map[string]string{hotfix: fix, stop: quarantine}, pipeline(frozen)))
	for _, by := range []string{"eve", "mallory"} {
		w.Commit(by, "end all", Union(map[string]string{hotfix: "", stop: ""}, pipeline(owned)))
		d := w.Desired()
		if len(d.Channels["staging"].Hotfixes) != 1 || len(d.Quarantine) != 1 || len(d.Pipeline.Freezes) != 1 {
			t.Errorf("%s: hotfixes %v, quarantined %v, freezes %v", by, d.Channels["staging"].Hotfixes, d.Quarantine,
				d.Pipeline.Freezes)
		}
		wantWithheld(t, w, hotfix, stop, "sluice.yaml")
	}
	w.Commit("ada", "end all", map[string]string{"README.md": "x\n"})
	if len(w.Desired().Quarantine) != 1 {
		t.Error("an owner's commit that does not touch the file ends a quarantine")
	}
	w.Commit("ada", "put back, and lift", map[string]string{stop: quarantine + "by: ada\n"})
	w.Commit("ada", "lift", map[string]string{stop: ""})
	if d := w.Desired(); len(d.Quarantine) != 0 {
		t.Errorf("an owner did not lift it: %+v", d.Quarantine)
	}
}

// R21, R52: the engine's own quarantine needs no owner, listed key or not.
func TestR52EngineQuarantinesWithOwners(t *testing.T) {
	for _, engine := range []string{"engine: {keys: [\"" + engineKey + "\"]}\n", "", "engine: unsigned\n"} {
		w := One(t, "", pipeline(people+"owners: [ada]\n"+engine))
		w.Signs = map[string]string{"sluice": engineKey}
		w.Commit("bob", "cut", Release("1.1.0"))
		w.WantActions("promote 1.1.0 staging")
		w.WantActions("grant 1.1.0 staging s1+s2")
		w.ReportFailed("s1", "broken")
		w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
		if q := w.Desired().Quarantine; len(q) != 1 || q[0].FailedIn != "staging" {
			t.Errorf("%s: quarantined %+v: %v", engine, q, w.Desired().Faults)
		}
		wantWithheld(t, w)
	}
}

// R52: people and owners change only by an owner; the first list may come from anybody; a commit can't list a key and
// use it.
func TestR52OwnersOfOwners(t *testing.T) {
	w := One(t, "", pipeline(people))
	w.Signs = map[string]string{"ada": adaKey, "bob": nextKey, "mallory": malloryKey}
	if notes := w.Desired().Notes(); len(notes) != 2 || !strings.Contains(notes[0], "owners: not set") {
		t.Errorf("notes %v", notes)
	}
	w.Commit("eve", "own", pipeline(people+"owners: [ada]\n"))
	if owners := w.Desired().Authority.Owners; len(owners) != 1 || len(w.Desired().Notes()) != 1 { // unsigned
		t.Errorf("owners %v, notes %v", owners, w.Desired().Notes())
	}
	hers := strings.Replace(people, "  bob:", "  mallory: {keys: [\""+malloryKey+"\"]}\n  bob:", 1)
	for _, text := range []string{hers + "owners: [mallory]\n", hers + "owners: [ada]\n", people, "", "\x00"} {
		w.Commit("mallory", "mine", pipeline(text))
		d := w.Desired()
		if d.Authority.IsOwner(malloryKey) || !d.Authority.IsOwner(adaKey) || d.Pipeline.People["mallory"] != nil ||
			d.Pipeline.People["ada"] == nil {
			t.Errorf("%q: %+v", text, d.Authority)
		}
		wantWithheld(t, w, "sluice.yaml")
	}
	w.Commit("mallory", "gone", map[string]string{"sluice.yaml": ""})
	if w.Desired().Pipeline.People["ada"] == nil {
		t.Error("the people are gone with the file")
	}
	w.Commit("mallory", "a comment", pipeline("# words\n"+people+"owners: [ada]\n"))
	wantWithheld(t, w) // it says what is in force
	w.Commit("ada", "bob too", pipeline(people+"owners: [ada, bob]\n"))
	w.Commit("bob", "without ada", pipeline(people+"owners: [bob]\n"))
	if d := w.Desired(); d.Authority.IsOwner(adaKey) || !d.Authority.IsOwner(nextKey) {
		t.Errorf("%+v", d.Authority)
	}
	w.Commit("bob", "no owners", pipeline(people))
	w.Commit("eve", "anything", Policy("staging", "floor: 0.1.0\n"))
	wantWithheld(t, w)
}

// R46, R52: an owner may replace the engine's keys, also when all of them are lost; the engine changes its list and
// nothing else; nobody else does.
func TestR52OwnersOfEngineKeys(t *testing.T) {
	with := func(keys string) map[string]string { return pipeline(people + "owners: [ada]\n" + keys) }
	engine := func(key string) string { return "engine: {keys: [\"" + key + "\"]}\n" }
	w := ownedWorld(t)
	for _, by := range []string{"eve", "bob", "mallory"} {
		w.Commit(by, "mine", with(engine(malloryKey)))
		if w.Desired().Authority.Trust(malloryKey) {
			t.Errorf("%s listed a key", by)
		}
	}
	w.Commit("ada", "lost", with(engine(nextKey)))
	if a := w.Desired().Authority; !a.Trust(nextKey) || a.Trust(engineKey) {
		t.Errorf("%+v", a)
	}
	w.Signs["sluice"] = nextKey
	w.Commit("sluice", "rotate, and more", pipeline(people+"owners: [bob]\n"+engine(engineKey)))
	d := w.Desired()
	if !d.Authority.Trust(engineKey) || d.Authority.IsOwner(nextKey) {
		t.Errorf("%+v", d.Authority)
	}
	wantWithheld(t, w, "sluice.yaml")
	w.Commit("ada", "without", with("engine: unsigned\n"))
	w.Commit("mallory", "mine", with(engine(malloryKey)))
	if w.Desired().Authority.Enforced() {
		t.Error("where nothing is signed, anybody lists a key")
	}
	first := One(t, "", with("")) // no key yet: an engine lists its own
	first.Signs, first.Obs.Key = map[string]string{"sluice": engineKey}, engineKey
	first.WantActions("adopt  ")
	if !first.Desired().Authority.Trust(engineKey) {
		t.Errorf("%+v", first.Desired().Faults)
	}
	wantWithheld(t, first)
}

// R52: with signedReleases, a release with a commit that nobody in people signed is no candidate, and says which
// commit.
func TestR52SignedReleases(t *testing.T) {
	for by, want := range map[string]bool{"ada": true, "bob": true, "mallory": false, "eve": false} {
		w := One(t, "", pipeline(people+"signedReleases: true\n"))
		w.Signs = map[string]string{"ada": adaKey, "bob": nextKey, "mallory": malloryKey}
		commit := w.Commit(by, "cut", Release("1.1.0"))
		w.Settle()
		if got := w.Desired().Channels["staging"].Effective.Release == "1.1.0"; got != want {
			t.Errorf("%s: promoted %t", by, got)
		}
		var fault string
		for _, f := range w.Desired().Faults {
			if f.File == "releases/1.1.0/release.yaml" && f.Code == manifest.Unsigned {
				fault = f.Message
			}
		}
		if (fault == "") != want || !want && !strings.Contains(fault, commit[:10]) {
			t.Errorf("%s: fault %q", by, fault)
		}
		if !want {
			w.WantBlocked("staging", "invalid", "which nobody in people signed")
		}
	}
	// The key must have been listed before; a later listing does not help, and a release that is in force stays a way
	// back.
	w := One(t, "", pipeline(people+"signedReleases: true\n"))
	w.Signs = map[string]string{"ada": adaKey, "mallory": malloryKey}
	w.Commit("mallory", "list me, and cut", Union(Release("1.1.0"),
		pipeline(people+"  mallory: {keys: [\""+malloryKey+"\"]}\nsignedReleases: true\n")))
	w.Settle()
	w.WantHead("staging", "1.0.0")
	w.Commit("ada", "cut", Release("1.2.0"))
	w.InstallAll()
	w.WantHead("staging", "1.2.0")
	w.Now = w.Now.Add(time.Minute)
	w.Commit("ada", "stop it", map[string]string{"quarantine/1.2.0.yaml": "digest: @digest:1.2.0\nreason: bad\n"})
	w.WantActions("rollback 1.0.0 staging")
}

// R22, R52: an approval is of the bytes whose digest it names.
func TestR52ApprovalNamesItsDigest(t *testing.T) {
	w := One(t, "gates: [{approval: {count: 1}}]\n", pipeline(people+"trustAuthors: true\n"))
	w.Commit("bob", "cut", Release("1.1.0"))
	const file = "channels/staging/approvals/1.1.0/ada.yaml"
	for _, digest := range []string{"sha256:" + strings.Repeat("0", 64), "@digest:1.0.0"} {
		w.Commit("ada", "approve", map[string]string{file: "digest: " + digest + "\n"})
		w.WantBlocked("staging", "approval", "0 of 1")
	}
	w.Commit("ada", "approve", map[string]string{file: "digest: @digest:1.1.0\n"})
	w.WantActions("promote 1.1.0 staging")
}
