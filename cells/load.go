package cells

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

const (
	cellFile     = "cell.yaml"
	identityFile = "identity.yaml"
)

// LoadedCell is a cell as Load read it. It may come from a cache, and is immutable.
type LoadedCell struct {
	Cell     Cell     // only Name, if the file has faults
	Identity Identity // as the file has it; zero: never registered, or unreadable
	Faults   []releases.Fault
	TreeID   string // git tree id of the folder, if known

	IdentityBlob   string // git object id of the identity's file, if known
	IdentityFaults []releases.Fault

	Infrastructure *InfrastructureRecord // nil: there is none, or it has faults
}

// ValidName reports whether name can be a cell's name: a DNS label, at most 63 lower-case letters, digits and hyphens.
// Names of cells and channels become parts of host names and paths.
func ValidName(name string) bool { return manifest.IsLabel(name) }

// loadResult is the result of Load, as the cache holds it.
type loadResult struct {
	found  map[string]*LoadedCell
	faults []releases.Fault
}

// Load reads all cells of a repository in parallel and returns them by name. The returned faults include those of each
// cell. Load does not check whether channels, profiles and values exist: other files define them. With a cache, a
// folder whose tree id is known is not read again, and the returned map may be shared: it is immutable.
func Load(c *manifest.Cache, fsys fs.FS) (map[string]*LoadedCell, []releases.Fault) {
	id := ""
	if info, err := fs.Stat(fsys, Dir); err == nil {
		id = manifest.ID(info)
	}
	a := manifest.Cached(c, Dir, id, func() loadResult {
		found, faults := loadAll(c, fsys)
		return loadResult{found, faults}
	})
	return a.found, slices.Clip(a.faults)
}

func loadAll(c *manifest.Cache, fsys fs.FS) (map[string]*LoadedCell, []releases.Fault) {
	folders, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []releases.Fault{{File: Dir, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	var faults []releases.Fault
	folders = slices.DeleteFunc(folders, func(f fs.DirEntry) bool {
		if !f.IsDir() {
			faults = append(faults, manifest.UnusedEntry(Dir, f, "a cell is a folder"))
		}
		return !f.IsDir()
	})
	found := make([]*LoadedCell, len(folders))
	var reading errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		reading.Go(func() error {
			for i := w; i < len(folders); i += workers {
				found[i] = loadFolder(c, fsys, folders[i])
			}
			return nil
		})
	}
	_ = reading.Wait() // never an error
	byName := make(map[string]*LoadedCell, len(found))
	for _, f := range found {
		byName[f.Cell.Name] = f
		faults = append(append(faults, f.Faults...), f.IdentityFaults...)
	}
	return byName, manifest.Sort(faults)
}

func loadFolder(c *manifest.Cache, fsys fs.FS, folder fs.DirEntry) *LoadedCell {
	id := ""
	if info, err := folder.Info(); err == nil {
		id = manifest.ID(info)
	}
	name := folder.Name()
	return manifest.Cached(c, name, id, func() *LoadedCell {
		f := readFolder(fsys, name)
		f.TreeID = id
		return f
	})
}

// LoadCell reads one cell of a repository.
func LoadCell(fsys fs.FS, name string) *LoadedCell { return readFolder(fsys, name) }

// readFolder reads one folder. The cache holds the folder as a whole, so its files need no entries of their own.
func readFolder(fsys fs.FS, name string) *LoadedCell {
	f := &LoadedCell{Cell: Cell{Name: name}}
	add := func(code manifest.FaultCode, file, format string, args ...any) {
		f.Faults = append(f.Faults, releases.Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)})
	}
	dir := path.Join(Dir, name)
	if !ValidName(name) {
		add(manifest.WrongName, dir,
			"%q can't be a cell's name: it takes at most 63 lower-case letters, digits and hyphens", name)
	}
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		add(manifest.Unreadable, dir, "can't be read: %v", err)
		return f
	}
	for _, e := range entries {
		switch file := path.Join(dir, e.Name()); e.Name() {
		case cellFile:
			cell, faults := manifest.Load(nil, fsys, file, validateCell)
			f.Faults = append(f.Faults, faults...)
			if cell != nil {
				f.Cell = *cell
				f.Cell.Name = name
				f.Cell.Revision = contentHash(f.Cell)
				f.Cell.LabelsHash = hashOf(f.Cell.Labels)
				f.Cell.TextsHash = hashOf(f.Cell.Texts)
				f.Cell.Blob = blob(e)
			}
		case identityFile:
			f.Identity, f.IdentityFaults = LoadIdentity(fsys, name)
			f.IdentityBlob = blob(e)
		case InfrastructureFile:
			record, faults := loadInfrastructure(fsys, name)
			f.Infrastructure, f.Faults = record, append(f.Faults, faults...)
		default:
			f.Faults = append(f.Faults, manifest.UnusedEntry(dir, e, "nothing here has this name"))
		}
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == cellFile }) {
		add(manifest.Missing, path.Join(dir, cellFile), "is missing: without it the folder is no cell")
	}
	return f
}

