package trust_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Each difference of a file that waits is said, so that nobody signs what they did not see.
func TestChanges(t *testing.T) {
	f := founded(t)
	for _, c := range []struct {
		by     string
		change func(*trust.Draft) error
		want   []string
	}{
		{"ada", func(d *trust.Draft) error {
			_, err := d.List(release(t, "2.0.0", "dedicated"))
			return err
		}, []string{"it counts until 2027-11-23", "2.0.0 may run in dedicated: sha256:"}},
		{"ada", func(d *trust.Draft) error {
			_, err := d.Revoke(release(t, "1.0.0").Version, "it leaks")
			return err
		}, []string{"1.0.0 is revoked: it leaks", "1.0.0 is no longer listed"}},
		{"ada", func(d *trust.Draft) error {
			_, err := d.RaiseFloor(release(t, "1.5.0").Version)
			return err
		}, []string{"the floor is 1.5.0, not none", "1.0.0 is no longer listed"}},
		{"ada", func(d *trust.Draft) error {
			return d.Rotate(trust.Rotation{Add: []trust.Key{trusttest.Public("mia")}, Remove: []string{"linus"},
				Channels: []string{"staging"}, Threshold: 3, Online: []trust.Key{trusttest.Public("other")}})
		}, []string{"mia signs trust itself: SHA256:", "linus no longer signs trust itself", "mia signs the policy",
			"trust itself takes 3 signatures, not 2", "channel staging takes only signed releases",
			"signs the engine's timestamp", "mia signs releases"}},
	} {
		before, after := f.read(), tree{}
		for name, data := range f {
			after[name] = data
		}
		after.edit(t, c.by, c.change)
		var lines []string
		waiting := after.read().Waiting
		for _, w := range waiting {
			lines = append(lines, before.Changes(w)...)
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
				t.Errorf("%q is not in %q", want, lines)
			}
		}
		if len(waiting) == 0 {
			t.Error("nothing waits")
		}
	}
	if lines := f.read().Changes(f.read().Releases); len(lines) > 0 {
		t.Errorf("what counts changes %q", lines)
	}
}

// Nobody signs for longer than a year what another signer made.
func TestSignedForTooLong(t *testing.T) {
	for _, file := range []string{"trust/2.root.json", "trust/2.targets.json", "trust/2.releases.json"} {
		for expires, want := range map[string]string{"2027-11-29T00:00:00Z": "",
			"2099-01-01T00:00:00Z": "for 365 days"} {

			f := founded(t)
			f.edit(t, "ada", func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
			f[file] = alter(t, f[file], func(file map[string]any) {
				file["signed"].(map[string]any)["expires"] = expires //nolint:forcetypeassert // TUF's form
			})
			if file == "trust/2.root.json" {
				f[file] = signAgain[metadata.RootType](t, f[file], "ada")
			} else {
				f[file] = signAgain[metadata.TargetsType](t, f[file], "ada")
			}
			d, err := trust.NewDraft(f.read(), now)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Sign(trusttest.Signer("grace"))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s until %s: %v", file, expires, err)
			}
		}
	}
}

// alter changes a file's JSON, which loses what its signatures are worth.
func alter(t *testing.T, data []byte, change func(file map[string]any)) []byte {
	t.Helper()
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	change(file)
	altered, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return altered
}

func setVersion(n int) func(map[string]any) {
	return func(file map[string]any) {
		file["signed"].(map[string]any)["version"] = n //nolint:forcetypeassert // TUF's form
		file["signatures"] = []any{}
	}
}

// What no signer signed is no base of what they sign next, and goes with it, however high its number is.
func TestNobodysFiles(t *testing.T) {
	for _, n := range []string{"2", "999999999"} {
		f := founded(t)
		made := "trust/" + n + ".releases.json"
		f[made] = alter(t, f["trust/1.releases.json"], func(file map[string]any) {
			version := 2
			if n != "2" {
				version = 999999999
			}
			setVersion(version)(file)
			targets := file["signed"].(map[string]any)["targets"].(map[string]any) //nolint:forcetypeassert // TUF's form
			targets["releases/9.9.9"] = targets["releases/1.0.0"]
		})
		l := f.read()
		if len(l.Waiting) > 0 || l.Releases == nil || len(l.Faults) != 1 || !l.Faults[0].Warning {
			t.Fatalf("%s: waits %v, faults %v", n, l.Waiting, l.Faults)
		}
		f.edit(t, "ada", func(d *trust.Draft) error {
			_, err := d.List(release(t, "2.0.0", "dedicated"))
			return err
		})
		f.sign(t, "grace")
		l = f.read()
		if l.Releases.Version != 2 || len(l.Listed) != 2 || l.Listed["9.9.9"].Digest != "" || len(l.Faults) > 0 {
			t.Errorf("%s: version %d lists %v, faults %v", n, l.Releases.Version, l.Listed, l.Faults)
		}
	}
}

