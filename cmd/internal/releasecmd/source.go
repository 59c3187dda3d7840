package releasecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Limits of a folder, before the release's own limits are checked.
const (
	maxCutFiles = 10_000
	maxCutBytes = 64 << 20
)

// fromHint is the next step where --from names nothing that can be read.
const fromHint = "--from names the folder with the kustomization.yaml"

// source is what a release is cut from: a folder, and all that its kustomization names outside of it.
type source struct {
	root   string            // the folder that holds all of it, absolute
	dir    string            // the folder that --from names, below the root, slash-separated; "." is the root
	files  map[string][]byte // by slash-separated path below the root
	origin releases.Source   // where the folder lies in a commit
	dirty  []string          // files that differ from that commit
}

// readSource reads the folder that --from names. Whatever its kustomization names outside the folder belongs to the
// release too: files as they are, folders as a whole.
func readSource(ctx context.Context, a *cli.App, from string) (source, error) {
	r := sourceReader{app: a, ctx: ctx, files: map[string][]byte{}, seen: map[string]bool{}}
	dir, err := filepath.Abs(from)
	if err != nil {
		return source{}, err
	}
	if err := r.readFolder(dir); err != nil {
		return source{}, err
	}
	if len(r.files) == 0 {
		return source{}, cli.Fail(fmt.Errorf("%s holds no files", from), fromHint)
	}
	for len(r.pending) > 0 {
		next := r.pending[0]
		if r.pending = r.pending[1:]; r.seen[next] {
			continue
		}
		if err := r.readNamed(next); err != nil {
			return source{}, err
		}
	}
	s := source{root: dir, files: map[string][]byte{}, origin: r.origin, dirty: append(r.dirty, r.outside...)}
	for name := range r.files {
		for !isBelow(name, s.root) {
			s.root = filepath.Dir(s.root)
		}
	}
	for name, data := range r.files {
		s.files[relativePath(s.root, name)] = data
	}
	s.dir = relativePath(s.root, dir)
	return s, nil
}

func isBelow(name, dir string) bool {
	return strings.HasPrefix(name, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}

// relativePath returns an absolute path below dir as a slash-separated path from there.
func relativePath(dir, name string) string {
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return filepath.ToSlash(name) // never: both are absolute
	}
	return filepath.ToSlash(rel)
}

// sourceReader reads files by their absolute paths.
type sourceReader struct {
	app     *cli.App
	ctx     context.Context //nolint:containedctx // of one call of readSource
	files   map[string][]byte
	seen    map[string]bool // files and folders that were read
	pending []string        // files and folders that kustomizations name
	bytes   int
	origin  releases.Source
	top     string   // the worktree of origin
	dirty   []string // what differs from origin's commit there
	outside []string // what lies elsewhere
}

// readFolder reads all files of a folder.
func (r *sourceReader) readFolder(dir string) error {
	names, err := r.listFiles(dir)
	if err != nil {
		return err
	}
	r.seen[dir] = true
	for _, name := range names {
		if err := r.readFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

// readNamed reads what a kustomization names. What is not there is left for the check of the whole release, which says
// where it is named.
func (r *sourceReader) readNamed(name string) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return r.readFolder(name)
	case !r.seen[name] && r.origin.Commit != "":
		r.noteFile(name)
	}
	return r.readFile(name)
}

// noteFile notes how a single file, which git may ignore, differs from the commit.
func (r *sourceReader) noteFile(name string) {
	git := func(args ...string) (string, error) { return repos.RunGit(r.ctx, r.app, filepath.Dir(name), args...) }
	changed, err := git("--literal-pathspecs", "status", "--porcelain", "--untracked-files=all", "--ignored", "--",
		filepath.Base(name))
	if top, _ := git("rev-parse", "--show-toplevel"); err != nil || top != r.top {
		r.outside = append(r.outside, name)
		return
	}
	r.noteChanges(changed)
}

// noteChanges notes what git status prints.
func (r *sourceReader) noteChanges(changed string) {
	for line := range strings.Lines(changed) {
		r.dirty = append(r.dirty, strings.TrimSpace(line))
	}
}

func (r *sourceReader) readFile(file string) error {
	info, err := os.Lstat(file)
	switch {
	case r.seen[file] || errors.Is(err, fs.ErrNotExist):
		return nil // a removed file may still be in git's index
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return cli.Fail(fmt.Errorf("%s is not a regular file", file), "a release holds only files: put a copy there")
	case len(r.files) >= maxCutFiles:
		return fmt.Errorf("the release holds more than %d files", maxCutFiles)
	}
	if info.Mode()&0o111 != 0 {
		r.app.Stderr.PrintLine("%s: warning: is executable: the release has the file, but not that mode", file)
	}
	data, err := readAtMost(file, maxCutBytes-r.bytes)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	r.bytes += len(data)
	r.files[file], r.seen[file] = data, true
	if releases.IsKustomization(filepath.ToSlash(file)) {
		for _, p := range releases.KustomizationPaths(data) {
			r.pending = append(r.pending, filepath.Join(filepath.Dir(file), filepath.FromSlash(p)))
		}
	}
	return nil
}

