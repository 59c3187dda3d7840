package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-cd/sluice"

type listed struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Imports    []string
}

// packages asks the Go toolchain for every package of the module, tests' imports left out.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,GoFiles,Imports", module+"/...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		all = append(all, p)
	}
}

// arrows says what of ours each package may import. The core points one way; the shells around it
// know the core and, of each other, only what is named here. cmd and test know all.
func arrows() map[string][]string {
	basis := []string{"releases", "releases/infrastructure", "internal/jsondoc", "internal/jsonwrite",
		"internal/manifest", "internal/window", "internal/reason",
		"internal/cleantext", "internal/words", "internal/backoff", "internal/wake", "internal/overlay", "channels",
		"channels/passkey", "channels/trust", "cells/maintenance", "flags",
		"flags/repository", "flags/announce", "cells", "releases/diagnostics", "releases/export"}
	with := func(more ...string) []string { return append(slices.Clone(basis), more...) }
	shell := func(more ...string) []string {
		return with(append(more, "engine/plan", "engine/view", "engine/roster", "engine")...)
	}
	below := func(more ...string) []string { // within the control plane
		all := shell("cells/identity", "engine/access", "engine/outbox", "engine/records")
		for _, name := range more {
			all = append(all, "engine/controlplane/"+name)
		}
		return all
	}
	return map[string][]string{
		"internal/jsondoc":       {},
		"internal/jsonwrite":     {},
		"internal/manifest":      {"internal/jsondoc", "internal/words"},
		"internal/manifest/edit": {},
		"internal/overlay":       {"internal/manifest"},
		"internal/window":        {},
		"internal/reason":        {},
		"internal/cleantext":     {},
		"internal/listen":        {},
		"internal/markdown":      {"internal/cleantext", "internal/markup"},
		"internal/markup":        {"internal/cleantext"},
		"internal/words":         {"internal/cleantext"},
		"internal/aws":           {"internal/backoff"},
		"internal/backoff":       {},
		"internal/wake":          {},
		"internal/filelock":      {},
		"releases":               {"internal/manifest"},
		"releases/sops":          {},
		"releases/export":        {"internal/manifest"},
		"releases/diagnostics":   {"internal/manifest"},
		"flags":                  {"flags/jsonlogic", "internal/jsondoc"},
		"flags/jsonlogic":        {},
		"flags/repository": {"flags", "flags/jsonlogic", "internal/jsondoc", "internal/manifest",
			"internal/window"},
		"flags/announce": {"flags", "flags/repository", "internal/manifest", "internal/words"},
		"flags/signed":   {"flags", "flags/repository"},
		"releases/infrastructure/template": {"releases/infrastructure",
			"internal/manifest"},
		"flags/ofrep":    {"flags"},
		"flags/provider": {"flags"},
		"channels": {"releases", "releases/export", "cells/maintenance", "internal/manifest", "internal/manifest/edit",
			"internal/reason", "internal/window", "internal/words"},
		"channels/trust":           {"releases", "internal/jsondoc", "internal/manifest", "internal/words"},
		"cells/maintenance":        {"releases", "internal/words"},
		"cells/maintenance/server": {"cells/maintenance", "cells/identity"},
		"cells/maintenance/client": {},
		"cells": {"releases", "releases/export", "cells/maintenance", "internal/jsonwrite", "internal/manifest",
			"flags", "internal/reason", "internal/window"},
		"engine/plan":           with("engine/plan/kept", "engine/plan/audithead", "engine/plan/cellset"),
		"engine/plan/audithead": with(),
		"engine/plan/cellset":   with(),
		"engine/plan/kept":      with(),
		"engine/plan/deadline":  with(),
		"engine/view":           with("engine/plan", "engine/plan/deadline"),
		"engine/proof":          with("engine/plan", "engine/plan/audithead"),
		"engine/roster":         with("engine/plan"),
		"internal/filediff":     {},
		"engine/actions":        with("engine/access", "engine/edits", "engine/plan"),
		"engine/actions/desk":   with("engine/actions", "engine/edits", "internal/backoff"),
		"engine/console": with("engine/access", "engine/actions", "engine/edits", "engine/adoption", "engine/audit",
			"engine/plan", "engine/view", "engine/simulate", "engine/whatif", "cells/telemetry", "internal/filediff",
			"internal/markup", "internal/ui"),
		"internal/ui":     {"internal/filediff", "internal/markup"},
		"engine/simulate": with("engine/plan"),
		"engine/whatif":   with("engine/plan", "engine/simulate"),
		"engine/edits": with("engine/plan", "engine/view", "engine/simulate", "flags/signed",
			"internal/manifest/edit"),
		"engine/reach":       {},
		"engine":             with("engine/plan", "engine/view", "engine/roster"),
		"internal/gitrepo":   {"releases", "internal/cleantext"},
		"engine/access":      {"channels"},
		"engine/adoption":    with("engine/plan", "engine/records", "engine/view"),
		"engine/announcer":   shell(),
		"engine/audit":       with("engine/access"),
		"engine/timestamper": with("engine/plan", "engine/records", "engine/view"),
		"engine/auditor":     with("engine/access", "engine/audit", "engine/plan", "engine/records", "engine/view"),
		"engine/notices":     with("engine/plan", "engine/plan/deadline", "engine/view"),
		"engine/notifier":    shell("engine/notices", "engine/outbox", "engine/records"),
		"engine/outbox":      shell("engine/reach", "engine/notices"),
		"engine/store": shell("engine/access", "engine/audit", "engine/plan/audithead", "engine/records",
			"engine/store/rows", "engine/store/tables"),
		"engine/images":     {"releases", "cells/process", "internal/backoff", "internal/filelock"},
		"engine/images/ecr": {"internal/aws"},
		"engine/exports": with("cells/identity", "cells/telemetry", "engine/plan", "engine/records",
			"engine/view"),
		"engine/records":      {},
		"engine/debugrelay":   {},
		"engine/debugrecords": {"engine/records"},
		"engine/debugging": {"cells", "cells/debug", "channels", "engine/debugrecords", "engine/records",
			"internal/wake", "internal/words"},
		"engine/controlplane": append(below("api", "auth", "cellapi", "consoleapi", "debugapi", "imageapi", "limit",
			"metrics", "peopleapi", "sessionapi", "signin", "transport"), "engine/images", "engine/exports",
			"engine/debugging", "engine/debugrecords"),
		"engine/controlplane/debugapi": append(below("api", "auth", "limit"), "cells/debug", "engine/debugging"),
		"engine/controlplane/consoleapi": append(below("api", "auth", "bulletin", "limit"), "engine/actions",
			"engine/actions/desk", "engine/adoption", "engine/audit", "engine/console", "engine/edits",
			"engine/exports", "engine/simulate", "engine/whatif", "internal/filediff", "internal/markdown",
			"internal/ui"),
		"engine/controlplane/imageapi": append(below("api", "auth", "limit"), "engine/images"),
		"engine/controlplane/sessionapi": append(below("api", "auth", "limit"), "cells/debug", "cells/debug/upgrade",
			"cells/identity", "engine/debugging", "engine/debugrecords", "engine/debugrelay", "engine/records",
			"internal/words"),
		"engine/controlplane/signin":    below("api", "auth", "limit"),
		"engine/controlplane/peopleapi": append(below("api", "auth", "bulletin", "limit", "metrics"), "engine/exports"),
		"engine/controlplane/cellapi": append(below("api", "auth", "limit", "metrics", "transport"),
			"cells/debug", "engine/debugging", "engine/exports"),
		"engine/controlplane/transport": below("api", "metrics"),
		"engine/controlplane/auth":      below("api", "limit", "metrics"),
		"engine/controlplane/metrics":   below(),
		"engine/controlplane/api":       below(),
		"engine/controlplane/bulletin":  append(below(), "internal/markdown", "internal/markup"),
		"engine/controlplane/limit":     {},
		"cells/owner":                   with(),
		"cells/process":                 {"internal/cleantext"},
		"cells/agent/disk":              {"internal/filelock"},
		"cells/agent/clock":             {"cells/agent/disk", "internal/wake"},
		"cells/agent/content":           {"releases", "cells", "cells/agent/disk"},
		"cells/agent/render": {"releases", "releases/diagnostics", "releases/export", "releases/sops", "cells",
			"internal/cleantext", "internal/manifest", "internal/words", "cells/process", "cells/agent/content",
			"cells/agent/disk"},
		"cells/agent/signatures": {"releases", "cells", "cells/agent/disk", "channels/trust"},
		"cells/agent/plane": {"releases", "cells", "cells/debug", "channels/trust", "cells/identity",
			"cells/agent/clock", "cells/agent/content", "cells/agent/disk",
			"internal/backoff", "internal/wake", "internal/words"},
		"cells/agent/flagserver": {"releases", "cells", "flags", "flags/ofrep", "cells/agent/clock",
			"cells/agent/content", "cells/agent/disk",
			"internal/backoff", "internal/wake", "internal/words"},
		"cells/agent/imagerelay": {"cells/identity"},
		"cells/agent/preflight":  {"cells/identity", "cells/infrastructure", "internal/words"},
		"cells/telemetry":        {"releases", "releases/export"},
		"cells/debug":            {"internal/cleantext", "internal/words", "releases/diagnostics"},
		"cells/debug/upgrade":    {"cells/debug", "internal/words"},
		"cells/debug/client":     {"cells/debug", "cells/debug/upgrade", "internal/backoff"},
		"cells/agent/debugger": {"cells/debug", "cells/debug/upgrade", "cells/process", "cells/agent/clock",
			"cells/agent/debugfolder", "internal/backoff", "internal/cleantext", "internal/words",
			"releases/diagnostics"},
		"cells/agent/debuginbox": {"cells", "cells/debug", "channels/trust", "cells/agent/clock",
			"cells/agent/debugfolder", "internal/backoff", "internal/wake", "internal/words"},
		"cells/agent/debugfolder": {"cells/debug", "cells/agent/disk", "internal/filelock", "internal/words",
			"releases/diagnostics"},
		"cells/agent/exporter": {"releases", "releases/export", "cells", "cells/telemetry", "cells/agent/disk",
			"cells/identity", "internal/backoff", "internal/wake"},
		"cells/infrastructure": {"cells", "internal/backoff", "internal/manifest", "internal/words"},
		"cells/infrastructure/stack": {"cells", "cells/infrastructure", "cells/agent/preflight", "internal/aws",
			"internal/backoff", "internal/words"},
		"cells/agent": with("cells/infrastructure", "cells/maintenance/server", "cells/process", "cells/selfupdate",
			"cells/identity", "cells/telemetry", "flags/ofrep", "flags/signed"),
		"cells/directory": with("cells/process", "cells/agent/disk", "internal/filelock"),
		"cells/node": with("cells/kubernetes", "cells/agent/clock", "cells/agent/content", "cells/agent/disk",
			"cells/agent/flagserver", "cells/agent/imagerelay", "cells/maintenance/server"),
		"cells/kubernetes":          with("cells/agent/disk", "releases/health"),
		"cells/kubernetes/podlogs":  {"releases/diagnostics"},
		"cells/kubernetes/podshell": {"cells/debug"},
		"cells/selfupdate": {"cells", "cells/agent/clock", "cells/agent/disk", "internal/filelock",
			"releases"},
		"cells/selfupdate/host": {"cells", "cells/agent/disk", "cells/process", "cells/selfupdate", "internal/backoff",
			"releases"},
	}
}

