package channels

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// loadState reads one folder, or uses the cache. The State belongs to the caller; what it points to is shared.
func loadState(c *manifest.Cache, fsys fs.FS, entry fs.DirEntry) *State {
	dir, id := path.Join(Dir, entry.Name()), ""
	if info, err := entry.Info(); err == nil {
		id = manifest.ID(info)
	}
	s := manifest.Cached(c, dir, id, func() State { return readState(c, fsys, entry.Name()) })
	if id != "" && s.mayReadDifferently() {
		s = readState(c, fsys, entry.Name())
	}
	return &s
}

// mayReadDifferently reports whether reading the folder again might have another result: some faults come from the
// disk, not from the file.
func (s *State) mayReadDifferently() bool {
	return len(s.Faults) > 0 || len(s.HeadFaults) > 0 || manifest.Fatal(s.Ignored) ||
		s.Policy != nil && s.Policy.Blob == "" || s.Head != nil && s.HeadBlob == ""
}

func readState(c *manifest.Cache, fsys fs.FS, name string) State {
	s := State{Name: name}
	dir := path.Join(Dir, name)
	s.Policy, s.Faults = ParsePolicy(c, fsys, name)
	s.Faults, s.Ignored = splitWarnings(s.Faults)
	head := path.Join(dir, "head.yaml")
	s.Head, s.HeadFaults = manifest.Load[Head](c, fsys, head, nil)
	s.HeadBlob = blobID(fsys, head)
	r := folderReader{c: c, fsys: fsys}
	entries, faults := listFolder(fsys, dir)
	s.Faults = append(s.Faults, faults...)
	for _, entry := range entries {
		at := path.Join(dir, entry.Name())
		switch kind := entry.Name(); {
		case entry.IsDir() && kind == "holds":
			for _, h := range readFolder(&r, at, prepareHold) {
				if len(h.Cells) > 0 {
					s.CellHolds = append(s.CellHolds, h)
				} else {
					s.Holds = append(s.Holds, h)
				}
			}
		case entry.IsDir() && kind == "skips":
			skips := folderReader{c: c, fsys: fsys} // a skip that can't be read skips nothing, and stops nothing
			s.Skips = readFolder(&skips, at, prepareSkip)
			s.Ignored = append(s.Ignored, skips.faults...)
		case entry.IsDir() && kind == "hotfixes":
			s.Hotfixes = readFolder(&r, at, prepareHotfix)
		case entry.IsDir() && kind == "approvals":
			s.Approvals = readApprovals(&s, folderReader{c: c, fsys: fsys}, at)
		case !entry.IsDir() &&
			slices.Contains([]string{"channel.yaml", "head.yaml", "head.tuf.json", "decision.json"}, kind):
		default:
			s.Ignored = append(s.Ignored, unusedEntryFault(path.Dir(at), entry))
		}
	}
	fatal, rest := splitWarnings(r.faults)
	s.Faults = append(s.Faults, fatal...)
	s.Ignored = append(s.Ignored, rest...)
	return s
}

// readApprovals reads approvals/V/PERSON.yaml. An approval that can't be read does not count, and stops nothing.
func readApprovals(s *State, r folderReader, dir string) (all []ApprovalFile) {
	versions, faults := listFolder(r.fsys, dir)
	s.Ignored = append(s.Ignored, faults...)
	for _, v := range versions {
		at := path.Join(dir, v.Name())
		if !v.IsDir() {
			s.Ignored = append(s.Ignored, unusedEntryFault(dir, v))
			continue
		}
		if _, err := releases.ParseVersion(v.Name()); err != nil {
			s.Ignored = append(s.Ignored, manifest.Fault{File: at, Code: manifest.WrongName, Message: err.Error()})
			continue
		}
		all = append(all, readFolder(&r, at, prepareApproval)...)
	}
	s.Ignored = append(s.Ignored, r.faults...)
	return all
}

func loadQuarantines(c *manifest.Cache, fsys fs.FS, exists func(string) bool) ([]Quarantine, []manifest.Fault) {
	r := folderReader{c: c, fsys: fsys, unreadable: map[string]bool{}}
	all := readFolder(&r, QuarantineDir, prepareQuarantine)
	for i, q := range all {
		some := slices.ContainsFunc(q.Channels, exists)
		for _, name := range q.Channels {
			if exists(name) {
				continue
			}
			f := manifest.Fault{File: q.File, Warning: some, Code: manifest.UnknownReference,
				Message: fmt.Sprintf("there is no channel %q", name)}
			if !some { // a mistyped quarantine must not mean that there is none
				all[i].Channels = nil
				f.Message += "; it names no other, so it stops the release everywhere: correct channels"
			}
			r.faults = append(r.faults, f)
		}
	}
	for file := range r.unreadable {
		all = append(all, Quarantine{Release: fileStem(file), File: file,
			Reason: "its quarantine can't be read: correct or remove " + file})
	}
	slices.SortFunc(all, func(a, b Quarantine) int { return strings.Compare(a.File, b.File) })
	return all, r.faults
}

