package infrastructure_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

const head = "apiVersion: sluice/v1\nkind: Infrastructure\n"

func files(texts map[string]string) fstest.MapFS {
	all := fstest.MapFS{}
	for name, text := range texts {
		all["infrastructure/"+name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return all
}

func TestLoad(t *testing.T) {
	updates, faults := infrastructure.Load(nil, files(map[string]string{
		"10/infrastructure.yaml": head + "number: 10\nnotes: n\nimpact: downtime\norder: [role, instance]\nsecurity: true\n",
		"10/role.yaml":           "{}", "10/instance.yaml": "{}",
		"9/infrastructure.yaml": head + "number: 9\nnotes: n\nimpact: none\norder: [instance]\n", "9/instance.yaml": "{}",
	}))
	if len(faults) > 0 || len(updates) != 2 || updates[0].Number != 9 || updates[1].Number != 10 {
		t.Fatalf("%+v, faults %v", updates, faults)
	}
	if got := strings.Join(updates[1].Templates(), " "); got !=
		"infrastructure/10/role.yaml infrastructure/10/instance.yaml" {
		t.Errorf("templates %s", got)
	}
	if none, faults := infrastructure.Load(nil, fstest.MapFS{}); len(none)+len(faults) > 0 {
		t.Errorf("without a folder: %v, %v", none, faults)
	}
}

// Each mistake is a fault with its file and line. An update whose description has faults keeps its number (R47).
func TestFaults(t *testing.T) {
	good := head + "number: 8\nnotes: n\nimpact: none\norder: [instance]\n"
	described := func(old, next string) map[string]string {
		return map[string]string{"8/infrastructure.yaml": strings.Replace(good, old, next, 1)}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
		gone  bool // the folder is no update
	}{
		"another number": {described("8", "7"),
			"8/infrastructure.yaml:3: number is 7", false},
		"no description": {map[string]string{"8/role.yaml": "{}"},
			"8/infrastructure.yaml: is missing", false},
		"no number": {map[string]string{"8/infrastructure.yaml": head + "notes: n\nimpact: none\norder: [instance]\n"},
			"number", false},
		"number of text": {map[string]string{"8/infrastructure.yaml": head + "number: eight\n"},
			"8/infrastructure.yaml:3", false},
		"number below 1": {described("8", "-8"),
			"8/infrastructure.yaml:3", false},
		"unknown impact": {described("none", "some"),
			"8/infrastructure.yaml:5", false},
		"empty order": {described("[instance]", "[]"),
			"8/infrastructure.yaml:6", false},
		"missing template": {described("instance", "network"),
			"8/infrastructure.yaml:6: there is no template \"network.yaml\"", false},
		"template twice": {described("[instance]", "[instance, instance]"),
			"is there twice", false},
		"itself": {described("[instance]", "[infrastructure]"),
			"there is no template", false},
		"outside": {described("[instance]", "[../7/instance]"),
			"there is no template", false},
		"leading zero": {map[string]string{"08/infrastructure.yaml": good},
			"infrastructure/08: \"08\" is no number", true},
		"a name": {map[string]string{"next/infrastructure.yaml": good},
			"infrastructure/next: \"next\" is no number", true},
		"zero": {map[string]string{"0/infrastructure.yaml": good},
			"\"0\" is no number", true},
		"beyond the bound": {map[string]string{"1000001/infrastructure.yaml": good},
			"is no number", true},
		"unused file": {map[string]string{"8/infrastructure.yaml": good, "8/old.yaml": "{}"},
			"8/old.yaml: warning: is not read", false},
		"file in its place": {map[string]string{"8": "{}"},
			"infrastructure/8: warning: is not read", true},
		"too many notes": {described(": n\n", ": "+strings.Repeat("n", 5000)+"\n"),
			"8/infrastructure.yaml:4: notes have more than 4000 bytes", false},
	} {
		t.Run(name, func(t *testing.T) {
			if !c.gone && name != "no description" {
				c.files["8/instance.yaml"] = "{}"
			}
			updates, faults := infrastructure.Load(new(manifest.Cache), files(c.files))
			var text []string
			for _, f := range faults {
				text = append(text, f.String())
			}
			if all := strings.Join(text, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("faults %q, want %q", all, c.want)
			}
			if c.gone == (len(updates) == 1 && updates[0].Number == 8) {
				t.Errorf("updates %+v", updates)
			}
		})
	}
}
