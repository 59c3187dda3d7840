package trust_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

var digest = releases.DigestBytes([]byte("1.0.0"))

// tree is a repository's trust folder.
type tree map[string][]byte

func (f tree) fs() fs.FS {
	m := fstest.MapFS{}
	for name, data := range f {
		m[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	return m
}

func (f tree) read() *trust.Ledger { return trust.Read(nil, f.fs()) }

// edit changes the folder in a signer's name.
func (f tree) edit(t testing.TB, by string, change func(*trust.Draft) error) {
	t.Helper()
	d, err := trust.NewDraft(f.read(), now)
	if err == nil {
		err = change(d)
	}
	if err != nil {
		t.Fatalf("%s: %v", by, err)
	}
	if _, err := d.Sign(trusttest.Signer(by)); err != nil {
		t.Fatalf("%s signs: %v", by, err)
	}
	files, err := d.Files()
	if err != nil {
		t.Fatalf("%s writes: %v", by, err)
	}
	for name, data := range files {
		if f[name] = data; data == nil {
			delete(f, name)
		}
	}
}

func (f tree) sign(t testing.TB, by string) {
	t.Helper()
	f.edit(t, by, func(*trust.Draft) error { return nil })
}

func release(t testing.TB, text string, channels ...string) trust.Release {
	v, err := releases.ParseVersion(text)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Release{Version: v, Digest: releases.DigestBytes([]byte(text)), Length: 5, Channels: channels}
}

// founded is a folder that ada, grace and linus founded for dedicated, with 1.0.0 signed.
func founded(t testing.TB) tree {
	t.Helper()
	f := tree{}
	f.edit(t, "ada", func(d *trust.Draft) error {
		if err := d.Found(trust.Foundation{Signers: []trust.Key{trusttest.Public("ada"), trusttest.Public("grace"),
			trusttest.Public("linus")}, Threshold: 2, Online: []trust.Key{trusttest.Public("engine")},
			Channels: []string{"dedicated"}}); err != nil {
			return err
		}
		_, err := d.List(release(t, "1.0.0", "dedicated"))
		return err
	})
	f.sign(t, "grace")
	if l := f.read(); len(l.Faults) > 0 || len(l.Waiting) > 0 || len(l.Counting()) != 3 {
		t.Fatalf("founded: %v, waiting %v", l.Faults, l.Waiting)
	}
	return f
}

// judge says what the signers say of a release in dedicated.
func (f tree) judge(t testing.TB, text string) trust.Answer {
	t.Helper()
	r := release(t, text)
	return f.read().Judge("dedicated", r.Version, r.Digest, now)
}

func TestSignaturesAreCounted(t *testing.T) {
	f := founded(t)
	if a := f.judge(t, "1.0.0"); !a.Held || a.Words != "2 of 2 signatures: ada, grace" ||
		a.Until != now.Add(trust.Lifetime) {
		t.Errorf("1.0.0: %+v", a)
	}
	if a := f.judge(t, "1.1.0"); a.Held || a.Refused ||
		a.Words != "no signature; needs 2 of ada, grace, linus: sluice trust sign 1.1.0" {
		t.Errorf("1.1.0: %+v", a)
	}
	list := func(text string) func(*trust.Draft) error {
		return func(d *trust.Draft) error {
			_, err := d.List(release(t, text, "dedicated"))
			return err
		}
	}
	f.edit(t, "ada", list("1.1.0"))
	if a := f.judge(t, "1.1.0"); a.Held || a.Words != "1 of 2 signatures: ada; needs one of grace, linus" {
		t.Errorf("1.1.0: %+v", a)
	}
	if a := f.judge(t, "1.0.0"); !a.Held {
		t.Errorf("1.0.0 while more is proposed: %+v", a)
	}
	f.edit(t, "grace", list("1.2.0")) // replaces what waits: ada signed less
	if a := f.judge(t, "1.1.0"); a.Words != "1 of 2 signatures: grace; needs one of ada, linus" {
		t.Errorf("1.1.0: %+v", a)
	}
	f.sign(t, "ada")
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		if a := f.judge(t, v); !a.Held {
			t.Errorf("%s: %+v", v, a)
		}
	}
	if names := slices.Sorted(maps.Keys(f)); !slices.Equal(names,
		[]string{"trust/1.releases.json", "trust/1.root.json", "trust/1.targets.json", "trust/3.releases.json"}) {
		t.Errorf("files %v", names)
	}
	f.edit(t, "linus", list("1.3.0")) // and what was replaced goes
	if _, there := f["trust/1.releases.json"]; there {
		t.Error("a replaced file stays")
	}
}

func TestJudgeRefuses(t *testing.T) {
	f := founded(t)
	l, r := f.read(), release(t, "1.0.0")
	for name, a := range map[string]trust.Answer{
		"signed 1.0.0 with digest": l.Judge("dedicated", r.Version, release(t, "1.1.0").Digest, now),
		"not for staging":          l.Judge("staging", r.Version, r.Digest, now),
		"expired at":               l.Judge("dedicated", r.Version, r.Digest, now.Add(trust.Lifetime)),
	} {
		if a.Held || !a.Refused || !strings.Contains(a.Words, name) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := l.Judge("dedicated", r.Version, r.Digest, now.Add(trust.Lifetime-time.Hour)); !a.Held ||
		!strings.Contains(a.Words, "expires at") {
		t.Errorf("soon to expire: %+v", a)
	}
	if why := l.Obstacle("dedicated", r.Version, r.Digest); why != "" {
		t.Errorf("no way back: %s", why)
	}
}

// Who signs is changed by two of those before and two of those after; who is gone can't sign; until then all counts as
// before.
func TestRotation(t *testing.T) {
	f := founded(t)
	f.edit(t, "ada", func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{Add: []trust.Key{trusttest.Public("mia")}, Remove: []string{"linus"}})
	})
	f.sign(t, "mia")
	if l := f.read(); l.Root().Version != 1 || !f.judge(t, "1.0.0").Held {
		t.Errorf("root %d counts after one signature of those before", l.Root().Version)
	}
	f.sign(t, "linus") // may agree to going
	l := f.read()
	if l.Root().Version != 2 || len(l.Waiting) > 0 || !f.judge(t, "1.0.0").Held {
		t.Errorf("root %d, waiting %v, %+v", l.Root().Version, l.Waiting, f.judge(t, "1.0.0"))
	}
	var names []string
	for _, k := range l.Signers() {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"ada", "grace", "mia"}) {
		t.Errorf("signers %v", names)
	}
	d, err := trust.NewDraft(l, now)
	if err != nil {
		t.Fatal(err)
	}
	if d.MaySign(trusttest.Public("linus")) || d.MaySign(trusttest.Public("engine")) ||
		!d.MaySign(trusttest.Public("mia")) {
		t.Error("the wrong people may sign")
	}
}

