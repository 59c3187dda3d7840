package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
)

const (
	fileMode fs.FileMode = 0o644
	dirMode  fs.FileMode = 0o755
)

// version is the content that a version's folder should have.
type version struct {
	id    string
	names []string // of files, sorted: parents come before their children
	files map[string][]byte
	dirs  map[string]bool // slash-separated, "." included
}

// planVersion names a version after its release and its content, so that one name never has two contents.
func planVersion(r cells.Rendered) (version, error) {
	v := version{names: slices.Sorted(maps.Keys(r.Files)), files: r.Files, dirs: map[string]bool{".": true}}
	hash := sha256.New()
	for _, name := range v.names {
		if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
			return version{}, fmt.Errorf("file name %q is not usable", name)
		}
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			v.dirs[d] = true
		}
		for _, part := range [][]byte{[]byte(name), r.Files[name]} {
			_ = binary.Write(hash, binary.BigEndian, int64(len(part))) // a hash never fails
			hash.Write(part)
		}
	}
	for _, name := range v.names {
		if v.dirs[name] {
			return version{}, fmt.Errorf("%q is both a file and a folder", name)
		}
	}
	v.id = safeName(r.Assignment.Release) + "-" + hex.EncodeToString(hash.Sum(nil))[:16]
	return v, nil
}

// safeName makes a release's name usable as part of a file name.
func safeName(release string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, release)
	return "r" + safe[:min(len(safe), 64)]
}

// stageVersion writes v beside the versions and names it once all of it is durable.
func (t *Target) stageVersion(ctx context.Context, folder string, v version) error {
	temporary := t.path(stagingPrefix)
	if err := os.Mkdir(temporary, dirMode); err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(v.dirs))[1:] { // "." sorts first
		if err := os.Mkdir(filepath.Join(temporary, filepath.FromSlash(d)), dirMode); err != nil {
			return err
		}
	}
	for _, name := range v.names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := writeDurableFile(filepath.Join(temporary, filepath.FromSlash(name)), v.files[name]); err != nil {
			return err
		}
	}
	for d := range v.dirs {
		if err := syncDir(filepath.Join(temporary, filepath.FromSlash(d))); err != nil {
			return err
		}
	}
	if err := os.Rename(temporary, folder); err != nil {
		return err
	}
	return syncDir(t.path(versionsDir))
}

// repairVersion compares a version's folder with v and replaces each file that differs.
func (t *Target) repairVersion(ctx context.Context, folder string, v version) (mended int, err error) {
	good := make(map[string]bool, len(v.files)+len(v.dirs))
	err = filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(relative)
		switch {
		case v.dirs[name] && entry.IsDir(),
			hasFile(v, name) && entry.Type().IsRegular():
			same, err := entryMatches(file, entry, v.files[name])
			good[name] = same
			return err
		default: // added, or of another type; a link is removed, never followed
			if !hasFile(v, name) && !v.dirs[name] {
				mended++
			}
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
	})
	if err != nil {
		return mended, err
	}
	n, err := t.restoreEntries(ctx, folder, v, good)
	return mended + n, err
}

func hasFile(v version, name string) bool {
	_, ok := v.files[name]
	return ok
}

// restoreEntries writes every folder and file of v that is not good.
func (t *Target) restoreEntries(
	ctx context.Context, folder string, v version, good map[string]bool,
) (restored int, err error) {
	touched := map[string]bool{}
	for _, d := range slices.Sorted(maps.Keys(v.dirs)) {
		if good[d] {
			continue
		}
		dir := filepath.Join(folder, filepath.FromSlash(d))
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return restored, err
		}
		if err := os.Chmod(dir, dirMode); err != nil {
			return restored, err
		}
		touched[path.Dir(d)], touched[d] = true, true
		restored++
	}
	for _, name := range v.names {
		if good[name] {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return restored, err
		}
		temporary := t.path(stagingPrefix + "-file")
		if err := writeDurableFile(temporary, v.files[name]); err != nil {
			return restored, err
		}
		if err := os.Rename(temporary, filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return restored, err
		}
		touched[path.Dir(name)] = true
		restored++
	}
	for d := range touched {
		if err := syncDir(filepath.Join(folder, filepath.FromSlash(d))); err != nil {
			return restored, err
		}
	}
	return restored, nil
}

// entryMatches reports whether an entry has the right mode and, if it is a file, the right content.
func entryMatches(file string, entry fs.DirEntry, content []byte) (bool, error) {
	info, err := entry.Info()
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return info.Mode().Perm() == dirMode, nil
	}
	if info.Mode().Perm() != fileMode || info.Size() != int64(len(content)) {
		return false, nil
	}
	present, err := os.ReadFile(file) //nolint:gosec // below the target's own folder
	return bytes.Equal(present, content), err
}

// writeDurableFile creates a file, durable, with exactly fileMode whatever the umask.
func writeDurableFile(name string, content []byte) error {
	//nolint:gosec // manifests are for others to read
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(fileMode), f.Sync(), f.Close())
}

func makeDurableDir(name string) error {
	if err := os.MkdirAll(name, dirMode); err != nil {
		return err
	}
	return errors.Join(syncDir(name), syncDir(filepath.Dir(name)))
}

func syncDir(name string) error {
	d, err := os.Open(name) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sortByAge returns version names, sorted by the modification times of their folders.
func sortByAge(entries []fs.DirEntry) []string {
	age := func(e fs.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0 // gone meanwhile
		}
		return info.ModTime().UnixNano()
	}
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b fs.DirEntry) int {
		return int(min(1, max(-1, age(a)-age(b))))
	})
	names := make([]string, len(sorted))
	for i, e := range sorted {
		names[i] = e.Name()
	}
	return names
}

func removeName(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}
