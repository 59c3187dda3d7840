package plan_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// signing changes a world's trust files in the names of signers, without a commit.
func signing(t *testing.T, w *World, change func(*trust.Draft) error, by ...string) map[string]string {
	t.Helper()
	d, err := trust.NewDraft(w.Desired().Trust, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := change(d); err != nil {
		t.Fatal(err)
	}
	for _, name := range by {
		if _, err := d.Sign(trusttest.Signer(name)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := d.Files()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, data := range files {
		texts[name] = string(data)
	}
	return texts
}

func listing(t *testing.T, w *World, versions ...string) func(*trust.Draft) error {
	return func(d *trust.Draft) error {
		for _, text := range versions {
			v, err := releases.ParseVersion(text)
			if err != nil {
				t.Fatal(err)
			}
			r := trust.Release{Version: v, Digest: w.Digest(text), Length: 1, Channels: []string{"staging"}}
			if _, err := d.List(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func founding(t *testing.T, w *World, versions ...string) func(*trust.Draft) error {
	return func(d *trust.Draft) error {
		if err := d.Found(trust.Foundation{Signers: []trust.Key{trusttest.Public("ada"), trusttest.Public("grace"),
			trusttest.Public("linus")}, Threshold: 2, Online: []trust.Key{trusttest.Public("engine")},
			Channels: []string{"staging"}}); err != nil {
			return err
		}
		return listing(t, w, versions...)(d)
	}
}

// nothing signs what waits.
func nothing(*trust.Draft) error { return nil }

// A channel that needs signatures takes what is signed, even if a greater release is not. Other channels go on.
func TestSignedReleases(t *testing.T) {
	w := One(t, "")
	w.Commit("ada", "found", signing(t, w, founding(t, w, "1.0.0"), "ada", "grace"))
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Commit("bob", "another", Policy("other", ""))
	w.WantBlocked("staging", "signed", "no signature; needs 2 of ada, grace, linus: sluice trust sign 1.2.0")
	w.WantActions("promote 1.2.0 other")
	if notes := strings.Join(w.Desired().Notes(), "\n"); !strings.Contains(notes, "trust: unsigned channels: other: ") {
		t.Errorf("notes %s", notes)
	}
	w.Commit("ada", "sign", signing(t, w, listing(t, w, "1.1.0"), "ada"))
	w.Commit("grace", "sign", signing(t, w, nothing, "grace"))
	w.WantActions("promote 1.1.0 staging")
	w.InstallAll()
	w.Commit("ada", "sign", signing(t, w, listing(t, w, "1.2.0"), "ada"))
	w.Commit("linus", "sign", signing(t, w, nothing, "linus"))
	w.WantActions("promote 1.2.0 staging")
	w.Commit("bob", "cut", Release("1.3.0"))
	w.Now = w.Now.Add(trust.Lifetime)
	w.WantBlocked("staging", "signed", "expired at")
}

// R6: what can't be read of the signers' files does not mean "unsigned".
func TestDamagedTrustStopsPromotions(t *testing.T) {
	w := One(t, "")
	w.Commit("ada", "found", signing(t, w, founding(t, w, "1.0.0"), "ada", "grace"))
	w.Commit("bob", "cut", Release("1.1.0"))
	for _, name := range []string{"trust/1.root.json", "trust/1.targets.json"} {
		was := w.Files[name]
		w.Commit("eve", "break", map[string]string{name: "{"})
		w.WantBlocked("staging", "signed", "no N.targets.json in trust counts")
		w.Commit("bob", "mend", map[string]string{name: was})
	}
}

// R52: where there are owners, signers add files and sign what waits; what counts is changed by owners alone.
func TestR52OwnersOfTrust(t *testing.T) {
	w := ownedWorld(t)
	for _, name := range []string{"grace", "linus"} {
		w.Signs[name] = trusttest.Public(name).Line()
	}
	none := map[string]string{"trust/1.root.json": "", "trust/1.targets.json": "", "trust/1.releases.json": ""}
	first := signing(t, w, founding(t, w, "1.0.0"), "ada", "grace")
	w.Commit("linus", "found", first)
	if l := w.Desired().Trust; l != nil && len(l.Channels()) > 0 {
		t.Error("one who is no owner founded the trust")
	}
	w.Commit("ada", "found", none)
	w.Commit("ada", "found", first)
	if l := w.Desired().Trust; len(l.Channels()) != 1 {
		t.Fatalf("an owner founded nothing: %v", w.Desired().Faults)
	}
	for _, by := range []string{"mallory", "grace", "bob"} {
		was := maps.Clone(w.Files)
		w.Commit(by, "unsign", none)
		if l := w.Desired().Trust; len(l.Channels()) != 1 {
			t.Errorf("%s made the channel unsigned", by)
		}
		wantWithheld(t, w, "trust/1.releases.json", "trust/1.root.json", "trust/1.targets.json")
		back := map[string]string{}
		for _, name := range []string{"trust/1.root.json", "trust/1.targets.json", "trust/1.releases.json"} {
			back[name] = was[name]
		}
		w.Commit("bob", "put back", back)
		wantWithheld(t, w)
	}
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Commit("grace", "sign", signing(t, w, listing(t, w, "1.1.0"), "grace"))
	w.WantBlocked("staging", "signed", "1 of 2 signatures: grace; needs one of ada, linus")
	w.Commit("linus", "sign", signing(t, w, nothing, "linus"))
	w.WantActions("promote 1.1.0 staging")
}

// No way leads back to what signers revoked or never signed.
func TestSignersBindRollbacks(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Run()
	w.Commit("ada", "found", signing(t, w, founding(t, w, "1.1.0"), "ada", "grace"))
	w.Commit("bob", "back", map[string]string{"channels/staging/head.yaml": strings.Replace(
		w.Files["channels/staging/head.yaml"], "release: 1.1.0", "release: 1.0.0", 1)})
	w.WantBlocked("staging", "request", "the signers did not sign 1.0.0")
	w.Commit("ada", "sign", signing(t, w, listing(t, w, "1.0.0"), "ada", "grace"))
	w.WantActions("rollback 1.0.0 staging")
}

// Neither a hotfix nor a person whom gates do not bind gets a release past the signers: cells would refuse it.
func TestSignersBindPeopleAndHotfixes(t *testing.T) {
	w := One(t, "people: free\npromote: manual\n")
	w.Commit("ada", "found", signing(t, w, founding(t, w, "1.0.0"), "ada", "grace"))
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Commit("bob", "want", map[string]string{"channels/staging/head.yaml": strings.Replace(
		w.Files["channels/staging/head.yaml"], "release: 1.0.0", "release: 1.1.0", 1)})
	w.WantBlocked("staging", "signed", "no signature")
	w.Commit("bob", "hotfix", map[string]string{"channels/staging/hotfixes/1.1.0.yaml": "digest: " +
		string(w.Digest("1.1.0")) + "\nreason: urgent\nexpiry: 2026-12-24T00:00:00Z\n"})
	w.WantBlocked("staging", "signed", "no signature")
	w.Commit("ada", "sign", signing(t, w, listing(t, w, "1.1.0"), "ada", "linus"))
	w.WantActions("promote 1.1.0 staging")
}

// Cells verify a head that the engine's online key signed: in the promotion's own commit, and again before it expires.
func TestSignedHeads(t *testing.T) {
	w := One(t, "")
	engine := trusttest.Signer("engine")
	w.Obs.Key, w.Signer = trusttest.Public("engine").Line(), &engine
	w.Signs = map[string]string{"sluice": w.Obs.Key}
	w.Run() // lists the engine's key
	w.Commit("ada", "found", signing(t, w, founding(t, w, "1.0.0"), "ada", "grace"))
	file := trust.HeadFileName("staging")
	head := func() *trust.Head {
		t.Helper()
		h := w.Desired().SignedHeads["staging"]
		if h == nil {
			t.Fatalf("no signed head: %q", w.Files[file])
		}
		return h
	}
	w.WantActions("sign  ")
	w.WantActions("")
	first := head()
	if first.Release != "1.0.0" || first.Digest != w.Digest("1.0.0") {
		t.Errorf("the head is %s, %s", first.Release, first.Digest)
	}
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Commit("ada", "sign", signing(t, w, listing(t, w, "1.1.0"), "ada", "linus"))
	w.WantActions("promote 1.1.0 staging")
	w.InstallAll()
	if h := head(); h.Release != "1.1.0" || h.Version <= first.Version {
		t.Errorf("after the promotion the head is %s, version %d after %d", h.Release, h.Version, first.Version)
	}
	w.WantActions("")
	was, due := head(), head().Expires.Add(-trust.HeadLifetime/2)
	if next := w.Plan().NextInContact; next.IsZero() || next.After(due) {
		t.Errorf("the head is due at %s, and the next plan is at %s", due, next)
	}
	w.Now = due
	w.WantActions("sign  ")
	if h := head(); h.Version <= was.Version || !h.Expires.After(was.Expires) {
		t.Errorf("signed again, the head has version %d after %d", h.Version, was.Version)
	}
	older := w.Files[file]
	w.Now = w.Now.Add(time.Hour)
	w.Commit("eve", "remove", map[string]string{file: ""})
	w.WantActions("sign  ")
	for name, damaged := range map[string]string{"removed": "", "damaged": "{", "older": older,
		"of another key": strings.ReplaceAll(
			w.Files[file], trusttest.KeyID("engine"), trusttest.KeyID("mallory"))} {
		w.Commit("eve", name, map[string]string{file: damaged})
		w.WantActions("sign  ")
		w.WantActions("")
	}
	w.Obs.Refused[plan.HeadPushes] = plan.Refusal{Reason: "protected", Until: w.Now.Add(1)}
	w.Commit("eve", "remove", map[string]string{file: ""})
	w.WantActions("")
}
