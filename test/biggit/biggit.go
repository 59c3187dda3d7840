// Package biggit makes large release repositories for benchmarks, by git fast-import. The same shape always makes the
// same commits, byte for byte. CreateRepository makes heads up; a history that an engine wrote comes of Grow and of
// an engine that promotes in between. The package is for tests and benchmarks only; calls for different folders may
// run at once.
package biggit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Shape says how large a repository is. Zero values leave the part out.
type Shape struct {
	Releases int  // folders releases/V, one commit each
	Files    int  // files a release, at least 3: release.yaml, kustomization.yaml, notes.md, and manifests
	Commits  int  // in all; those beyond the releases move channels' heads
	Channels int  // each but the first takes releases from the one before; default 2
	Cells    int  // spread over the channels
	Ungated  bool // each channel but the first takes what the first runs, at once
}

// The shapes of the published figures.
var (
	Standard = Shape{Releases: 2000, Files: 10, Commits: 5000, Channels: 100}
	Long     = Shape{Releases: 2000, Files: 10, Commits: 50000, Channels: 100}
	Fleet    = Shape{Releases: 2000, Files: 10, Commits: 5000, Channels: 100, Cells: 10000}
)

const Branch = "main"

// Version returns the name of release i, counted from 0: 2020.1.0, 2020.1.1 …, ten a month.
func Version(i int) string { return fmt.Sprintf("%d.%d.%d", 2020+i/120, i/10%12+1, i%10) }

// Channel returns the name of channel i, Cell that of cell i.
func Channel(i int) string { return fmt.Sprintf("channel-%03d", i) }
func Cell(i int) string    { return fmt.Sprintf("cell-%05d", i) }

// CreateRepository writes a bare, packed repository of shape s to dir, which must not exist.
func CreateRepository(ctx context.Context, dir string, s Shape) error {
	if err := runGit(ctx, dir, nil, "init", "-q", "--bare", "--template=", "-b", Branch, dir); err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		s.writeHistory(b)
		w.CloseWithError(b.Flush())
	}()
	if err := runGit(ctx, dir, r, "fast-import", "--quiet", "--depth=50"); err != nil {
		return err
	}
	return runGit(ctx, dir, nil, "repack", "-a", "-d", "-q")
}

// Start writes a bare repository of shape s to dir, which must not exist: its settings, without a release or a head.
func (s Shape) Start(ctx context.Context, dir string) error {
	s.Releases, s.Commits = 0, 1
	return CreateRepository(ctx, dir, s)
}

// Grow adds the releases from, from+1 … to-1 to the repository in dir, one commit each.
func (s Shape) Grow(ctx context.Context, dir string, from, to int) error {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		s.writeCommit(&b, i+1, "release "+Version(i))
		if i == from {
			fmt.Fprintf(&b, "from refs/heads/%s^0\n", Branch)
		}
		s.writeRelease(&b, i)
	}
	return runGit(ctx, dir, &b, "fast-import", "--quiet", "--depth=50")
}

// CachedRepository returns the repository of shape s below root, and makes it first if needed.
func CachedRepository(ctx context.Context, root string, s Shape) (string, error) {
	dir := filepath.Join(root, fmt.Sprintf("r%d-f%d-c%d-ch%d-ce%d-v1.git", s.Releases, s.Files, s.Commits, s.Channels,
		s.Cells))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unfinished := dir + ".making"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := CreateRepository(ctx, unfinished, s); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
}

