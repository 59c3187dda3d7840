package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// limit bounds a test's programs; a cold build is slow.
const limit = 20 * time.Minute

// tagged is the time of the commit that is released.
var tagged = time.Date(2026, 11, 29, 12, 30, 0, 0, time.UTC)

// copySources returns a repository with this one's files, as they are now, in one commit with the tag v1.2.3-rc.1.
func copySources(ctx context.Context, t *testing.T) string {
	t.Helper()
	from, to := filepath.Join("..", ".."), filepath.Join(t.TempDir(), "sources")
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = from
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) { // removed, and not committed yet
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	date := tagged.Format(time.RFC3339)
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "release"},
		{"tag", "v1.2.3-rc.1"}} {
		git := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=ada",
			"-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		git.Dir, git.Env = to, append(os.Environ(), "GIT_COMMITTER_DATE="+date, "GIT_AUTHOR_DATE="+date)
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	return to
}

// runProgram returns what a program prints.
func runProgram(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRelease makes a release for one platform, twice and in different folders, and looks at each product with a
// program that did not make it.
func TestRelease(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r := release{root: copySources(ctx, t), out: filepath.Join(t.TempDir(), "out"),
		targets: []target{{"linux", runtime.GOARCH}}}
	if runtime.GOOS != "linux" {
		r.targets = append(r.targets, target{runtime.GOOS, runtime.GOARCH})
	}
	if err := r.make(ctx); err != nil {
		t.Fatal(err)
	}
	// Another machine has other preferences.
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOFLAGS", "-buildvcs=false -ldflags=-compressdwarf=false")
	t.Setenv("TZ", "Asia/Tokyo")
	usual := syscall.Umask(0o077)
	err := r.verify(ctx)
	syscall.Umask(usual)
	if err != nil {
		t.Errorf("the second build has other bytes:\n%v", err)
	}
	name := filepath.Join(r.out, "sluice-v1.2.3-rc.1-linux-"+runtime.GOARCH)
	t.Run("Sums", func(t *testing.T) {
		check := exec.CommandContext(ctx, "sha256sum", "-c", "--strict", sumsFile)
		check.Dir = r.out
		out, err := check.CombinedOutput()
		if err != nil || !strings.Contains(string(out), filepath.Base(name)+": OK") {
			t.Errorf("sha256sum: %v\n%s", err, out)
		}
	})
	host := filepath.Join(r.out, "sluice-v1.2.3-rc.1-"+runtime.GOOS+"-"+runtime.GOARCH)
	t.Run("Version", func(t *testing.T) { checkVersion(ctx, t, host, r.root) })
	t.Run("SBOM", func(t *testing.T) { checkSBOM(ctx, t, name) })
	t.Run("Licences", func(t *testing.T) { checkLicences(t, filepath.Join(r.out, "sluice-v1.2.3-rc.1-licences.txt")) })
	t.Run("Debian", func(t *testing.T) {
		checkPackage(ctx, t, filepath.Join(r.out, "sluice_1.2.3~rc.1_"+runtime.GOARCH+".deb"))
	})
	t.Run("Image", func(t *testing.T) { checkImage(t, filepath.Join(r.out, "sluice-v1.2.3-rc.1.oci"), name) })
	agent := filepath.Join(r.out, "sluice-agent-v1.2.3-rc.1-linux-"+runtime.GOARCH)
	t.Run("Agent", func(t *testing.T) {
		checkSBOM(ctx, t, agent)
		checkAgentPackage(ctx, t, filepath.Join(r.out, "sluice-agent_1.2.3~rc.1_"+runtime.GOARCH+".deb"),
			filepath.Join(r.out, "sluice_1.2.3~rc.1_"+runtime.GOARCH+".deb"))
		checkImage(t, filepath.Join(r.out, "sluice-agent-v1.2.3-rc.1.oci"), agent)
	})
	t.Run("Dirty", func(t *testing.T) { checkDirty(ctx, t, r) })
}

// A difference between two releases is named.
func TestCompareSums(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	for dir, files := range map[string]map[string]string{a: {"same": "1", "image/other": "2"},
		b: {"same": "1", "image/other": "3", "more": "4"}} {
		for name, content := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeSums(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := compareSums(a, a); err != nil {
		t.Error(err)
	}
	err := compareSums(a, b)
	if err == nil || strings.Count(err.Error(), "image/other") != 2 || strings.Count(err.Error(), "more") != 1 ||
		strings.Contains(err.Error(), "same") {
		t.Errorf("the difference is %v", err)
	}
}

// The binary says what it is.
func checkVersion(ctx context.Context, t *testing.T, path, repository string) {
	var said struct {
		Version, Commit, Go, Platform string
		Time                          time.Time
		Dirty                         bool
	}
	if err := json.Unmarshal([]byte(runProgram(ctx, t, path, "version", "-o", "json")), &said); err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(runProgram(ctx, t, "git", "-C", repository, "rev-parse", "HEAD"))
	if said.Version != "v1.2.3-rc.1" || said.Commit != commit || !said.Time.Equal(tagged) || said.Dirty ||
		said.Go != runtime.Version() || said.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("it says %+v", said)
	}
	words := runProgram(ctx, t, path, "version")
	if !strings.HasPrefix(words, "sluice v1.2.3-rc.1, commit "+commit[:7]) ||
		!strings.Contains(words, "2026-11-29T12:30") {
		t.Errorf("it says %q", words)
	}
}

// The SBOM lists the modules that go version finds in the binary.
func checkSBOM(ctx context.Context, t *testing.T, binary string) {
	f, err := os.Open(binary + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var doc spdx.Document
	if err := spdxjson.ReadInto(f, &doc); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, p := range doc.Packages {
		listed[p.PackageName] = p.PackageVersion
	}
	want := map[string]string{"stdlib": strings.TrimPrefix(runtime.Version(), "go")}
	for line := range strings.Lines(runProgram(ctx, t, "go", "version", "-m", binary)) {
		if f := strings.Fields(line); len(f) >= 3 && (f[0] == "mod" || f[0] == "dep") {
			want[f[1]] = f[2]
		}
	}
	if len(listed) != len(want) || len(want) < 30 {
		t.Errorf("the SBOM lists %d modules, and go version %d", len(listed), len(want))
	}
	for name, version := range want {
		if listed[name] != version {
			t.Errorf("the SBOM has %s %q, and the binary %q", name, listed[name], version)
		}
	}
	sum, err := hashFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if main := doc.Packages[0]; len(main.PackageChecksums) != 1 || main.PackageChecksums[0].Value != sum {
		t.Errorf("the SBOM is about %+v, not about %s", main.PackageChecksums, sum)
	}
	if len(doc.Relationships) != len(doc.Packages) {
		t.Errorf("%d relationships between %d packages", len(doc.Relationships), len(doc.Packages))
	}
}

// Licences of several forms, with names of several forms, are there.
func checkLicences(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"Go's standard library, LICENSE", "github.com/spf13/cobra v1",
		"modernc.org/sqlite v1", "Apache License", "The MIT License", "Redistribution and use in source and binary"} {
		if !strings.Contains(string(text), words) {
			t.Errorf("the licences lack %q", words)
		}
	}
}

// A commit is released, and never what is changed beside it.
func checkDirty(ctx context.Context, t *testing.T, r release) {
	if err := os.WriteFile(filepath.Join(r.root, "notes.txt"), []byte("forgotten\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.out = filepath.Join(t.TempDir(), "out")
	if err := r.make(ctx); err == nil || !strings.Contains(err.Error(), "not committed") {
		t.Errorf("a release of a changed folder ends with %v", err)
	}
	if err := os.WriteFile(filepath.Join(r.out, "diary.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.make(ctx); err == nil || !strings.Contains(err.Error(), "other files") {
		t.Errorf("a release over other files ends with %v", err)
	}
}