func TestImportArrows(t *testing.T) {
	allowed := arrows()
	for _, p := range packages(t) {
		if hasPrefix(p.ImportPath, "cmd", "test", "tools", "fixtures", "docs") || strings.HasSuffix(p.Name, "test") {
			continue
		}
		may, known := allowed[p.ImportPath]
		if !known {
			may = nested(allowed, p.ImportPath)
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, module+"/")
			if !ok || slices.Contains(may, ours) || strings.HasPrefix(ours, p.ImportPath+"/") {
				continue
			}
			t.Errorf("%s imports %s: the arrows of the design's section 10 go the other way", p.ImportPath, ours)
		}
	}
}

// nested gives what a package that arrows does not name may import: what the nearest folder above it may, and that
// folder's package.
func nested(allowed map[string][]string, path string) []string {
	for up := path; ; {
		i := strings.LastIndexByte(up, '/')
		if i < 0 {
			return nil
		}
		up = up[:i]
		if may, ok := allowed[up]; ok {
			return append(slices.Clone(may), up)
		}
	}
}

// TestAgentWithoutEngine holds that the program for cells alone has nothing of the engine, nor of what only the engine
// needs: it starts in each cell, where disk and memory are the customer's.
func TestAgentWithoutEngine(t *testing.T) {
	t.Parallel()
	const program = module + "/cmd/sluice-agent"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", program)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := strings.Fields(string(out))
	if !slices.Contains(all, module+"/cells/agent") {
		t.Fatalf("%s is made of %d packages, and the agent is none of them", program, len(all))
	}
	// Of channels, it verifies what release signers signed.
	foreign := []string{module + "/engine", module + "/channels", module + "/internal/gitrepo",
		module + "/cmd/internal/repos", module + "/cmd/internal/client", "database/sql", "encoding/gob", "modernc.org",
		"github.com/jackc", "github.com/prometheus/client_golang", "github.com/danielgtaylor/huma",
		"github.com/docker/cli", "html/template"}
	for _, p := range all {
		if hasPrefix(p, foreign...) && !hasPrefix(p, module+"/channels/trust", "database/sql/driver") { // of UUIDs
			t.Errorf("%s is made of %s too", program, p)
		}
	}
}

