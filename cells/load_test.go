package cells_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const header = "apiVersion: sluice/v1\nkind: Cell\n"

func repository(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, content := range files {
		m["cells/"+name] = &fstest.MapFile{Data: []byte(content), Sys: "id of " + name}
	}
	return m
}

func TestLoad(t *testing.T) {
	m := repository(map[string]string{
		"acme/cell.yaml": header +
			"channel: dedicated\nprofile: small\nvalues: {domain: acme.example, replicas: 3}\nlabels: {region: eu}\n",
		"acme/identity.yaml": "apiVersion: sluice/v1\nkind: Identity\nepoch: 2\npublicKey: AAAA\n",
		"beta/cell.yaml":     header + "channel: staging\n",
	})
	found, faults := cells.Load(nil, m)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	revision := found["acme"].Cell.Revision
	if found["acme"].Cell.LabelsHash == "" || found["beta"].Cell.LabelsHash != "" {
		t.Errorf("tags %q and %q: labels have a hash, none have none", found["acme"].Cell.LabelsHash,
			found["beta"].Cell.LabelsHash)
	}
	if revision == "" || found["beta"].Cell.Revision != "" {
		t.Errorf("revisions %q and %q: values and profile have one, the defaults none", revision,
			found["beta"].Cell.Revision)
	}
	want := map[string]*cells.LoadedCell{
		"acme": {
			Cell: cells.Cell{APIVersion: "sluice/v1", Kind: "Cell", Channel: "dedicated", Profile: "small",
				Values: map[string]any{"domain": "acme.example", "replicas": 3},
				Labels: map[string]string{"region": "eu"},
				Name:   "acme", Revision: revision, LabelsHash: found["acme"].Cell.LabelsHash,
				Blob: "id of acme/cell.yaml"},
			Identity:     cells.Identity{APIVersion: "sluice/v1", Kind: "Identity", Epoch: 2, PublicKey: "AAAA"},
			IdentityBlob: "id of acme/identity.yaml",
		},
		"beta": {Cell: cells.Cell{APIVersion: "sluice/v1", Kind: "Cell", Channel: "staging", Name: "beta",
			Blob: "id of beta/cell.yaml"}},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	if found, faults := cells.Load(nil, fstest.MapFS{}); len(found)+len(faults) > 0 {
		t.Error("a repository without cells is one with none:", faults)
	}
}

// A fault in one cell is reported with its line and leaves the other cells alone.
func TestLoadFaults(t *testing.T) {
	good := header + "channel: staging\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		cell  string
		want  string
	}{
		{"unknown field", map[string]string{"acme/cell.yaml": good + "chanel: x\n"}, "acme",
			`cells/acme/cell.yaml:4: unknown field "chanel"; did you mean "channel"?`},
		{"another kind", map[string]string{"acme/cell.yaml": strings.Replace(good, "Cell", "Channel", 1)}, "acme",
			`cells/acme/cell.yaml:2: kind must be Cell, not "Channel"`},
		{"no channel", map[string]string{"acme/cell.yaml": header}, "acme",
			"cells/acme/cell.yaml:1: channel is required"},
		{"paused, without a why", map[string]string{"acme/cell.yaml": good + "paused:\n"}, "acme",
			"cells/acme/cell.yaml:4: paused is empty: give it a value, or leave it out"},
		{"pinned to nothing", map[string]string{"acme/cell.yaml": good + "labels:\nvalues: {}\npin: \"\"\n"}, "acme",
			"cells/acme/cell.yaml:6: pin is empty: give it a value, or leave it out"},
		{"no windows", map[string]string{"acme/cell.yaml": good + "windows: []\n"}, "acme",
			"cells/acme/cell.yaml:4: windows is empty: give it a value, or leave it out"},
		{"channel's name", map[string]string{"acme/cell.yaml": header + "channel: ../x\n"}, "acme",
			`cells/acme/cell.yaml:3: "../x" can't be a channel's name`},
		{"cell's name", map[string]string{"Acme_1/cell.yaml": good}, "Acme_1",
			`cells/Acme_1: "Acme_1" can't be a cell's name: it takes at most 63 lower-case letters, digits and hyphens`},
		{"no cell.yaml", map[string]string{"acme/identity.yaml": "apiVersion: sluice/v1\nkind: Identity\nepoch: 1\n"},
			"acme", "cells/acme/cell.yaml: is missing: without it the folder is no cell"},
		{"epoch", map[string]string{"acme/cell.yaml": good,
			"acme/identity.yaml": "apiVersion: sluice/v1\nkind: Identity\nepoch: -1\n"},
			"acme", "cells/acme/identity.yaml:3: epoch must be at least 0, not -1"},
		{"another file", map[string]string{"acme/cell.yaml": good, "acme/values.yaml": ""}, "acme",
			"cells/acme/values.yaml: warning: is not read: nothing here has this name"},
		{"a stray file", map[string]string{"acme/cell.yaml": good, "README.md": ""}, "",
			"cells/README.md: warning: is not read: a cell is a folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.files["beta/cell.yaml"] = good
			found, faults := cells.Load(nil, repository(test.files))
			if len(faults) != 1 || faults[0].String() != test.want {
				t.Errorf("%v, want %s", faults, test.want)
			}
			if beta := found["beta"]; beta.Cell.Channel != "staging" || len(beta.Faults) > 0 {
				t.Errorf("another cell: %+v", beta)
			}
			if test.cell != "" && len(found[test.cell].Faults)+len(found[test.cell].IdentityFaults) != 1 {
				t.Errorf("%+v", found[test.cell])
			}
		})
	}
}