func prepareHold(doc *manifest.Doc[Hold]) (faults []manifest.Fault) {
	h := &doc.Value
	h.ID, h.File = fileStem(doc.File), doc.File
	faults = doc.RefuseEmpty()
	for i, name := range h.Cells {
		if !manifest.IsLabel(name) { // a cell's name is a DNS label too
			faults = append(faults, doc.Fault(manifest.WrongName,
				fmt.Sprintf("cells[%d]", i), "%.70q can't be a cell's name", name))
		}
	}
	return faults
}

func prepareSkip(doc *manifest.Doc[Skip]) []manifest.Fault {
	s := &doc.Value
	s.File = doc.File
	n, err := strconv.ParseInt(fileStem(doc.File), 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != fileStem(doc.File) {
		return []manifest.Fault{doc.Fault(manifest.WrongName, "",
			"the file must be named after the sequence of a head: 42.yaml")}
	}
	s.Sequence = n
	return nil
}

func prepareHotfix(doc *manifest.Doc[Hotfix]) []manifest.Fault {
	doc.Value.Release, doc.Value.File = fileStem(doc.File), doc.File
	return append(doc.RefuseEmpty(), checkVersionName(doc)...)
}

func prepareQuarantine(doc *manifest.Doc[Quarantine]) []manifest.Fault {
	doc.Value.Release, doc.Value.File = fileStem(doc.File), doc.File
	return append(doc.RefuseEmpty(), checkVersionName(doc)...)
}

// ParseApproval reads one approval, from any commit; nil: it can't be read. c may be nil.
func ParseApproval(c *manifest.Cache, fsys fs.FS, file string) *ApprovalFile {
	a, _ := manifest.Load(c, fsys, file, prepareApproval)
	return a
}

func prepareApproval(doc *manifest.Doc[ApprovalFile]) []manifest.Fault {
	a := &doc.Value
	a.Release, a.Person, a.File = path.Base(path.Dir(doc.File)), fileStem(doc.File), doc.File
	if !personName().MatchString(a.Person) {
		return []manifest.Fault{doc.Fault(manifest.WrongName, "",
			"%.70q is not the name of a person in %s", a.Person, pipelineFile)}
	}
	return nil
}

// checkVersionName adds a fault if a file is not named after a release.
func checkVersionName[T any](doc *manifest.Doc[T]) []manifest.Fault {
	if _, err := releases.ParseVersion(fileStem(doc.File)); err != nil {
		return []manifest.Fault{doc.Fault(manifest.WrongName, "", "the file must be named after a release: %v", err)}
	}
	return nil
}

// folderReader reads folders of small files. It collects their faults and, if unreadable is not nil, the files with
// faults.
type folderReader struct {
	c          *manifest.Cache
	fsys       fs.FS
	faults     []manifest.Fault
	unreadable map[string]bool
}

// readFolder reads every NAME.yaml in dir, in order. Other files are warnings.
func readFolder[T any](r *folderReader, dir string, ready func(*manifest.Doc[T]) []manifest.Fault) (all []T) {
	entries, faults := listFolder(r.fsys, dir)
	r.faults = append(r.faults, faults...)
	for _, entry := range entries {
		file := path.Join(dir, entry.Name())
		if entry.IsDir() || path.Ext(file) != ".yaml" {
			f := unusedEntryFault(dir, entry)
			if path.Ext(file) == ".yml" { // a mistyped hold must not mean that there is none
				f = manifest.Fault{File: file, Code: manifest.WrongName, Message: "must end in .yaml"}
				r.markUnreadable(file)
			}
			r.faults = append(r.faults, f)
			continue
		}
		value, faults := manifest.Load(r.c, r.fsys, file, ready)
		r.faults = append(r.faults, faults...)
		if value != nil {
			all = append(all, *value)
		} else {
			r.markUnreadable(file)
		}
	}
	return all
}

func (r *folderReader) markUnreadable(file string) {
	if r.unreadable != nil {
		r.unreadable[file] = true
	}
}

// listFolder returns a folder's entries, in order; none if there is no such folder. .gitkeep, which keeps an empty
// folder in git, is no entry.
func listFolder(fsys fs.FS, dir string) ([]fs.DirEntry, []manifest.Fault) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []manifest.Fault{{File: dir, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ".gitkeep" }), nil
}

func unusedEntryFault(dir string, e fs.DirEntry) manifest.Fault {
	return manifest.UnusedEntry(dir, e, "nothing here has this name")
}

// splitWarnings separates faults from warnings.
func splitWarnings(faults []manifest.Fault) (fatal, warnings []manifest.Fault) {
	for _, f := range faults {
		if f.Warning {
			warnings = append(warnings, f)
		} else {
			fatal = append(fatal, f)
		}
	}
	return fatal, warnings
}

// fileStem returns a file's name without folder and extension.
func fileStem(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }

// blobID returns a file's object id, the SHA-256 where there is no id, and "" if there is no file.
func blobID(fsys fs.FS, file string) string {
	info, err := fs.Stat(fsys, file)
	if err != nil || info.Size() > manifest.MaxFile || !info.Mode().IsRegular() {
		return ""
	}
	if id := manifest.ID(info); id != "" {
		return id
	}
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
