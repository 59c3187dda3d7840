package simulate

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // git's object ids
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/releases"
)

// repository is the release repository in memory: commits on top of the given tip, and the history that they fold to.
type repository struct {
	tip       *overlay.FS
	history   *plan.History
	openOlder func(commit string) (fs.FS, error)
	commits   map[string]fs.FS // commits made by the simulation
	cache     *manifest.Cache
}

func newRepository(in Input) *repository {
	return &repository{tip: overlay.New(in.Files), history: in.History, openOlder: in.Open, commits: map[string]fs.FS{},
		cache: cmp.Or(in.Cache, new(manifest.Cache))}
}

func (r *repository) open(commit string) (fs.FS, error) {
	if files, ok := r.commits[commit]; ok {
		return files, nil
	}
	if r.openOlder == nil {
		return nil, fmt.Errorf("open commit %s: %w", commit, fs.ErrNotExist)
	}
	return r.openOlder(commit)
}

type author struct {
	releases.Person
	key string
}

// commit commits files on top of the tip, as a push does.
func (r *repository) commit(who author, at time.Time, message string, files map[string][]byte) error {
	next := r.tip.With(files)
	if keys := r.history.Authority.OwnerKeys; who == anonymous && len(keys) > 0 {
		who.key = keys[0] // what a scenario says shall happen
	}
	c := releases.Change{
		Parent: r.history.Tip, Author: who.Person, Committer: who.Person, When: at, Message: message, Key: who.key,
	}
	sum := sha1.New() //nolint:gosec // git's object ids
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00%s\x00%s", c.Parent, who.Email, at, message, next.ObjectID("."))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "\x00%s\x00%s", name, files[name])
	}
	c.Commit = hex.EncodeToString(sum.Sum(nil))
	for _, name := range changedPaths(files) {
		f := releases.FileChange{
			Path: name, Old: r.tip.ObjectID(name), New: next.ObjectID(name), Authors: []releases.Person{who.Person},
			Key: who.key,
		}
		if f.Old != f.New {
			c.Files = append(c.Files, f)
		}
	}
	r.commits[c.Commit] = next
	if err := r.history.Advance([]releases.Change{c}, r.open, r.cache); err != nil {
		return fmt.Errorf("commit %q: %w", c.Message, err)
	}
	r.tip = next
	return nil
}

// changedPaths returns the paths that a Change names: a release's folder instead of its files, and other files.
func changedPaths(files map[string][]byte) []string {
	var all []string
	for name := range files {
		parts := strings.Split(name, "/")
		switch {
		case parts[0] == releases.Dir && len(parts) > 2:
			name = path.Join(parts[:2]...)
		case parts[0] != channels.Dir && parts[0] != channels.QuarantineDir && name != "sluice.yaml":
			continue
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (r *repository) buildDesired() (*plan.Desired, error) {
	d, err := plan.Build(r.tip, r.history, r.open, r.cache, false, nil)
	if err != nil {
		return nil, fmt.Errorf("read the simulated repository: %w", err)
	}
	return d, nil
}

// draftRelease returns the files of a new release: a copy of the release with version like, with another manifest.
func (r *repository) draftRelease(c Cut, like string) (map[string][]byte, error) {
	fields := map[string]any{"apiVersion": releases.APIVersion, "kind": "Release"}
	files := map[string][]byte{}
	folder := path.Join(releases.Dir, c.Version.String())
	if like == "" {
		files[path.Join(folder, "kustomization.yaml")] = []byte("resources: []\n")
	} else if err := r.copyRelease(path.Join(releases.Dir, like), folder, files, fields); err != nil {
		return nil, fmt.Errorf("cut %s like %s: %w", c.Version, like, err)
	}
	fields["version"] = c.Version.String()
	fields["fixes"], fields["rollback"] = c.Fixes, string(cmp.Or(c.Rollback, releases.RollbackAllowed))
	if len(c.Features) > 0 {
		fields["features"] = c.Features
	}
	delete(fields, "requires")
	if c.Requires != (Requires{}) {
		requires := map[string]any{}
		if c.Requires.Infrastructure > 0 {
			requires["infrastructure"] = c.Requires.Infrastructure
		}
		if c.Requires.From != "" {
			requires["from"] = c.Requires.From
		}
		fields["requires"] = requires
	}
	data, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("cut %s: %w", c.Version, err)
	}
	files[path.Join(folder, "release.yaml")] = data
	return files, nil
}

// copyRelease adds the files of the folder from to files, below to, and the fields of its release.yaml to fields.
func (r *repository) copyRelease(from, to string, files map[string][]byte, fields map[string]any) error {
	return fs.WalkDir(r.tip, from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(r.tip, name)
		if err != nil {
			return err
		}
		if name == path.Join(from, "release.yaml") {
			return yaml.Unmarshal(data, &fields)
		}
		files[path.Join(to, strings.TrimPrefix(name, from+"/"))] = data
		return nil
	})
}

var errUnknownPerson = errors.New("sluice.yaml does not name this person")

func personAsAuthor(d *plan.Desired, name string) (author, error) {
	m := d.Pipeline.People[name]
	if m == nil {
		return author{}, fmt.Errorf("%s: %w", name, errUnknownPerson)
	}
	who := author{Person: releases.Person{Name: name, Email: m.Email}}
	if len(m.Keys) > 0 {
		fields := strings.Fields(m.Keys[0])
		who.key = strings.Join(fields[:min(2, len(fields))], " ")
	}
	return who, nil
}
