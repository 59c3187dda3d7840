package directory

import (
	"bytes"
	"cmp"
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
	"slices"
	"strings"
	"syscall"

	"github.com/sluice-cd/sluice/cells"
)

// dirMode is the mode of folders: who may read a file may enter its folder.
func (t *Target) dirMode() fs.FileMode {
	return t.options.Mode | t.options.Mode&0o400>>2 | t.options.Mode&0o044>>2
}

// grant sets a folder's mode, whatever the umask, and its group.
func (t *Target) grant(name string) error {
	if t.options.Group != nil {
		if err := t.root.Lchown(name, -1, *t.options.Group); err != nil {
			return fmt.Errorf("give it to group %d: %w", *t.options.Group, err)
		}
	}
	return t.root.Chmod(name, t.dirMode())
}

// isGranted reports whether a file or folder has its mode and group.
func (t *Target) isGranted(info fs.FileInfo, mode fs.FileMode) bool {
	system, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().Perm() == mode && (t.options.Group == nil || ok && int(system.Gid) == *t.options.Group)
}

// version is the content that a version's folder should have.
type version struct {
	id    string
	names []string // of files, sorted: parents come before their children
	files map[string][]byte
	dirs  map[string]bool // slash-separated, "." included

	objects []cells.Object // that the files describe
}

// nameError says that a release has a file that no folder can hold.
type nameError struct{ reason string }

func (e *nameError) Error() string { return e.reason }

func (e *nameError) FailureCause() cells.Cause { return cells.CauseRelease }

// planVersion names a version after its release and its content, so that one name never has two contents.
func planVersion(r cells.Rendered) (version, error) {
	v := version{names: slices.Sorted(maps.Keys(r.Files)), files: r.Files, dirs: map[string]bool{".": true},
		objects: r.Objects}
	hash := sha256.New()
	for _, name := range v.names {
		if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
			return version{}, &nameError{fmt.Sprintf("file name %q is not usable", name)}
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
			return version{}, &nameError{fmt.Sprintf("%q is both a file and a folder", name)}
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
	const temporary = staging
	for _, d := range slices.Sorted(maps.Keys(v.dirs)) { // "." sorts first
		if err := t.root.Mkdir(path.Join(temporary, d), t.dirMode()); err != nil {
			return err
		}
		if err := t.grant(path.Join(temporary, d)); err != nil {
			return err
		}
	}
	for _, name := range v.names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := t.writeDurableFile(path.Join(temporary, name), v.files[name]); err != nil {
			return err
		}
	}
	for d := range v.dirs {
		if err := t.syncDir(path.Join(temporary, d)); err != nil {
			return err
		}
	}
	if err := t.root.Rename(temporary, folder); err != nil {
		return err
	}
	return t.syncDir(versionsDir)
}

// repairVersion compares a version's folder with v and replaces each file that differs.
func (t *Target) repairVersion(ctx context.Context, folder string, v version) (mended int, err error) {
	good := make(map[string]bool, len(v.files)+len(v.dirs))
	err = fs.WalkDir(t.root.FS(), folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		name := "."
		if file != folder {
			name = file[len(folder)+1:]
		}
		switch {
		case v.dirs[name] && entry.IsDir(),
			hasFile(v, name) && entry.Type().IsRegular():
			same, err := t.entryMatches(file, entry, v.files[name])
			good[name] = same
			return err
		default: // added, or of another type; a link is removed, never followed
			if added := !hasFile(v, name) && !v.dirs[name]; added && t.recurring.sight(name) {
				if entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			} else if added {
				mended++
			}
			if err := t.root.RemoveAll(file); err != nil {
				return err
			}
			if entry.IsDir() {
				return fs.SkipDir
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
		dir := path.Join(folder, d)
		if err := t.root.Mkdir(dir, t.dirMode()); err != nil && !errors.Is(err, fs.ErrExist) {
			return restored, err
		}
		if err := t.grant(dir); err != nil {
			return restored, err
		}
		touched[path.Dir(d)], touched[d] = true, true
		if !t.recurring.sight(d) {
			restored++
		}
	}
	for _, name := range v.names {
		if good[name] {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return restored, err
		}
		const temporary = staging
		if err := t.writeDurableFile(temporary, v.files[name]); err != nil {
			return restored, err
		}
		if err := t.root.Rename(temporary, path.Join(folder, name)); err != nil {
			return restored, err
		}
		touched[path.Dir(name)] = true
		if !t.recurring.sight(name) {
			restored++
		}
	}
	for d := range touched {
		if err := t.syncDir(path.Join(folder, d)); err != nil {
			return restored, err
		}
	}
	return restored, nil
}

// entryMatches reports whether an entry has the right mode and group and, if it is a file, the right content.
func (t *Target) entryMatches(file string, entry fs.DirEntry, content []byte) (bool, error) {
	info, err := entry.Info()
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return t.isGranted(info, t.dirMode()), nil
	}
	if !t.isGranted(info, t.options.Mode) || info.Size() != int64(len(content)) {
		return false, nil
	}
	present, err := t.root.ReadFile(file)
	return bytes.Equal(present, content), err
}

// writeDurableFile creates a file, durable, with the mode of the product's files whatever the umask. It follows no
// link.
func (t *Target) writeDurableFile(name string, content []byte) error {
	f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if t.options.Group != nil && err == nil {
		if err = f.Chown(-1, *t.options.Group); err != nil {
			err = fmt.Errorf("give it to group %d: %w", *t.options.Group, err)
		}
	}
	return errors.Join(err, f.Chmod(t.options.Mode), f.Sync(), f.Close())
}

func (t *Target) syncDir(name string) error {
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sortByAge returns entries sorted by their modification times.
func sortByAge(entries []fs.DirEntry) []fs.DirEntry {
	age := func(e fs.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0 // gone meanwhile
		}
		return info.ModTime().UnixNano()
	}
	return slices.SortedFunc(slices.Values(entries), func(a, b fs.DirEntry) int { return cmp.Compare(age(a), age(b)) })
}
