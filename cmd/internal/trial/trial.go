// Package trial renders releases here as cells do, before any cell does: in the same child process, with the values of
// the cells in the repository. It applies nothing, and needs no cell.
//
// Which renders a release needs is a pure function of the release and the cells (Variants). What was rendered is kept
// in the user's cache by digest and values, so that a release that did not change is not rendered again. A Renderer is
// used by one goroutine at a time.
package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases"
)

// keptRenders is how many renders stay in the cache.
const keptRenders = 256

// Renderer renders releases. The caller closes it.
type Renderer struct {
	command   []string
	dir, temp string
	temporary []string // folders to remove
}

// Release is a release whose files are in a folder of an fs.FS.
type Release struct {
	releases.Release
	Digest releases.Digest
	Files  fs.FS
	Dir    string // its folder in Files
}

// Open makes a renderer, with its cache in the user's cache, in --data, or for this run alone.
func Open(a *cli.App) (*Renderer, error) {
	self, err := cli.ExecutablePath()
	if err != nil {
		return nil, err
	}
	r := &Renderer{command: []string{self, render.ChildVerb}}
	if r.temp, err = os.MkdirTemp("", "sluice-render-"); err != nil {
		return nil, fmt.Errorf("make a folder to render in: %w", err)
	}
	r.temporary = append(r.temporary, r.temp)
	if r.dir = cli.CacheDir(a, "renders"); r.dir == "" || os.MkdirAll(r.dir, 0o700) != nil {
		if r.dir, err = os.MkdirTemp("", "sluice-renders-"); err != nil {
			r.Close()
			return nil, fmt.Errorf("make a folder for what is rendered: %w", err)
		}
		r.temporary = append(r.temporary, r.dir)
	}
	return r, nil
}

// Close forgets old renders.
func (r *Renderer) Close() {
	_ = disk.PruneOldest(r.dir, keptRenders, nil) // what stays costs space alone
	for _, dir := range r.temporary {
		_ = os.RemoveAll(dir)
	}
}

// Render returns the manifests of a release for one variant, by the names of files as a cell's target gets them.
func (r *Renderer) Render(ctx context.Context, release *Release, v Variant) (map[string][]byte, error) {
	as := cells.Assignment{Release: release.Version.String(), Digest: release.Digest, Profile: v.Profile,
		Values: v.Values}
	renderer := render.New(render.Options{Command: r.command, Dir: r.dir, Temp: r.temp, Values: v.Own,
		LeaveEncrypted: true},
		packer{release})
	m, err := renderer.Render(ctx, &as)
	return m.Files, err
}

// packer is the store of one release.
type packer struct{ *Release }

func (p packer) Open(context.Context, releases.Digest) (io.ReadCloser, error) {
	var tar bytes.Buffer
	if err := releases.Pack(&tar, p.Files, p.Dir); err != nil {
		return nil, err
	}
	return io.NopCloser(&tar), nil
}

// Remove can do nothing: the files themselves have another digest than the release.
func (p packer) Remove(releases.Digest) error { return errors.New("its files were changed meanwhile") }

// HasRoot reports whether the release's own folder has a kustomization, and not only those of its profiles.
func (r *Release) HasRoot() bool {
	entries, err := fs.ReadDir(r.Files, r.Dir)
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return releases.IsKustomization(e.Name())
	})
}

// FolderOf returns a release in its folder of a repository.
func FolderOf(files fs.FS, r *releases.StoredRelease) *Release {
	return &Release{Release: r.Release, Digest: r.Digest, Files: files,
		Dir: path.Join(releases.Dir, r.Version.String())}
}
