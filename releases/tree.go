package releases

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// lfsPointerPrefix is how a Git LFS pointer begins: what is in git then is not what is meant.
const lfsPointerPrefix = "version https://git-lfs.github.com/spec/v"

// releaseTree lists the files of one release folder; their content is not read yet.
type releaseTree struct {
	fsys     fs.FS
	inMemory Files // if not nil, used in place of fsys
	dir      string
	files    []file // by path, bytewise
}

type file struct {
	path string // relative to the folder, slash-separated
	size int64
	mode fs.FileMode // 0o644 or 0o755
}

// size returns the size of all files in bytes.
func (t *releaseTree) size() (bytes int64) {
	for _, f := range t.files {
		bytes += f.size
	}
	return bytes
}

// walkRelease lists the files of dir. Whatever no release may have is a fault with its path (R23); all other files are
// in the tree nevertheless. The walk stops at the limits.
func walkRelease(fsys fs.FS, dir string, limits Limits) (*releaseTree, []Fault) {
	w := &walker{releaseTree: releaseTree{fsys: fsys, dir: dir}, guard: newGuard(limits)}
	w.walkFolder(".")
	slices.SortFunc(w.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return &w.releaseTree, w.faults
}

// maxWalkFaults is the number of faults after which a walk stops.
const maxWalkFaults = 100

type walker struct {
	releaseTree
	guard  *guard
	faults []Fault
}

func (w *walker) addFault(code manifest.FaultCode, name, format string, args ...any) {
	w.faults = append(w.faults, Fault{File: path.Join(w.dir, name), Code: code, Message: fmt.Sprintf(format, args...)})
}

func (w *walker) walkFolder(name string) {
	entries, err := fs.ReadDir(w.fsys, path.Join(w.dir, name))
	if err != nil {
		w.addFault(manifest.Unreadable, name, "can't be read: %v", err)
		return
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		if !fs.ValidPath(path.Join(w.dir, child)) || strings.Contains(e.Name(), "/") {
			w.addFault(manifest.WrongName, name, "has an entry that is not a file name: %q", e.Name())
			continue
		}
		switch t := e.Type(); {
		case t&fs.ModeSymlink != 0:
			w.addFault(manifest.Forbidden, child, "is a symbolic link: a release holds only files")
		case t.IsDir():
			if err := w.guard.checkPath(child); err != nil {
				w.addFault(faultCodeOf(err), child, "%v", err)
				continue
			}
			w.walkFolder(child)
		case !t.IsRegular():
			w.addFault(manifest.Forbidden, child,
				"is not a file (%s): a release can't have submodules, devices or pipes", describeType(t))
		default:
			w.addFile(child, e)
		}
		if w.guard.exceeded || len(w.faults) >= maxWalkFaults {
			return
		}
	}
}

func (w *walker) addFile(name string, e fs.DirEntry) {
	info, err := e.Info()
	if err != nil {
		w.addFault(manifest.Unreadable, name, "can't be read: %v", err)
		return
	}
	if err := w.guard.admitFile(name, info.Size()); err != nil {
		w.addFault(faultCodeOf(err), name, "%v", err)
		return
	}
	w.files = append(w.files, file{name, info.Size(), gitMode(info.Mode())})
}

func describeType(t fs.FileMode) string {
	switch {
	case t&fs.ModeNamedPipe != 0:
		return "a pipe"
	case t&fs.ModeSocket != 0:
		return "a socket"
	case t&fs.ModeDevice != 0:
		return "a device"
	}
	return "perhaps a submodule"
}

// gitMode reduces a mode to what git stores: whether the owner may execute the file.
func gitMode(m fs.FileMode) fs.FileMode {
	if m&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

// hasEntry reports whether the tree has a file or, if folder is true, a folder of that path.
func (t *releaseTree) hasEntry(name string, folder bool) bool {
	if folder && name == "." {
		return len(t.files) > 0
	}
	prefix := name
	if folder {
		prefix += "/"
	}
	i, ok := slices.BinarySearchFunc(t.files, prefix, func(f file, s string) int { return strings.Compare(f.path, s) })
	if !folder {
		return ok
	}
	return i < len(t.files) && strings.HasPrefix(t.files[i].path, prefix)
}

// readFile returns the content of f, which must still have the size that the walk found.
func (t *releaseTree) readFile(f file) ([]byte, error) {
	if t.inMemory != nil {
		return t.inMemory[f.path].Data, nil
	}
	in, err := t.fsys.Open(path.Join(t.dir, f.path))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data := make([]byte, f.size)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("it is shorter than it was a moment ago: %w", err)
	}
	if n, _ := in.Read(make([]byte, 1)); n > 0 {
		return nil, errors.New("it is longer than it was a moment ago")
	}
	return data, nil
}

// writeTar writes the canonical tar of the tree, and returns faults for files that can't be part of the tar. Errors
// come from w.
func (t *releaseTree) writeTar(w io.Writer) ([]Fault, error) {
	var faults []Fault
	fault := func(code manifest.FaultCode, f file, format string, args ...any) {
		faults = append(faults, Fault{File: path.Join(t.dir, f.path), Code: code,
			Message: fmt.Sprintf(format, args...)})
	}
	for _, f := range t.files {
		data, err := t.readFile(f)
		if err != nil {
			fault(manifest.Unreadable, f, "can't be read: %v", err)
			continue
		}
		if bytes.HasPrefix(data, []byte(lfsPointerPrefix)) {
			fault(manifest.Forbidden, f, "is a Git LFS pointer: a release must hold the content itself")
			continue
		}
		if err := writeTarEntry(w, f.path, f.mode, data); err != nil {
			return faults, err
		}
	}
	return faults, writeTarEnd(w)
}

// joinFaults makes one error of the faults; nil if all of them are warnings.
func joinFaults(faults []Fault) error {
	if !manifest.Fatal(faults) {
		return nil
	}
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = errors.New(f.String())
	}
	return errors.Join(errs...)
}