func TestLoadReadsATreeOnce(t *testing.T) {
	m := repository(map[string]string{"acme/cell.yaml": header + "channel: staging\n"})
	m["cells/acme"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: "tree"}
	var c manifest.Cache
	first, _ := cells.Load(&c, m)
	m["cells/acme/cell.yaml"] = &fstest.MapFile{Data: []byte(header + "channel: dedicated\n")}
	if again, _ := cells.Load(&c, m); again["acme"] != first["acme"] {
		t.Error("the same tree was read again")
	}
	m["cells/acme"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: "another tree"}
	if again, _ := cells.Load(&c, m); again["acme"].Cell.Channel != "dedicated" {
		t.Error("a changed tree was not read again")
	}
}

func BenchmarkLoad(b *testing.B) {
	files := map[string]string{}
	for i := range 10_000 {
		files[fmt.Sprintf("cell-%05d/cell.yaml", i)] = header +
			fmt.Sprintf(
				"channel: c%d\nprofile: default\nvalues:\n  domain: cell-%d.example.com\n  replicas: 3\nlabels: {region: eu-%d}\n", i%100, i, i%7)
	}
	m := memory{}
	for name, content := range files {
		m.add("cells/"+name, content)
	}
	for b.Loop() {
		if found, faults := cells.Load(nil, m); len(faults) > 0 || len(found) != 10_000 {
			b.Fatal(faults)
		}
	}
}

// What no report could carry is refused where it is written: a cell that was assigned it could never report again.
func TestValuesThatNoReportCanCarry(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		refuse bool
	}{
		"a certificate chain": {"channel: prod\nvalues: {cert: " + strings.Repeat("x", 20_000) + "}\n", true},
		"many small values":   {"channel: prod\nvalues:\n" + strings.Repeat("  a%d: 0123456789\n", 1000), true},
		"growing in JSON":     {"channel: prod\nvalues: {html: \"" + strings.Repeat("<", 4_000) + "\"}\n", true},
		"a long profile":      {"channel: prod\nprofile: " + strings.Repeat("p", 129) + "\n", true},
		"just right": {"channel: prod\nvalues: {cert: " + strings.Repeat("x", cells.MaxValues-11) + "}\n",
			false},
	} {
		for i := 0; strings.Contains(c.text, "%d"); i++ {
			c.text = strings.Replace(c.text, "%d", fmt.Sprint(i), 1)
		}
		found, faults := cells.Load(nil, repository(map[string]string{"acme/cell.yaml": header + c.text}))
		if got := manifest.Fatal(faults); got != c.refuse {
			t.Errorf("%s: %v", name, faults)
		}
		if c.refuse {
			continue
		}
		a := &cells.Assignment{Release: "1.0.0", Digest: releases.DigestBytes(nil), Values: found["acme"].Cell.Values}
		report := cells.Report{Cell: "acme", Boot: "b", State: cells.StateApplying, Running: a, Applying: a,
			Acknowledged: a}
		if err := report.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