// homes says, of an import that begins so, which folders may have it. Every direct requirement of go.mod is named.
func homes() map[string][]string {
	return map[string][]string{
		"cel.dev/":                               {"channels", "releases/health"},
		"database/sql":                           {"engine/store"},
		"filippo.io/age":                         {"releases/sops"},
		"github.com/aws/":                        {"internal/aws"},
		"github.com/coreos/go-oidc":              {"engine/controlplane/signin"},
		"github.com/danielgtaylor/huma":          {"engine/controlplane"},
		"github.com/docker/cli":                  {"engine/images"},
		"github.com/emersion/go-smtp":            {},                   // tests only
		"github.com/fluxcd/cli-utils":            {"cells/kubernetes"}, // kstatus alone
		"github.com/fsnotify/fsnotify":           {"internal/gitrepo"},
		"github.com/creack/pty":                  {"cells/agent/debugger"},
		"github.com/go-git/":                     {"internal/gitrepo"},
		"github.com/go-jose/":                    {}, // tests only
		"github.com/go-logr/":                    {"cells/kubernetes"},
		"github.com/google/go-cmp":               {}, // tests only
		"github.com/google/go-containerregistry": {"engine/images"},
		"github.com/hiddeco/sshsig":              {"internal/gitrepo", "cells/debug"},
		"github.com/jackc/":                      {"engine/store/postgres"},
		"github.com/klauspost/compress": {"internal/gitrepo", "engine/controlplane/cellapi",
			"cells/agent/plane", "cells/agent/exporter", "cells/agent/debugger", "engine/exports",
			"engine/controlplane/sessionapi", "engine/timestamper"},
		"github.com/open-feature/go-sdk":  {"flags/provider"},
		"github.com/pressly/goose":        {"engine/store"},
		"github.com/prometheus/":          {"engine/controlplane", "engine/outbox", "engine/images", "cells/telemetry"},
		"go.opentelemetry.io/proto/otlp":  {"cells/telemetry", "engine/exports"},
		"google.golang.org/protobuf":      {"cells/telemetry", "engine/exports"},
		"github.com/robfig/cron":          {"internal/window"},
		"github.com/rogpeppe/go-internal": {"internal/gitrepo", "internal/filediff"}, // lines of a diff
		"github.com/rs/zerolog": {"internal/gitrepo", "engine", "cells/agent", "cells/node", "cells/selfupdate", "cmd",
			"flags/ofrep"},
		"github.com/secure-systems-lab/go-securesystemslib": {"channels/trust"},
		"github.com/skeema/knownhosts":                      {"internal/gitrepo"},
		"github.com/spf13/":                                 {"cmd"},
		"github.com/theupdateframework/go-tuf":              {"channels/trust"},
		"github.com/wneessen/go-mail":                       {"engine/outbox"},
		"github.com/yuin/goldmark":                          {"internal/markdown"},
		// all but the first only write it; engine/images reads the kustomizations of releases
		// tags such as !Ref are CloudFormation's own: a template is no document of ours
		"go.yaml.in/yaml": {"releases/infrastructure/template", "releases/sops", "internal/manifest", "flags/announce",
			"engine/plan", "engine/edits", "engine/simulate", "engine/images", "cells/agent", "cmd"},
		"golang.org/x/crypto/ssh": {"internal/gitrepo", "cells/debug", "cells/agent/debugger", "channels",
			"flags/repository", "engine/edits", "engine/signing", "cmd"},
		"golang.org/x/oauth2": {"engine/controlplane/signin"},
		"golang.org/x/sync": {"releases", "cells", "flags/repository", "engine/store/rows", "engine/controlplane",
			"cmd"},
		"golang.org/x/sys":   {"cells/agent/clock", "cells/agent/debugger"},
		"golang.org/x/term":  {"cmd", "cells/agent/debugger"},
		"golang.org/x/text":  {"releases", "cells/maintenance/server"}, // languages of texts
		"golang.org/x/time":  {"cells/agent/imagerelay", "cells/node", "engine/debugrelay"},
		"golang.org/x/tools": {}, // tools only
		"modernc.org/sqlite": {"engine/store"},
		"net/http": {"internal/gitrepo", "internal/aws", "engine", "cells/agent", "cells/debug", "cells/kubernetes",
			"cells/maintenance", "cells/node", "cells/selfupdate", "cmd", "flags/ofrep", "flags/provider",
			"fixtures/workspaces/product"},
		"os/exec":                {"internal/gitrepo", "cells", "cmd", "fixtures/workspaces/product"},
		"pgregory.net/rapid":     {}, // tests only
		"k8s.io/":                {"cells/kubernetes"},
		"sigs.k8s.io/kustomize/": {"cells/agent/render"},
		"sigs.k8s.io/yaml":       {"cells/kubernetes"},
	}
}

