package releases_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const image = "registry.example/server@sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

func releaseYAML(version string) string {
	return "apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\ncomponents:\n  - {name: server, image: \"" +
		image + "\"}\n"
}

// repositoryFS makes a release for each version, and further files by path below releases/.
func repositoryFS(versions []string, further map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	put := func(name, content string) {
		m[path.Join("releases", name)] = &fstest.MapFile{Data: []byte(content)}
	}
	for _, v := range versions {
		put(v+"/release.yaml", releaseYAML(v))
		put(v+"/kustomization.yaml", "resources: [service.yaml]\n")
		put(v+"/service.yaml", "kind: Service\n")
	}
	for name, content := range further {
		put(name, content)
	}
	return m
}

func messagesOf(faults []manifest.Fault) []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.String())
	}
	return all
}

// Each forbidden name, kind of file and exceeded limit is a fault.
func TestCodesOfFiles(t *testing.T) {
	for name, want := range map[string]manifest.FaultCode{
		"1.0.0/.gitattributes":                       manifest.WrongName,
		"1.0.0/Service.yaml":                         manifest.WrongName,
		"1.0.0/" + strings.Repeat("d/", 40) + "deep": manifest.TooLarge,
		"1.0.0/" + strings.Repeat("long", 60) + "/" + strings.Repeat("long", 100): manifest.TooLarge,
	} {
		_, faults := releases.Load(nil, repositoryFS([]string{"1.0.0"}, map[string]string{name: "x"}), nil, nil)
		if !slices.ContainsFunc(faults, func(f manifest.Fault) bool { return f.Code == want }) {
			t.Errorf("%.30s: %v, none of them %s", name, faults, want)
		}
	}
}

func TestLoad(t *testing.T) {
	m := repositoryFS([]string{"2026.9.0", "2026.10.0", "2026.10.0-rc.1"}, map[string]string{"README.md": "about"})
	set, faults := releases.Load(nil, m, nil, nil)
	if diff := cmp.Diff([]string{"releases/README.md: warning: is not read: a release is a folder"},
		messagesOf(faults)); diff != "" {
		t.Error(diff)
	}
	var order []string
	for _, e := range set.Versions {
		order = append(order, e.Version.String())
		want, err := releases.DigestOf(m, "releases/"+e.Version.String())
		if err != nil || e.Digest != want || !e.Loaded || len(e.Faults) > 0 || set.Releases[e.Version.String()] != e {
			t.Errorf("%+v, digest %s, %v", e, want, err)
		}
	}
	if diff := cmp.Diff([]string{"2026.9.0", "2026.10.0-rc.1", "2026.10.0"}, order); diff != "" {
		t.Error(diff)
	}
	if dir, ok := set.Releases["2026.10.0"].Profile(""); dir != "." || !ok {
		t.Error("no default profile")
	}
	if set, faults := releases.Load(nil, fstest.MapFS{}, nil, nil); len(set.Versions)+len(faults) > 0 {
		t.Error("a repository without releases is one with none:", faults)
	}
}

// Fault 43: two releases that tie are no candidates; a folder that is no version is reported and left out.
func TestLoadTies(t *testing.T) {
	set, faults := releases.Load(nil, repositoryFS([]string{"1.2.3", "v1.2.3", "1.10.0"},
		map[string]string{"latest/x": ""}), nil, nil)
	want := []string{
		"releases/1.2.3: is the same version as v1.2.3: remove one of the two",
		`releases/latest: "latest" is not a version ([v]N.N.N[-pre]): it needs three numbers`,
		"releases/v1.2.3: is the same version as 1.2.3: remove one of the two",
	}
	if diff := cmp.Diff(want, messagesOf(faults)); diff != "" {
		t.Error(diff)
	}
	if len(set.Releases) != 3 || len(set.Releases["1.2.3"].Faults) != 1 || len(set.Releases["v1.2.3"].Faults) != 1 ||
		len(set.Releases["1.10.0"].Faults) != 0 {
		t.Errorf("%+v", set.Releases)
	}
}

func TestLoadWanted(t *testing.T) {
	m := repositoryFS([]string{"1.0.0", "1.1.0"}, map[string]string{"1.0.0/release.yaml": "broken"})
	set, faults := releases.Load(nil, m, &releases.Wanted{
		Then: func(v releases.Version) bool { return v.String() == "1.1.0" },
	}, nil)
	if len(faults) > 0 || set.Releases["1.0.0"].Loaded || set.Releases["1.0.0"].Digest != "" ||
		!set.Releases["1.1.0"].Loaded {
		t.Error(faults)
	}
}

