package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/releases"
)

// listFolder names the files of a folder, slash-separated: those that git would commit if it lies in a worktree,
// with the commit that is checked out; else all but .git.
func (a *app) listFolder(ctx context.Context, dir string) (names []string, source releases.Source, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, source, fail(err, "--from names the folder with the kustomization.yaml")
	}
	if !info.IsDir() {
		return nil, source, fail(fmt.Errorf("%s is not a folder", dir), "--from names the folder with the kustomization.yaml")
	}
	if out, err := a.git(ctx, dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"); err == nil && out != "" {
		source.Commit, _ = a.git(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD")
		if origin, err := a.git(ctx, dir, "config", "remote.origin.url"); err == nil && source.Commit != "" {
			source.Repository = withoutPassword(origin)
		}
		names = strings.Split(strings.TrimRight(out, "\x00"), "\x00")
		if len(names) > maxCutFiles {
			return nil, source, fmt.Errorf("%s holds more than %d files", dir, maxCutFiles)
		}
		return names, source, nil
	}
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		case len(names) >= maxCutFiles:
			return fmt.Errorf("%s holds more than %d files", dir, maxCutFiles)
		}
		rel, err := filepath.Rel(dir, name)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	return names, source, err
}

func withoutPassword(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	if at := strings.LastIndexByte(strings.SplitN(rest, "/", 2)[0], '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
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

// readRelease reads all files of a release in the repository, by their path in its folder.
func readRelease(files fs.FS, version string) (map[string][]byte, error) {
	dir := path.Join(releases.Dir, version)
	out := map[string][]byte{}
	err := fs.WalkDir(files, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		out[strings.TrimPrefix(name, dir+"/")] = data
		return err
	})
	return out, err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
