package repository_test

import (
	"flag"
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

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

var update = flag.Bool("update", false, "record the faults as they are now; read the difference before you commit it")

const fixtures = "../../fixtures/flags"

// TestFaults loads whole repositories and checks all faults.
func TestFaults(t *testing.T) {
	folders, err := os.ReadDir(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		t.Run(folder.Name(), func(t *testing.T) {
			tree := repository.Load(nil, os.DirFS(filepath.Join(fixtures, folder.Name())))
			var b strings.Builder
			for _, f := range tree.Faults {
				fmt.Fprintln(&b, f)
			}
			fmt.Fprintln(&b, "invalid:", tree.Invalid)
			golden := filepath.Join(fixtures, folder.Name()+".faults")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func good(t testing.TB) fs.FS {
	t.Helper()
	return os.DirFS(filepath.Join(fixtures, "good"))
}

// with returns the good repository with files replaced or, if empty, removed.
func with(t testing.TB, files map[string]string) fstest.MapFS {
	t.Helper()
	all := fstest.MapFS{}
	err := fs.WalkDir(good(t), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(good(t), name)
		all[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if all[name] = (&fstest.MapFile{Data: []byte(text)}); text == "" {
			delete(all, name)
		}
	}
	return all
}

func TestLoadsTheGood(t *testing.T) {
	tree := repository.Load(nil, good(t))
	if tree.Invalid || len(tree.Faults) > 0 {
		t.Fatal(tree.Faults)
	}
	limit := tree.Flags["workspace-class-limit"]
	want := `{"defaultVariant":"few","metadata":{"feature":"workspace-classes","flagSetId":"workspaces","off":"none","team":"core"},"state":"ENABLED",` +
		`"targeting":{"if":[{"sem_ver":[{"var":"release"},">=","2026.11.0"]},{"fractional":[["few",50],["many",50]]}]},"variants":{"few":3,"many":25,"none":0}}`
	if got := string(limit.Encode()); got != want {
		t.Errorf("encodes as\n%s\nwant\n%s", got, want)
	}
	if got := string(tree.Flags["header-color"].Targeting); !strings.Contains(got,
		`{"ends_with":[{"var":"email"},"@workspaces.example"]}`) || strings.Contains(got, "$ref") {
		t.Errorf("references are not resolved: %s", got)
	}
	if tree.Flags["header-color"].Metadata["team"] != "web" || !tree.Flags["retired"].Disabled ||
		limit.Feature() != "workspace-classes" || limit.Off() != "none" {
		t.Error("metadata or states are not read")
	}
	if s := tree.Settings; s.Soak.String() != "2h" || s.Approvals.Count != 1 || len(s.People) != 2 ||
		len(s.Webhooks) != 2 {
		t.Errorf("settings are %+v", s)
	}
	if len(tree.Overrides) != 2 || tree.Overrides[1].Name != "kill-header-color" ||
		len(tree.Records["ssh-gateway"]) != 1 || tree.Heads["dedicated"].Commit == "" || len(tree.Approvals) != 1 {
		t.Error("overrides, records, heads or approvals are missing")
	}
}

// Without sluice.yaml the defaults hold, with a warning.
func TestNoSettings(t *testing.T) {
	tree := repository.Load(nil, fstest.MapFS{})
	if tree.Invalid || len(tree.Faults) != 1 || tree.Settings.Soak.String() != "1h" ||
		tree.Settings.Approvals.Count != 1 {
		t.Errorf("%+v", tree)
	}
}

// Fault 33: a fault outside overrides makes the whole commit invalid, a warning does not.
func TestInvalid(t *testing.T) {
	for name, tt := range map[string]struct {
		file, text string
		invalid    bool
	}{
		"definition":   {"flags/gateway.json", "{", true},
		"announcement": {"announcements/ssh-gateway.yaml", "kind: News\n", true},
		"settings":     {"sluice.yaml", "x: y\n", true},
		"approval":     {"approvals/workspace-classes/ada.yaml", "x: y\n", true},
		"record":       {"records/ssh-gateway/dedicated.yaml", "x: y\n", true},
		"head":         {"heads/dedicated.yaml", "x: y\n", true},
		"override":     {"overrides/kill-header-color.yaml", "x: y\n", false},
		"stray file":   {"flags/notes.txt", "x", false},
	} {
		tree := repository.Load(nil, with(t, map[string]string{tt.file: tt.text}))
		if tree.Invalid != tt.invalid || len(tree.Faults) == 0 {
			t.Errorf("%s: invalid is %t, want %t: %v", name, tree.Invalid, tt.invalid, tree.Faults)
		}
	}
}

// An emptied field does not mean what the absent one means: an emptied count would publish what nobody approved.
func TestEmptyFieldsAreFaults(t *testing.T) {
	const settings, news = "apiVersion: sluice/v1\nkind: Flags\n", "apiVersion: sluice/v1\nkind: Announcement\n" +
		"title: News\nfeatures: [ssh-gateway]\n"
	for field, tt := range map[string]struct{ file, text string }{
		"approvals.count": {"sluice.yaml", settings + "approvals:\n  count:\n  from: [legal]\n"},
		"approvals.from":  {"sluice.yaml", settings + "approvals:\n  from: []\n"},
		"soak":            {"sluice.yaml", settings + "soak:\n"},
		"owners":          {"sluice.yaml", settings + "owners: []\n"},
		"webhooks[0].types": {"sluice.yaml", settings +
			"webhooks:\n- name: chat\n  url: https://h.example/\n  types: []\n"},
		"approvals.count ": {"announcements/n.yaml", news + "approvals: {count: , from: [legal]}\n"},
		"approvals.from ":  {"announcements/n.yaml", news + "approvals: {count: 1, from: []}\n"},
		"cells":            {"announcements/n.yaml", news + "cells:\n"},
		"cells.names":      {"announcements/n.yaml", news + "cells: {names: []}\n"},
		"channels.staging": {"announcements/n.yaml", news + "channels: {staging: }\n"},
		"whenNotReady":     {"announcements/n.yaml", news + "whenNotReady:\n"},
		"cells ": {"overrides/k.yaml", "apiVersion: sluice/v1\nkind: Kill\n" +
			"flag: retired\nreason: r\ncells:\n"},
	} {
		field = strings.TrimSpace(field)
		tree := repository.Load(nil, with(t, map[string]string{tt.file: tt.text}))
		if !slices.ContainsFunc(tree.Faults, func(f manifest.Fault) bool {
			return !f.Warning && f.File == tt.file && strings.Contains(f.Message, field)
		}) {
			t.Errorf("%s%v, none of them about %s", tt.text, tree.Faults, field)
		}
	}
}

// R43, fault 61: a kill is effective whatever else is broken, even in its own file, and in doubt for all cells.
func TestKillsCountAnyway(t *testing.T) {
	tree := repository.Load(nil, os.DirFS(filepath.Join(fixtures, "kills-anyway")))
	if !tree.Invalid {
		t.Fatal("the repository should be broken elsewhere")
	}
	got := map[string]string{}
	for _, o := range tree.Overrides {
		got[o.Kind+" "+o.Flag+o.Announcement] = strings.Join(o.Cells.Names, " ")
	}
	want := map[string]string{
		"Kill shop": "", "Kill no-reason": "acme", "Kill faulty-cells": "", "Kill mistyped": "", "Kill broken": "",
		"Kill other-ending": "",
		"Hold news":         "", "Hold shopboth": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOneKeyInTwoFiles(t *testing.T) {
	tree := repository.Load(nil, with(t, map[string]string{"flags/z.json": `{"flags":{
		"ssh-gateway":{"state":"ENABLED","variants":{"none":0},"defaultVariant":"none"}}}`}))
	want := "flags/z.json:2: flag ssh-gateway is in flags/gateway.json:4 too: a flag has one definition"
	if !tree.Invalid || len(tree.Faults) != 1 || tree.Faults[0].String() != want {
		t.Errorf("faults %v, want %s", tree.Faults, want)
	}
}

// A reference to a flag that may be in an unreadable file is no fault.
func TestOneFaultDoesNotFollowFromAnother(t *testing.T) {
	tree := repository.Load(nil, with(t, map[string]string{"flags/gateway.json": `{"flags":`}))
	if len(tree.Faults) != 1 || tree.Faults[0].File != "flags/gateway.json" {
		t.Errorf("faults %v, want the one of the file", tree.Faults)
	}
}

// counting counts how often files are opened, and has an object id for each, as a commit does.
type counting struct {
	fstest.MapFS
	mu     *sync.Mutex // guards opened: files are read several at once
	opened map[string]int
}

type identified struct{ fs.FileInfo }

func (i identified) Sys() any { return "id" }

func (c counting) Stat(name string) (fs.FileInfo, error) {
	info, err := c.MapFS.Stat(name)
	if err != nil {
		return nil, err
	}
	return identified{info}, nil
}

func (c counting) Open(name string) (fs.File, error) {
	if path.Ext(name) != "" {
		c.mu.Lock()
		c.opened[name]++
		c.mu.Unlock()
	}
	return c.MapFS.Open(name)
}

func TestLoadWithACache(t *testing.T) {
	c, fsys := &manifest.Cache{}, counting{with(t, nil), &sync.Mutex{}, map[string]int{}}
	first := repository.Load(c, fsys)
	fsys.opened = map[string]int{}
	second := repository.Load(c, fsys)
	for name, n := range fsys.opened {
		t.Errorf("%s was read again, %d times", name, n)
	}
	for id, a := range first.Announcements {
		hash, _ := first.Hash(a)
		if again, _ := second.Hash(second.Announcements[id]); again != hash {
			t.Errorf("%s: another hash from the cache", id)
		}
	}
	if len(second.Faults) > 0 || len(second.Flags) != len(first.Flags) ||
		len(second.Overrides) != len(first.Overrides) {
		t.Errorf("the cache gives another tree: %v", second.Faults)
	}
}

// FuzzLoad checks that no input makes Load panic or run long.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"flags/workspaces.yaml", "flags/gateway.json", "announcements/workspace-classes.yaml",
		"sluice.yaml", "overrides/kill-header-color.yaml"} {
		data, err := fs.ReadFile(good(f), name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(
		[]byte(
			"$evaluators: {a: {and: [{$ref: b}, {$ref: b}]}, b: {or: [{$ref: a}]}}\nflags: {x: {state: ENABLED, variants: {1: 2}, targeting: {$ref: a}}}",
		),
	)
	f.Fuzz(func(t *testing.T, in []byte) {
		file := &fstest.MapFile{Data: in}
		tree := repository.Load(nil,
			fstest.MapFS{"flags/a.yaml": file, "flags/b.json": file, "announcements/a.yaml": file,
				"overrides/kill-a.yaml": file,
				"sluice.yaml":           file, "approvals/a/b.yaml": file, "records/a/b.yaml": file,
				"heads/a.yaml": file})
		for _, fault := range tree.Faults {
			if fault.Message == "" || fault.File == "" || fault.Code == "" {
				t.Errorf("a fault that says nothing: %+v", fault)
			}
		}
		for _, a := range tree.Announcements {
			tree.Hash(a)
			a.When("staging", false)
		}
		for key, d := range tree.Flags {
			if tree.Invalid {
				continue
			}
			again, err := flags.ParseDefinition(key, d.Encode())
			if err != nil || string(again.Encode()) != string(d.Encode()) {
				t.Errorf("%s is not read again: %v", d.Encode(), err)
			}
		}
	})
}

// A flag may have no default variant, as in flagd: callers get the default in their code.
func TestNoDefaultVariant(t *testing.T) {
	for _, text := range []string{"", `,"defaultVariant":null`} {
		tree := repository.Load(nil, with(t, map[string]string{"flags/z.json": `{"flags":{"z":{"state":"ENABLED",` +
			`"variants":{"on":true,"off":false}` + text + `,"metadata":{"off":"off"}}}}`}))
		if tree.Invalid || len(tree.Faults) > 0 || tree.Flags["z"].DefaultVariant != "" {
			t.Errorf("%q: %v", text, tree.Faults)
		}
	}
}