// TestOneHome holds that libraries, and some of the outside world, are met in one place only.
func TestOneHome(t *testing.T) {
	for _, p := range packages(t) {
		if hasPrefix(p.ImportPath, "test", "tools") || strings.HasSuffix(p.Name, "test") {
			continue
		}
		for _, imported := range p.Imports {
			for prefix, may := range homes() {
				if strings.HasPrefix(imported, prefix) && !hasPrefix(p.ImportPath, may...) {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, imported, strings.Join(may, ", "))
				}
			}
		}
	}
}

// TestEveryLibraryHasAHome holds that a requirement that is new in go.mod says where it belongs.
func TestEveryLibraryHasAHome(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		named := false
		for prefix := range homes() {
			named = named || strings.HasPrefix(r.Path+"/", prefix) || strings.HasPrefix(prefix, r.Path+"/")
		}
		if !r.Indirect && !named {
			t.Errorf("go.mod requires %s: say in homes which folders may import it", r.Path)
		}
	}
}

// TestPureCore holds that what decides can't reach the world, itself or by what it imports of ours: no files but a
// given fs.FS, no network, no processes, no database, no chance.
func TestPureCore(t *testing.T) {
	pure := []string{
		"internal/jsondoc", "internal/jsonwrite", "internal/manifest", "internal/manifest/edit", "internal/overlay",
		"internal/reason",
		"internal/window", "internal/cleantext", "internal/words", "internal/wake", "releases",
		"releases/health", "releases/diagnostics", "releases/export", "cells/telemetry", "cells/debug", "channels",
		"channels/trust", "cells", "cells/maintenance",
		"flags", "flags/announce", "flags/jsonlogic", "flags/repository", "flags/signed",
		"engine/plan", "engine/plan/cellset", "engine/plan/kept", "engine/view",
		"engine/roster", "engine/edits", "engine/simulate", "engine/access", "engine/audit", "engine/notices",
		"engine/records", "engine/controlplane/limit", "engine/console", "internal/markup",
		"internal/ui", "cells/owner",
	}
	world := []string{"os", "os/exec", "net", "net/http", "database/sql", "log", "math/rand", "math/rand/v2"}
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[p.ImportPath] = p.Imports
	}
	for _, name := range pure {
		if _, there := imports[name]; !there {
			t.Errorf("there is no package %s", name)
		}
		seen := map[string]bool{}
		var reach func(of string)
		reach = func(of string) {
			for _, imported := range imports[of] {
				if slices.Contains(world, imported) {
					t.Errorf("%s imports %s, by way of %s: what decides takes what it needs as values", name,
						imported, of)
				}
				if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !seen[ours] {
					seen[ours] = true
					reach(ours)
				}
			}
		}
		reach(name)
	}
}