// R48: of a role's files only some are read. Made-up numbers above the file that counts do not hide it, and the newest
// of more files than are read is not taken for the newest of all.
func TestManyFiles(t *testing.T) {
	list := func(f tree, n int, by ...string) {
		data := alter(t, f["trust/1.releases.json"], setVersion(n))
		for _, name := range by {
			data = signAgain[metadata.TargetsType](t, data, name)
		}
		f[fmt.Sprintf("trust/%d.releases.json", n)] = data
	}
	unread := func(l *trust.Ledger) (n int) {
		for _, f := range l.Faults {
			if f.Code == manifest.TooLarge && strings.Contains(f.Message, "is not read, nor is any above it") {
				n++
			}
		}
		return n
	}
	f := founded(t)
	for n := range 100 {
		list(f, 2+n, "ada") // one signature: each may be waiting for another
	}
	if l := f.read(); l.Releases == nil || l.Releases.Version != 1 || unread(l) != 1 || len(l.Replaced) != 14 {
		t.Errorf("junk above: %t, %d replaced, %v", l.Releases != nil, len(l.Replaced), l.Faults)
	}
	f = founded(t)
	for n := range 6 {
		list(f, 2+n)
		name := fmt.Sprintf("trust/%d.releases.json", 2+n)
		f[name] = append(f[name], bytes.Repeat([]byte{' '}, manifest.MaxFile-len(f[name]))...)
	}
	if l := f.read(); l.Releases == nil || unread(l) != 1 || len(l.Replaced) != 3 {
		t.Errorf("large junk above: %t, %d replaced, %v", l.Releases != nil, len(l.Replaced), l.Faults)
	}
	f = founded(t)
	all := maps.Clone(f) // nobody removes what newer files replace
	for range 20 {
		f.edit(t, "ada", func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
		f.sign(t, "grace")
		maps.Copy(all, f)
	}
	if l := all.read(); len(l.Roots) != 21 || !l.Damaged() || !l.Binds("staging") || unread(l) != 2 {
		t.Errorf("an old policy counts: %t, %d roots, %v", l.Targets != nil, len(l.Roots), l.Faults)
	}
}

// A signer alone can't use up the numbers of a role's files.
func TestVersionFarAbove(t *testing.T) {
	f := founded(t)
	f.edit(t, "ada", func(d *trust.Draft) error {
		_, err := d.List(release(t, "2.0.0", "dedicated"))
		return err
	})
	far := alter(t, f["trust/2.releases.json"], setVersion(999999998))
	f["trust/999999998.releases.json"] = signAgain[metadata.TargetsType](t, far, "ada")
	delete(f, "trust/2.releases.json")
	l := f.read()
	if len(l.Waiting) > 0 || !manifest.Fatal(l.Faults) || l.Releases == nil || l.Damaged() {
		t.Errorf("waits %v, faults %v", l.Waiting, l.Faults)
	}
	f.edit(t, "grace", func(d *trust.Draft) error {
		_, err := d.List(release(t, "3.0.0", "dedicated"))
		return err
	})
	if f["trust/2.releases.json"] == nil {
		t.Error("the next version is not 2")
	}
}

// A root that can't be read takes away no root below it, and so neither promotions nor ways back.
func TestRootsBelowAnUnreadableOne(t *testing.T) {
	f := founded(t)
	f["trust/2.root.json"] = []byte("{")
	l := f.read()
	v := release(t, "1.0.0").Version
	answer, obstacle := l.Judge("dedicated", v, digest, now), l.Obstacle("dedicated", v, digest)
	if l.Damaged() || l.Root() == nil || !l.Binds("dedicated") || l.Binds("staging") || !answer.Held || obstacle != "" {
		t.Errorf("damaged %v, %+v, %q", l.Damaged(), answer, obstacle)
	}
	f.edit(t, "ada", func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
	f.sign(t, "grace")
	if l = f.read(); len(l.Roots) != 2 || len(l.Faults) > 0 {
		t.Errorf("after a rotation: %d roots, %v", len(l.Roots), l.Faults)
	}
}

// Signatures that the first root loses do not make the repository an unsigned one.
func TestFirstRootDamaged(t *testing.T) {
	for what, change := range map[string]func(tree){
		"without signatures": func(f tree) {
			f["trust/1.root.json"] = alter(t, f["trust/1.root.json"], func(file map[string]any) {
				file["signatures"] = []any{}
			})
		},
		"gone": func(f tree) { delete(f, "trust/1.root.json") },
	} {
		f := founded(t)
		change(f)
		if l := f.read(); !l.Damaged() || !l.Binds("dedicated") || !l.Binds("staging") {
			t.Errorf("%s: damaged %v, faults %v", what, l.Damaged(), l.Faults)
		}
	}
	f := tree{}
	f.edit(t, "ada", func(d *trust.Draft) error {
		return d.Found(trust.Foundation{Signers: []trust.Key{trusttest.Public("ada"), trusttest.Public("grace")},
			Threshold: 2, Online: []trust.Key{trusttest.Public("engine")}, Channels: []string{"dedicated"}})
	})
	if l := f.read(); l.Damaged() || l.Binds("dedicated") {
		t.Errorf("a foundation that waits binds: %v", l.Faults)
	}
}

// Names that differ by case alone are two things to two readers, and one key has one text.
func TestReadInTwoWays(t *testing.T) {
	f := founded(t)
	root := string(f["trust/1.root.json"])
	for what, text := range map[string]string{
		"differ by case":             strings.Replace(root, `"version"`, `"Version": 7, "version"`, 1),
		"not 32 bytes in lower-case": upperKey(root),
	} {
		f["trust/1.root.json"] = []byte(text)
		if l := f.read(); !l.Damaged() || len(l.Faults) == 0 || !strings.Contains(l.Faults[0].Message, what) {
			t.Errorf("%s: %v", what, l.Faults)
		}
	}
}

func upperKey(root string) string {
	at := strings.Index(root, `"public": "`) + len(`"public": "`)
	return root[:at] + strings.ToUpper(root[at:at+64]) + root[at+64:]
}

// signAgain gives a file one signature, in the place of those that it has.
func signAgain[T metadata.Roles](t *testing.T, data []byte, by string) []byte {
	t.Helper()
	m, err := new(metadata.Metadata[T]).FromBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := trusttest.Signer(by).Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	m.Signatures = []metadata.Signature{{KeyID: trusttest.KeyID(by), Signature: signature}}
	if data, err = m.ToBytes(true); err != nil {
		t.Fatal(err)
	}
	return data
}