func runGit(ctx context.Context, dir string, in io.Reader, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_DIR="+dir)
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (s Shape) writeHistory(w io.Writer) {
	if s.Channels == 0 {
		s.Channels = 2
	}
	heads := max(0, s.Commits-s.Releases-1)
	s.writeCommit(w, 0, "start")
	s.writeSettings(w)
	for i, moved := 0, 0; i < s.Releases; i++ {
		s.writeCommit(w, i+1, "release "+Version(i))
		s.writeRelease(w, i)
		for ; moved < heads*(i+1)/s.Releases; moved++ {
			s.writeHead(w, moved, i)
		}
	}
}

func (s Shape) writeCommit(w io.Writer, n int, message string) {
	fmt.Fprintf(w, "commit refs/heads/%s\ncommitter Ada <ada@example.com> %d +0000\ndata %d\n%s\n",
		Branch, 1577836800+int64(n)*60, len(message), message)
}

func writeFile(w io.Writer, path, text string) {
	fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
}

func (s Shape) writeSettings(w io.Writer) {
	writeFile(w, "sluice.yaml", "apiVersion: sluice/v1\nkind: Pipeline\nname: big\n")
	writeFile(w, ".gitattributes", "releases/** -text -filter -ident\n")
	for i := range s.Channels {
		after, gates := "", ""
		switch {
		case i > 0 && s.Ungated:
			after = fmt.Sprintf("after: [%s]\n", Channel(0))
		case i > 0:
			after = fmt.Sprintf("after: [%s]\n", Channel(i-1))
			gates = "gates:\n  - soak: {for: 24h, cells: 3, percent: 95}\n" +
				"  - window: {opens: \"0 9 * * MON-THU\", for: 7h, zone: Europe/Berlin}\n"
		}
		writeFile(w, "channels/"+Channel(i)+"/channel.yaml", "apiVersion: sluice/v1\nkind: Channel\n"+after+gates)
	}
	for i := range s.Cells {
		writeFile(w, "cells/"+Cell(i)+"/cell.yaml",
			fmt.Sprintf(
				"apiVersion: sluice/v1\nkind: Cell\nchannel: %s\nprofile: default\nvalues:\n"+
					"  domain: %s.example.com\n  replicas: %d\nlabels: {region: eu-%d}\n",
				Channel(i%s.Channels), Cell(i), i%5+1, i%7))
	}
}

func (s Shape) writeRelease(w io.Writer, i int) {
	dir := "releases/" + Version(i) + "/"
	writeFile(w, dir+"release.yaml",
		fmt.Sprintf(
			"apiVersion: sluice/v1\nkind: Release\nversion: %s\n"+
				"source: {repository: https://git.example/product, commit: %s}\ncomponents:\n"+
				"  - {name: server, image: \"registry.example/server@sha256:%s\"}\n"+
				"  - {name: ws-manager, image: \"registry.example/ws-manager@sha256:%s\", maintenance: true}\n"+
				"features: [workspace-classes, ssh-gateway]\nparameters:\n  domain: {type: string, required: true}\n"+
				"  replicas: {type: integer, default: 2, minimum: 1}\nprofiles: {default: \".\"}\n",
			Version(i), fakeHash("commit", i)[:40], fakeHash("server", i), fakeHash("ws-manager", i)))
	kustomization := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
	for j := range s.Files - 3 {
		name := fmt.Sprintf("manifest-%d.yaml", j)
		kustomization += "  - " + name + "\n"
		writeFile(w, dir+name,
			fmt.Sprintf(
				"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: part-%d}\nspec:\n  replicas: 2\n"+
					"  selector: {matchLabels: {app: part-%d}}\n  template:\n"+
					"    metadata: {labels: {app: part-%d}}\n    spec:\n      containers:\n        - name: main\n"+
					"          image: registry.example/part-%d@sha256:%s\n          ports: [{containerPort: 8080}]\n"+
					"          resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}}\n",
				j, j, j, j, fakeHash(name, i-i%(j+1))))
	}
	writeFile(w, dir+"kustomization.yaml", kustomization)
	writeFile(w, dir+"notes.md", "# "+Version(i)+"\n\nMends what "+fakeHash("notes", i)[:12]+" broke.\n")
}

func (s Shape) writeHead(w io.Writer, n, release int) {
	channel := Channel(n % s.Channels)
	s.writeCommit(w, release+1, "promote "+Version(release)+" to "+channel)
	writeFile(w, "channels/"+channel+"/head.yaml",
		fmt.Sprintf("release: %s\ncommit: %s\ndigest: sha256:%s\nsequence: %d\n", Version(release),
			fakeHash("head", n)[:40], fakeHash("digest", release), n/s.Channels+1))
	writeFile(w, "channels/"+channel+"/decision.json",
		fmt.Sprintf(
			"{\"base\":\"%s\",\"now\":\"2026-01-01T00:00:00Z\",\"digest\":\"sha256:%s\","+
				"\"verdicts\":[{\"gate\":\"soak\",\"reason\":\"%d of %d cells healthy\"}]}\n", fakeHash("base", n)[:40],
			fakeHash("digest", release), n%9+1, n%9+1))
}

func fakeHash(what string, i int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d", what, i))
	return hex.EncodeToString(h[:])
}