// listFiles returns the files of a folder, slash-separated. In a worktree, these are the files that git would commit,
// and the reader notes the commit that is checked out, and what differs from it; elsewhere all but .git.
func (r *sourceReader) listFiles(dir string) (names []string, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, cli.Fail(err, fromHint)
	}
	if !info.IsDir() {
		return nil, cli.Fail(fmt.Errorf("%s is not a folder", dir), fromHint)
	}
	git := func(args ...string) (string, error) { return repos.RunGit(r.ctx, r.app, dir, args...) }
	out, err := git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
	switch {
	case err != nil && isInWorktree(dir): // a release would have what git ignores: keys, say
		return nil, err
	case err == nil && out != "":
		if err := r.noteOrigin(git); err != nil {
			return nil, err
		}
		return strings.Split(strings.TrimRight(out, "\x00"), "\x00"), nil
	}
	r.outside = append(r.outside, dir)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git" && entry.IsDir():
			return fs.SkipDir
		case entry.Name() == ".git" || entry.IsDir():
			return nil
		case len(names) >= maxCutFiles:
			return fmt.Errorf("%s holds more than %d files", dir, maxCutFiles)
		}
		names = append(names, relativePath(dir, name))
		return nil
	})
	return names, err
}

// isInWorktree reports whether a folder seems to lie in a worktree, also where git can't be asked.
func isInWorktree(dir string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		above := filepath.Dir(dir)
		if above == dir {
			return false
		}
		dir = above
	}
}

// noteOrigin notes the commit of a folder in a worktree, and which files there differ from it.
func (r *sourceReader) noteOrigin(git func(args ...string) (string, error)) error {
	commit, err := git("rev-parse", "--verify", "--quiet", "HEAD")
	if err != nil {
		return nil //nolint:nilerr // no commit yet
	}
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if r.origin.Commit != "" && top != r.top {
		r.noteOther(git, top)
		return nil
	}
	if r.origin.Commit == "" {
		r.origin.Commit, r.top = commit, top
		if origin, err := git("config", "remote.origin.url"); err == nil {
			r.origin.Repository = cleantext.Address(origin)
		}
	}
	changed, err := git("status", "--porcelain", "--untracked-files=all", "--", ".")
	if err != nil {
		return err
	}
	r.noteChanges(changed)
	return nil
}

// noteOther notes a folder of another worktree. A submodule of origin's is as good as origin's own files, if it is at
// the commit that origin's names.
func (r *sourceReader) noteOther(git func(args ...string) (string, error), top string) {
	within, err := git("rev-parse", "--show-superproject-working-tree")
	changed := ""
	if err == nil && within == r.top {
		changed, err = repos.RunGit(r.ctx, r.app, r.top, "--literal-pathspecs", "status", "--porcelain",
			"--ignore-submodules=none", "--", top)
	}
	if err != nil || within != r.top {
		r.outside = append(r.outside, top)
		return
	}
	r.noteChanges(changed)
}

// dirtySuffix marks a commit that does not have all that a release has.
const dirtySuffix = "-dirty"

// warnDirty says that the recorded commit does not have what the release has, and marks the commit so.
func (s *source) warnDirty(a *cli.App) {
	if len(s.dirty) == 0 || s.origin.Commit == "" {
		return
	}
	s.origin.Commit += dirtySuffix
	a.Stderr.PrintLine("warning: %s not in commit %.8s (%s): the release records it as %.8s…-dirty; "+
		"commit first to say exactly what it is made of",
		words.Count(len(s.dirty), "change"), s.origin.Commit, words.Clip(strings.Join(s.dirty, ", "), 200), s.origin.Commit)
}

// releaseFile returns the path of the release.yaml that describes the release; empty: there is none. The one beside the
// kustomization goes before one that is at the root by chance.
func (s *source) releaseFile() string {
	for _, name := range []string{path.Join(s.dir, releaseYAMLName), releaseYAMLName} {
		if s.files[name] != nil {
			return name
		}
	}
	return ""
}

func readAtMost(file string, limit int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("the folder is larger than %d bytes", maxCutBytes)
	}
	return data, err
}
