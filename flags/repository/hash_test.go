package repository_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/flags/repository"
)

// hashes returns the hashes of workspace-classes in the good repository with changes.
func hashes(t testing.TB, files map[string]string) (hash, text string) {
	t.Helper()
	tree := repository.Load(nil, with(t, files))
	a := tree.Announcements["workspace-classes"]
	if a == nil || tree.Invalid {
		t.Fatal(tree.Faults)
	}
	return tree.Hash(a)
}

func replaced(t testing.TB, file, old, new string) map[string]string {
	t.Helper()
	before := string(with(t, nil)[file].Data)
	after := strings.Replace(before, old, new, 1)
	if after == before {
		t.Fatalf("%s has no %q", file, old)
	}
	return map[string]string{file: after}
}

// R42: an approval covers every meaning of the announcement and its flags, and nothing else.
func TestHash(t *testing.T) {
	const told, defined = "announcements/workspace-classes.yaml", "flags/workspaces.yaml"
	const neither, definitions, both = 0, 1, 2
	hash, text := hashes(t, nil)
	for _, tt := range []struct {
		file, old, new string
		changes        int
	}{
		{told, "title:", "# a comment\ntitle:", neither},
		{told, "publishAt: 2026-12-01T10:00:00", "publishAt: '2026-12-01T10:00'", neither},
		{told, "[staging, beta, dedicated]", "[dedicated, beta, staging]", neither},
		{told, "after: 1d", "after: 24h", neither},
		{told, "  by: user\n", "", neither},
		{told, "embargo: true\n", "embargo: true\nzone: Europe/Berlin\n", neither},
		{told, "embargo: true\n", "embargo: true\ncancelled: not now\n", neither},
		{told, "embargo: true\n", "embargo: true\narchived: true\n", neither},
		{"sluice.yaml", "soak: 2h", "soak: 3h", neither},
		{defined, "header-color:", "footer-color:", neither},
		{defined, "{on: true, off: false}", `{"off": false, "on": true}`, neither},
		{"flags/gateway.json", "2222", "22", neither},

		{defined, "{none: 0, few: 3, many: 25}", "{none: 0, few: 4, many: 25}", definitions},
		{defined, "defaultVariant: few", "defaultVariant: many", definitions},
		{defined, "2026.11.0", "2026.12.0", definitions},
		{defined, "off: off, expose: client", "off: off", definitions},
		{defined, "team: core", "team: edge", definitions},
		{defined, "state: ENABLED", "state: DISABLED", definitions},
		{defined, "metadata: {team: web}", "metadata: {feature: workspace-classes, off: blue}", definitions},

		{told, "title: Workspace", "title: The workspace", both},
		{told, "publishAt: 2026-12-01T10:00:00", "publishAt: 2026-12-01T10:00:01", both},
		{told, "large your", "big your", both},
		{told, "tier: paid", "tier: free", both},
		{told, "beta, dedicated", "dedicated", both},
		{told, "percent: 10", "percent: 11", both},
		{told, "by: user", "by: cell", both},
		{told, "skip 90%", "block 90%", both},
		{told, "embargo: true", "embargo: false", both},
		{told, "embargo: true\n", "embargo: true\nnow: true\n", both},
		{told, "embargo: true\n", "embargo: true\nzone: Europe/Paris\n", both},
		{told, "staging: ready", "staging: never", both},
		{told, "{count: 1, from: [legal]}", "{count: 0}", both},
		{told, "features: [workspace-classes]", "features: [workspace-classes, ssh-gateway]", both},
		{"sluice.yaml", "zone: Europe/Berlin", "zone: Europe/Paris", both},
	} {
		files := replaced(t, tt.file, tt.old, tt.new)
		if strings.Contains(tt.new, "ssh-gateway") {
			files["announcements/ssh-gateway.yaml"] = "" // a feature is in one announcement
		}
		gotHash, gotText := hashes(t, files)
		if (gotHash != hash) != (tt.changes != neither) || (gotText != text) != (tt.changes == both) {
			t.Errorf("%s: %q for %q: hash changes %t, text changes %t", tt.file, tt.new, tt.old, gotHash != hash,
				gotText != text)
		}
	}
}

// Equal definitions hash alike in another order, in other files, as JSON or YAML, whatever their references.
func TestHashDoesNotSeeForm(t *testing.T) {
	tree := repository.Load(nil, good(t))
	want, _ := tree.Hash(tree.Announcements["workspace-classes"])
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.Permutation([]string{"header-color", "retired", "ssh-gateway", "workspace-class-limit",
			"workspace-classes"}).Draw(rt, "order")
		files := map[string]string{"flags/workspaces.yaml": "", "flags/gateway.json": ""}
		fsys := with(t, files)
		for i, key := range keys {
			set, err := json.MarshalIndent(map[string]any{"flags": map[string]any{key: tree.Flags[key].Encode()}}, "",
				strings.Repeat(" ", i))
			if err != nil {
				rt.Fatal(err)
			}
			ending := rapid.SampledFrom([]string{"yaml", "json"}).Draw(rt, "ending") // JSON is YAML
			fsys[fmt.Sprintf("flags/%d.%s", i, ending)] = &fstest.MapFile{Data: set}
		}
		again := repository.Load(nil, fsys)
		if got, _ := again.Hash(again.Announcements["workspace-classes"]); got != want || again.Invalid {
			rt.Fatalf("hash %s, want %s; %v", got, want, again.Faults)
		}
	})
}

// A tree built by hand hashes like a loaded one.
func TestHashOfAnyTree(t *testing.T) {
	tree := repository.Load(nil, good(t))
	a := tree.Announcements["workspace-classes"]
	want, _ := tree.Hash(a)
	if got, _ := (&repository.Tree{Flags: tree.Flags}).Hash(a); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}