func blob(e fs.DirEntry) string {
	info, err := e.Info()
	if err != nil {
		return ""
	}
	return manifest.ID(info)
}

func validateCell(d *manifest.Doc[Cell]) (faults []releases.Fault) {
	c := &d.Value
	faults = d.RefuseEmpty()
	if !ValidName(c.Channel) {
		faults = append(faults, d.Fault(manifest.WrongName, "channel", "%q can't be a channel's name", c.Channel))
	}
	if _, err := releases.ParseVersion(c.Pin); c.Pin != "" && err != nil {
		faults = append(faults, d.Fault(manifest.WrongValue, "pin", "%v", err))
	}
	if len(c.Profile) > maxName {
		faults = append(faults, d.Fault(manifest.TooLarge, "profile", "has more than %d bytes", maxName))
	}
	if len(c.Values) > 0 {
		if n := len(Assignment{Values: c.Values}.canonicalValues()); n > MaxValues {
			faults = append(faults, d.Fault(manifest.TooLarge, "values", "has %d bytes as JSON: at most %d are assigned "+
				"to a cell; what is large belongs in the release, or in the cell's own --values", n, MaxValues))
		}
	}
	faults = append(faults, checkContacts(d)...)
	for _, wrong := range (releases.Maintenance{Texts: c.Texts}).Check() {
		at := "maintenanceTexts" + strings.TrimPrefix(wrong.At, "texts")
		faults = append(faults, d.Fault(manifest.WrongValue, at, "%s", wrong.Reason))
	}
	if len(c.Windows) > window.MaxList {
		return append(faults, d.Fault(manifest.TooLarge, "windows",
			"%d windows: at most %d are read", len(c.Windows), window.MaxList))
	}
	for i := range c.Windows {
		for _, wrong := range c.Windows[i].Compile() {
			faults = append(faults, d.Fault(manifest.WrongValue,
				fmt.Sprintf("windows[%d].%s", i, wrong.Field), "%s", wrong.Reason))
		}
		for _, odd := range c.Windows[i].Warnings() {
			faults = append(faults, d.Warning(manifest.WrongValue,
				fmt.Sprintf("windows[%d].%s", i, odd.Field), "%s", odd.Reason))
		}
	}
	return faults
}

// maxKey bounds the text of a public key, in bytes.
const maxKey = 1024

// LoadIdentity reads a cell's identity.yaml. A field that only a newer version knows is no reason to forget the cell:
// such a fault is a warning.
func LoadIdentity(fsys fs.FS, cell string) (Identity, []releases.Fault) {
	file := path.Join(Dir, cell, identityFile)
	type parsed struct {
		value  Identity
		faults []releases.Fault
	}
	p, fault := manifest.LoadBytes(nil, fsys, file, func(data []byte) (p parsed) {
		doc, faults := manifest.Decode[Identity](file, data)
		if len(doc.Value.PublicKey) > maxKey {
			faults = append(faults, doc.Fault(manifest.TooLarge, "publicKey", "publicKey has more than %d bytes",
				maxKey))
		}
		for i := range faults {
			faults[i].Warning = faults[i].Warning || faults[i].Code == manifest.UnknownField
		}
		if p.faults = faults; !manifest.Fatal(faults) {
			p.value = doc.Value
		}
		return p
	})
	if fault != nil {
		return Identity{}, []releases.Fault{*fault}
	}
	return p.value, p.faults
}