func TestLoadTombstone(t *testing.T) {
	digest := releases.DigestBytes(nil)
	stone := "apiVersion: sluice/v1\nkind: Tombstone\nversion: 1.0.0\ndigest: " + string(digest) + "\nreason: old\n"
	set, faults := releases.Load(nil, repositoryFS(nil, map[string]string{"1.0.0/tombstone.yaml": stone}), nil, nil)
	e := set.Releases["1.0.0"]
	if len(faults) > 0 || e.Tombstone == nil || e.Tombstone.Reason != "old" || e.Digest != digest ||
		e.Version.String() != "1.0.0" {
		t.Error(e, faults)
	}
	_, faults = releases.Load(nil, repositoryFS([]string{"1.0.0"}, map[string]string{"1.0.0/tombstone.yaml": stone}),
		nil, nil)
	if len(faults) != 1 || !strings.Contains(faults[0].Message, "has other files beside it") {
		t.Error(faults)
	}
}

// A release's faults are all reported at once, with their lines, and leave other releases alone.
func TestLoadFaults(t *testing.T) {
	const head = "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n"
	for _, test := range []struct {
		name, in string
		want     []string // without the file's name
	}{
		{"another version", strings.Replace(head, "1.0.0", "1.0.1", 1),
			[]string{"3: version is 1.0.1, but the folder's name is 1.0.0"}},
		{"the same version, written otherwise", strings.Replace(head, "1.0.0", "v1.0.0", 1),
			[]string{"3: version is v1.0.0, but the folder's name is 1.0.0"}},
		{"not a version", strings.Replace(head, "1.0.0", "1.0", 1),
			[]string{`3: version: "1.0" is not a version ([v]N.N.N[-pre]): it needs three numbers`}},
		{"images", head + "components:\n- {name: a, image: x}\n- {name: a, image: x@sha256:1}\n", []string{
			"5: warning: image x has no digest: what soaks may not be what ships", "6: component a is there twice",
			`6: image x@sha256:1: "sha256:1" is not a digest: it needs sha256: and 64 lower-case hex digits`}},
		{"lists", head + "features: [a, b, a]\nfixes:\n- x\n- ''\n",
			[]string{"4: a is there twice", "7: an entry of fixes is empty"}},
		{"requires", head + "requires:\n  infrastructure: -1\n  from: 2.0.0\n", []string{
			"5: requires.infrastructure is a template's number, not -1",
			"6: requires.from is 2.0.0, greater than the release: no cell could install it"}},
		{"rollback", head + "rollback: never\n", []string{`4: rollback must be allowed or forward-only, not "never"`}},
		{"parameters", head + `parameters:
  a: {type: integer, default: x}
  b: {type: string, minimum: 1}
  c: {type: number, minimum: 2, maximum: 1, pattern: x}
  d: {type: string, pattern: "["}
  e: {type: integer, default: 5, maximum: 4}
  f: {type: string, enum: [x, y], default: z}
  g: {type: string, pattern: "[a-z]+", default: a1}
  h: {type: boolean, required: true, default: true}
  "i j": {type: string}
  k: {type: text}
  l: {type: integer, default: 1.5}
  m: {type: string, owner: nobody}
  n: {type: string, default: 1}
`, []string{
			"5: parameter a: its default must be a number, not x",
			"6: parameter b: minimum and maximum are for integer and number, not string",
			"7: parameter c: minimum 2 is above maximum 1",
			"7: parameter c: pattern and enum are for string, not number",
			"8: parameter d: pattern: error parsing regexp: missing closing ]: `[`",
			"9: parameter e: its default must be at most 4, not 5",
			`10: parameter f: its default must be x or y, not "z"`,
			`11: parameter g: its default must match [a-z]+, and "a1" does not`,
			"12: warning: parameter h is required: its default is never used",
			`13: "i j" can't be a parameter's name: it takes at most 63 letters, digits, -, _ and ., and begins with a letter`,
			`14: parameters.k.type must be string or integer or number or boolean, not "text"`,
			"15: parameter l: its default must be a whole number, not 1.5",
			`16: parameters.m.owner must be vendor or cell, not "nobody"`,
			"17: parameter n: its default must be a string, not 1",
		}},
		{"profiles", head + "profiles:\n  default: .\n  a: ../1.1.0\n  b: /etc\n  c: none\n  d: bare\n  E: .\n",
			[]string{
				`6: profile a: "../1.1.0" is not a folder of the release`,
				`7: profile b: "/etc" is not a folder of the release`,
				"8: profile c: there is no folder none in the release",
				"9: profile d: folder bare has no kustomization.yaml",
				`10: "E" can't be a profile's name: it takes at most 63 lower-case letters, digits and -`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := repositoryFS([]string{"1.0.0", "1.1.0"},
				map[string]string{"1.0.0/release.yaml": test.in, "1.0.0/bare/x": ""})
			set, faults := releases.Load(nil, m, nil, nil)
			var want []string
			for _, w := range test.want {
				want = append(want, "releases/1.0.0/release.yaml:"+w)
			}
			if diff := cmp.Diff(want, messagesOf(faults)); diff != "" {
				t.Error(diff)
			}
			if e := set.Releases["1.1.0"]; len(e.Faults) > 0 || e.Digest == "" {
				t.Error("another release has faults too:", e.Faults)
			}
			if e := set.Releases["1.0.0"]; len(e.Faults) != len(faults) || e.Version.String() != "1.0.0" ||
				e.Digest == "" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestLoadFaultsOfTheFolder(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no release.yaml": {map[string]string{"1.0.0/kustomization.yaml": "resources: []\n"},
			"releases/1.0.0/release.yaml: is missing: a release needs one"},
		"no kustomization": {map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0")},
			"releases/1.0.0/release.yaml:1: the release has no kustomization.yaml beside it, and names no profiles that have one"},
		"remote base (fault 30)": {map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0"),
			"1.0.0/kustomization.yaml": "resources:\n- https://x/y\n"},
			`releases/1.0.0/kustomization.yaml:2: "https://x/y" is a URL: a release must contain all it is made of; copy it in`},
		"nested attributes (R23)": {map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0"),
			"1.0.0/kustomization.yaml": "resources: []\n", "1.0.0/.gitattributes": "* text\n"},
			"releases/1.0.0/.gitattributes: a release can't have a .gitattributes: it could change the bytes on their way through git"},
		"LFS pointer (R23)": {map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0"),
			"1.0.0/kustomization.yaml": "resources: []\n", "1.0.0/big": "version https://git-lfs.github.com/spec/v1\n"},
			"releases/1.0.0/big: is a Git LFS pointer: a release must hold the content itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := releases.Load(nil, repositoryFS(nil, test.files), nil, nil)
			if diff := cmp.Diff([]string{test.want}, messagesOf(faults)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// commitFS has object ids for the folders of a repository, as a git commit does, and counts opened files.
type commitFS struct {
	fstest.MapFS
	mu     sync.Mutex
	opened int
}

func (c *commitFS) Open(name string) (fs.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Count(name, "/") > 1 {
		c.opened++
	}
	return c.MapFS.Open(name)
}

func TestLoadReadsATreeOnce(t *testing.T) {
	c := &commitFS{MapFS: repositoryFS([]string{"1.0.0", "1.1.0"}, nil)}
	for _, v := range []string{"1.0.0", "1.1.0"} {
		c.MapFS["releases/"+v] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: "tree of " + v}
	}
	var cache manifest.Cache
	first, _ := releases.Load(&cache, c, nil, nil)
	opened := c.opened
	again, _ := releases.Load(&cache, c, nil, nil)
	if c.opened != opened || opened == 0 {
		t.Errorf("opened %d files, then %d", opened, c.opened-opened)
	}
	if diff := cmp.Diff(first.Releases, again.Releases); diff != "" || again.Releases["1.0.0"].Tree != "tree of 1.0.0" {
		t.Error(diff)
	}
	c.MapFS["releases/1.0.0"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: "another tree"}
	c.MapFS["releases/1.0.0/service.yaml"] = &fstest.MapFile{Data: []byte("kind: Other\n")}
	changed, _ := releases.Load(&cache, c, nil, nil)
	if changed.Releases["1.0.0"].Digest == first.Releases["1.0.0"].Digest {
		t.Error("a changed tree was not read again")
	}
}

func TestLoadFromDisk(t *testing.T) {
	dir := t.TempDir()
	m := repositoryFS([]string{"1.0.0"}, nil)
	for name, f := range m {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, faults := releases.Load(nil, os.DirFS(dir), nil, nil)
	memory, _ := releases.Load(nil, m, nil, nil)
	if diff := cmp.Diff(memory.Releases, disk.Releases); diff != "" || len(faults) > 0 {
		t.Error(diff, faults)
	}
}

func TestReadRelease(t *testing.T) {
	m := repositoryFS([]string{"1.0.0"},
		map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0") + "rollback: forward-only\n"})
	set, _ := releases.Load(nil, m, nil, nil)
	one := releases.ReadRelease(nil, m, parse(t, "1.0.0"))
	if diff := cmp.Diff(set.Releases["1.0.0"], one); diff != "" || !one.IsForwardOnly() {
		t.Error(diff)
	}
	if none := releases.ReadRelease(nil, m, parse(t, "2.0.0")); !manifest.Fatal(none.Faults) {
		t.Error("a release that is not there has no faults")
	}
}

func BenchmarkLoad(b *testing.B) {
	var versions []string
	for i := range 200 {
		versions = append(versions, fmt.Sprintf("1.%d.0", i))
	}
	m := repositoryFS(versions, nil)
	for b.Loop() {
		if _, faults := releases.Load(nil, m, nil, nil); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}

// R48: what the budget does not cover is left unread, the greatest version first; its manifest is known, and what is
// read in any case is.
func TestLoadWithinABudget(t *testing.T) {
	m := repositoryFS([]string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"}, nil)
	m["releases/1.2.0/release.yaml"] = &fstest.MapFile{Mode: 0o644,
		Data: []byte("apiVersion: sluice/v1\nkind: Release\nversion: 1.2.0\nrollback: forward-only\n")}
	wanted := &releases.Wanted{
		First: func(v releases.Version) bool { return v.String() == "1.0.0" },
		Then:  func(releases.Version) bool { return true },
	}
	for name, b := range map[string]*releases.Budget{"bytes": {Bytes: 1, Files: 1000},
		"files": {Bytes: 1 << 30, Files: 1}} {
		set, _ := releases.Load(nil, m, wanted, b)
		for version, unread := range map[string]bool{"1.0.0": false, "1.1.0": true, "1.2.0": true, "1.3.0": true} {
			e := set.Releases[version]
			if e.Unread != unread || e.Loaded == unread || (e.Digest == "") != unread {
				t.Errorf("%s: %s is unread: %v, loaded: %v, %s", name, version, e.Unread, e.Loaded, e.Digest)
			}
		}
		if r := set.Releases["1.2.0"]; !r.IsForwardOnly() {
			t.Errorf("%s: the manifest is not known: %+v", name, r)
		}
	}
	set, _ := releases.Load(nil, m, &releases.Wanted{Then: wanted.Then}, &releases.Budget{Bytes: 1, Files: 1})
	if !set.Releases["1.3.0"].Loaded || set.Releases["1.0.0"].Loaded {
		t.Error("the greatest is not read first")
	}
	all, _ := releases.Load(nil, m, nil, &releases.Budget{})
	for _, e := range all.Versions {
		if !e.Loaded {
			t.Errorf("%s is not read, though all are asked for", e.Version)
		}
	}
}

// What users see in a maintenance is checked, with file and line.
func TestMaintenanceTexts(t *testing.T) {
	for field, want := range map[string]int{
		"maintenance: {refuses: [start, fork], texts: {de: {default: \"Bis {until}\"}}}":             0,
		"maintenance: {refuses: [Start]}":                                                            1,
		"maintenance: {refuses: [start, start]}":                                                     1,
		"maintenance: {texts: {english please: {default: x}}}":                                       1,
		"maintenance: {texts: {en: {default: \"at {when}\"}}}":                                       1,
		"maintenance: {texts: {en: {start: \"\\u202e\"}}}":                                           1,
		"maintenance: {until: 5m}":                                                                   1,
		"maintenance: {texts: {en: {default: \"" + strings.Repeat("x", releases.MaxText+1) + "\"}}}": 1,
	} {
		files := repositoryFS([]string{"1.0.0"}, nil)
		files["releases/1.0.0/release.yaml"].Data = []byte(releaseYAML("1.0.0") + field + "\n")
		_, faults := releases.Load(nil, files, nil, nil)
		if len(faults) != want || want > 0 && faults[0].Line != 6 {
			t.Errorf("%.60s: %v", field, messagesOf(faults))
		}
	}
}