// TestEveryPackageSaysWhatItIsFor holds that there is one package comment, in one file, that begins as Go's tools
// expect.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		var docs []string
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name),
				nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				docs = append(docs, file.Doc.Text())
			}
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		switch {
		case len(p.GoFiles) == 0: // only tests
		case len(docs) != 1:
			t.Errorf("%s has %d package comments, want one", p.ImportPath, len(docs))
		case !strings.HasPrefix(docs[0], want):
			t.Errorf("%s: the package comment begins %.40q, want %q", p.ImportPath, docs[0], want+"…")
		}
	}
}

// TestSizes holds how large a package, a type and a function may grow before it is to be taken apart.
func TestSizes(t *testing.T) {
	const mostFiles, mostMethods, mostLines = 30, 40, 80
	for _, p := range packages(t) {
		if len(p.GoFiles) > mostFiles {
			t.Errorf("%s has %d files, want %d at most", p.ImportPath, len(p.GoFiles), mostFiles)
		}
		methods := map[string]int{}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; lines > mostLines {
					t.Errorf("%s/%s: %s has %d lines, want %d at most", p.ImportPath, name, f.Name.Name, lines,
						mostLines)
				}
				if f.Recv != nil {
					methods[p.ImportPath+"."+receiver(f.Recv.List[0].Type)]++
				}
			}
		}
		for of, n := range methods {
			if n > mostMethods {
				t.Errorf("%s has %d methods, want %d at most", of, n, mostMethods)
			}
		}
	}
}

// receiver returns the name of a method's type.
func receiver(of ast.Expr) string {
	switch of := of.(type) {
	case *ast.StarExpr:
		return receiver(of.X)
	case *ast.IndexExpr:
		return receiver(of.X)
	case *ast.IndexListExpr:
		return receiver(of.X)
	case *ast.Ident:
		return of.Name
	}
	return ""
}

func hasPrefix(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}