// A signer who is removed takes the signatures along: nothing runs until the others signed what counts.
func TestRemovedSignersSignaturesDoNotCount(t *testing.T) {
	f := founded(t)
	before := maps.Clone(f)
	f.edit(t, "ada", func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{Remove: []string{"grace"}})
	})
	f.sign(t, "linus")
	for _, name := range []string{"trust/1.targets.json", "trust/1.releases.json"} {
		f[name] = before[name]
	}
	delete(f, "trust/2.targets.json")
	delete(f, "trust/2.releases.json")
	l := f.read()
	if l.Root().Version != 2 || l.Targets != nil || !l.Binds("dedicated") {
		t.Fatalf("root %d, targets %v", l.Root().Version, l.Targets)
	}
	if a := f.judge(t, "1.0.0"); a.Held || !a.Refused {
		t.Errorf("1.0.0: %+v", a)
	}
}

func TestDraftRefuses(t *testing.T) {
	ada, grace, engine := trusttest.Public("ada"), trusttest.Public("grace"), trusttest.Public("engine")
	found := func(signers []trust.Key, threshold int, online ...trust.Key) error {
		d, err := trust.NewDraft(nil, now)
		if err != nil {
			return err
		}
		return d.Found(trust.Foundation{Signers: signers, Threshold: threshold, Online: online,
			Channels: []string{"x"}})
	}
	both := []trust.Key{ada, grace}
	same := trust.Key{Name: "eve", Public: ada.Public}
	for name, err := range map[string]error{
		"threshold 0":       found(both, 0, engine),
		"threshold 1":       found(both, 1, engine),
		"threshold 3 of 2":  found(both, 3, engine),
		"a name twice":      found([]trust.Key{ada, {Name: "ada", Public: grace.Public}}, 2, engine),
		"a key twice":       found([]trust.Key{ada, same}, 2, engine),
		"a signer's online": found(both, 2, ada),
		"no online key":     found(both, 2),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	d, err := trust.NewDraft(founded(t).read(), now)
	if err != nil {
		t.Fatal(err)
	}
	other := release(t, "1.0.0", "dedicated")
	other.Digest = release(t, "9.9.9").Digest
	if _, err := d.List(other); err == nil {
		t.Error("a listed release got another digest")
	}
	if err := d.Rotate(trust.Rotation{Online: []trust.Key{grace}}); err == nil {
		t.Error("a signer's key went online")
	}
}

// What counts can't be changed by whoever may push: every change of a byte, a missing file, and what is too large,
// leads to nothing, or to what was signed before.
func TestLedgerOfDamagedFolders(t *testing.T) {
	good := founded(t)
	want := release(t, "1.0.0")
	for name := range good {
		missing := maps.Clone(good)
		delete(missing, name)
		large := maps.Clone(good)
		large[name] = append(slices.Clone(good[name]), make([]byte, 5<<20)...)
		renamed := maps.Clone(good)
		renamed[strings.Replace(name, "/1.", "/7.", 1)] = good[name]
		delete(renamed, name)
		for what, f := range map[string]tree{"missing": missing, "large": large, "renamed": renamed} {
			l := f.read()
			if !l.Binds("dedicated") {
				t.Errorf("%s %s: dedicated is free", name, what)
			}
			if a := l.Judge("dedicated", want.Version, want.Digest, now); a.Held {
				t.Errorf("%s %s: %+v", name, what, a)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := maps.Clone(good)
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(good))).Draw(t, "file")
		data := slices.Clone(good[name])
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		data[at] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		f[name] = data
		l := f.read()
		if other := releases.DigestBytes([]byte("9.9.9")); l.Root() != nil && l.Targets != nil &&
			l.Judge("dedicated", want.Version, other, now).Held {
			t.Fatalf("another digest is held")
		}
		if l.Targets != nil && slices.Contains(l.Channels(), "dedicated") {
			return
		}
		if !l.Binds("dedicated") {
			t.Fatalf("byte %d of %s frees the channel: %v", at, name, l.Faults)
		}
	})
}

// A malformed file is a fault of its path; go-tuf alone would panic at some.
func TestFaults(t *testing.T) {
	good := founded(t)
	change := func(name, from, to string) tree {
		f := maps.Clone(good)
		text := string(good[name])
		if !strings.Contains(text, from) {
			t.Fatalf("%s has no %q", name, from)
		}
		f[name] = []byte(strings.Replace(text, from, to, 1))
		return f
	}
	add := func(name, text string) tree {
		f := maps.Clone(good)
		f[name] = []byte(text)
		return f
	}
	const root, targets, list = "trust/1.root.json", "trust/1.targets.json", "trust/1.releases.json"
	for _, c := range []struct {
		name string
		tree tree
		want string
		code manifest.FaultCode
	}{
		{"threshold 0", change(root, `"threshold": 2`, `"threshold": 0`), "threshold 0", manifest.WrongValue},
		{"a null", change(targets, `"targets": {}`, `"targets": {"x": null}`), "null", manifest.WrongType},
		{"spec_version", change(list, `"1.0.31"`, `"2.0.0"`), "spec_version", manifest.WrongValue},
		{"another version inside", change(list, `"version": 1`, `"version": 4`), "version 4 inside", manifest.Conflict},
		{"a field twice", change(list, `"version": 1`, `"version": 1, "version": 1`), "version", manifest.Duplicate},
		{"an old chain", add("trust/3.root.json", string(good[root])), "version 1 inside", manifest.Conflict},
		{"no JSON", add(list, "{"), "JSON", manifest.Syntax},
		{"unknown", add("trust/README.md", "hello"), "is not read", manifest.Unused},
		{"short key", change(root, `"public": "`, `"public": "ab`), "32 bytes", manifest.WrongValue},
	} {
		l := c.tree.read()
		if !slices.ContainsFunc(l.Faults, func(f manifest.Fault) bool {
			return strings.Contains(f.Message, c.want) && f.Code == c.code
		}) {
			t.Errorf("%s: %v", c.name, l.Faults)
		}
	}
	f := maps.Clone(good)
	f.edit(t, "ada", func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
	f["trust/3.root.json"] = []byte(strings.Replace(string(f["trust/2.root.json"]), `"version": 2`, `"version": 3`, 1))
	if l := f.read(); l.Root().Version != 1 || !manifest.Fatal(l.Faults) {
		t.Errorf("root 3 on one that waits: root %d, %v", l.Root().Version, l.Faults)
	}
}

// A signer changes what waits, and not what counts.
func TestMayChange(t *testing.T) {
	f := founded(t)
	for range 2 {
		f.edit(t, "ada", func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
		f.sign(t, "grace")
	}
	l := f.read()
	ada, engine := trusttest.Public("ada").Line(), trusttest.Public("engine").Line()
	for file, may := range map[string]bool{"trust/1.root.json": false, "trust/3.releases.json": false,
		"trust/4.releases.json": true, "trust/4.root.json": true,
		"trust/1.releases.json": false, // would be read before the one that counts
	} {
		if l.MayChange(file, ada) != may || l.MayChange(file, engine) || l.MayChange(file, "") {
			t.Errorf("%s: ada %v, engine %v", file, l.MayChange(file, ada), l.MayChange(file, engine))
		}
	}
	var none *trust.Ledger
	if none.MayChange("trust/1.root.json", ada) || none.Binds("dedicated") || none.Channels() != nil {
		t.Error("a repository without trust files has signers")
	}
}

// The list is bounded, and a floor makes room.
func TestListIsBounded(t *testing.T) {
	d, err := trust.NewDraft(founded(t).read(), now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range trust.MaxReleases {
		if _, err = d.List(release(t, fmt.Sprintf("2.%d.0", i), "dedicated")); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "raise the floor") {
		t.Errorf("got %v", err)
	}
	if _, err := d.RaiseFloor(release(t, "2.200.0").Version); err != nil {
		t.Fatal(err)
	}
	if _, err := d.List(release(t, "3.0.0", "dedicated")); err != nil {
		t.Error(err)
	}
}

// The files are what any client of TUF reads: canonical names, one hash, RFC 3339 in UTC.
func TestFilesAreTUF(t *testing.T) {
	var file struct {
		Signed struct {
			Type    string `json:"_type"`
			Expires string
			Targets map[string]struct {
				Hashes map[string]string
				Length int64
			}
		}
	}
	if err := json.Unmarshal(founded(t)["trust/1.releases.json"], &file); err != nil {
		t.Fatal(err)
	}
	target := file.Signed.Targets["releases/1.0.0"]
	if file.Signed.Type != "targets" || file.Signed.Expires != "2027-11-23T09:30:00Z" || len(target.Hashes) != 1 ||
		target.Hashes["sha256"] != digest.Hex() || target.Length != 5 {
		t.Errorf("%+v", file)
	}
}

// People are told weeks ahead that nothing new will run.
func TestExpiryIsForeseen(t *testing.T) {
	l, err := trusttest.Ledger(now, []string{"staging"})
	if err != nil {
		t.Fatal(err)
	}
	if notes := l.Expiring(now.Add(300 * 24 * time.Hour)); len(notes) > 0 {
		t.Errorf("65 days ahead: %v", notes)
	}
	notes := l.Expiring(now.Add(330 * 24 * time.Hour))
	if len(notes) != 3 || !strings.Contains(notes[0], "trust/1.root.json expires at 2027-11-23") ||
		!strings.Contains(notes[2], "sluice trust rotate") {
		t.Errorf("35 days ahead: %v", notes)
	}
	if l = nil; l.Expiring(now) != nil {
		t.Error("nothing expires where nothing is signed")
	}
}
