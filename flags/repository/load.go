package repository

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

const (
	maxFiles      = 10_000   // files or folders read per folder
	maxTotalBytes = 24 << 20 // bytes of all definitions, written out; below the limit of bundles
)

// Load reads a flags repository: a commit, or a folder on disk. The Tree is never nil: even an Invalid one contains
// everything readable, overrides above all (R43). c may be nil; with a cache, files with known object ids are not read
// again, and their contents are shared and immutable.
func Load(c *manifest.Cache, fsys fs.FS) *Tree { return LoadByAge(c, fsys, nil) }

// LoadByAge is Load of a commit whose files have ages: where two files define one flag, the younger has the fault. age
// returns a number that is greater for a younger file.
func LoadByAge(c *manifest.Cache, fsys fs.FS, age func(file string) int64) *Tree {
	l := loader{cache: c, fsys: fsys, age: age, zones: zoneCache{}, tree: &Tree{
		Flags:         map[string]*flags.Definition{},
		Announcements: map[string]*Announcement{},
		Records:       map[string]map[string]Record{},
		Heads:         map[string]Head{},
	}}
	l.loadSettings()
	l.loadDefinitions()
	l.tree.keysByFeature = groupByFeature(l.tree.Flags)
	l.loadAnnouncements()
	l.loadApprovals()
	l.loadRecords()
	l.loadHeads()
	l.tree.Invalid = manifest.Fatal(l.faults)
	l.loadOverrides()
	l.tree.Faults = manifest.Sort(l.faults)
	return l.tree
}

type loader struct {
	cache         *manifest.Cache
	fsys          fs.FS
	age           func(file string) int64 // nil: all are of one age
	tree          *Tree
	zones         zoneCache
	faults        []manifest.Fault
	peopleUnknown bool // sluice.yaml can't be read
	flagsUnknown  bool // a file of flags can't be parsed, so that a reference to an unknown flag may be right
}

func (l *loader) addFault(code manifest.FaultCode, file string, line int, format string, args ...any) {
	l.faults = append(l.faults, manifest.Fault{File: file, Line: line, Code: code,
		Message: fmt.Sprintf(format, args...)})
}

func (l *loader) addWarning(code manifest.FaultCode, file string, line int, format string, args ...any) {
	l.addFault(code, file, line, format, args...)
	l.faults[len(l.faults)-1].Warning = true
}

// listFolder returns the entries of a folder to read: folders, or files with one of the endings. Other entries yield
// faults.
func (l *loader) listFolder(dir string, endings ...string) (names []string) {
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.addFault(manifest.Unreadable, dir, 0, "can't be read: %v", err)
		}
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		switch at := path.Join(dir, name); {
		case name == ".gitkeep": // keeps a folder in git
		case len(endings) == 0 && e.IsDir(), !e.IsDir() && slices.Contains(endings, path.Ext(name)):
			names = append(names, name)
		case !e.IsDir() && path.Ext(name) == ".yml" && slices.Contains(endings, ".yaml"):
			l.addFault(manifest.WrongName, at, 0, "must end in .yaml")
		default:
			l.addWarning(manifest.Unused, at, 0, "is not read: nothing here has this name")
		}
	}
	if len(names) > maxFiles {
		l.addFault(manifest.TooLarge, dir, 0, "has %d entries: at most %d are read", len(names), maxFiles)
		names = names[:maxFiles]
	}
	return names
}

// loadDefinitions reads flags/, up to the first file beyond a limit.
func (l *loader) loadDefinitions() {
	const atOnce = 32 // files at once, which bounds memory
	count, bytes := 0, 0
	files := l.listFolder(DefinitionsDir, ".yaml", ".yml", ".json")
	if l.age != nil { // a flag that is there twice is a fault of the later file
		slices.SortStableFunc(files, func(a, b string) int {
			return cmp.Compare(l.age(path.Join(DefinitionsDir, a)), l.age(path.Join(DefinitionsDir, b)))
		})
	}
	for names := range slices.Chunk(files, atOnce) {
		for _, s := range l.loadSets(names) {
			count, bytes = count+len(s.flags), bytes+s.bytes
			switch {
			case count > flags.MaxFlags:
				l.addFault(manifest.TooLarge, DefinitionsDir, 0,
					"has more than %d flags: remove those that are on everywhere (`sluice flag stale`)", flags.MaxFlags)
			case bytes > maxTotalBytes:
				l.addFault(manifest.TooLarge, DefinitionsDir, 0,
					"has flags of more than %d MiB, references and metadata written out: make them smaller, or "+
						"remove those that are on everywhere (`sluice flag stale`)",
					maxTotalBytes>>20)
			default:
				l.addSet(s)
				continue
			}
			l.flagsUnknown = true
			return
		}
	}
}

// loadSets reads files of definitions, on all processors.
func (l *loader) loadSets(names []string) []flagSet {
	sets := make([]flagSet, len(names))
	var reading errgroup.Group
	reading.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		reading.Go(func() error { // each goroutine writes its own element
			sets[i] = l.loadSet(path.Join(DefinitionsDir, name))
			return nil
		})
	}
	_ = reading.Wait() // no goroutine returns an error
	return sets
}

// addSet adds a file's definitions and faults to the tree.
func (l *loader) addSet(s flagSet) {
	l.faults = append(l.faults, s.faults...)
	l.flagsUnknown = l.flagsUnknown || len(s.flags) == 0 && manifest.Fatal(s.faults)
	for _, d := range s.flags {
		if other := l.tree.Flags[d.Key]; other != nil {
			l.addFault(manifest.Duplicate, d.File, d.Line,
				"flag %s is in %s:%d too: a flag has one definition", d.Key, other.File, other.Line)
			continue
		}
		l.tree.Flags[d.Key] = d
	}
}

func (l *loader) loadSet(file string) flagSet {
	s, fault := manifest.LoadBytes(l.cache, l.fsys, file, func(data []byte) flagSet { return parseFlagSet(file, data) })
	if fault != nil {
		return flagSet{faults: []manifest.Fault{*fault}}
	}
	return s
}

// CanStand reports whether a file may stand at an earlier content while it has a fault (fault 33): a file of flags,
// announcements, approvals, records or heads.
func CanStand(file string) bool {
	switch dir, _, _ := strings.Cut(file, "/"); dir {
	case DefinitionsDir, AnnouncementsDir, HeadsDir:
		return path.Dir(file) == dir
	case ApprovalsDir, RecordsDir:
		return path.Dir(path.Dir(file)) == dir
	}
	return false
}

// IsReadable reports whether a file that can stand has no fault of its own, whatever other files say.
func IsReadable(c *manifest.Cache, fsys fs.FS, file string) bool {
	l := loader{cache: c, fsys: fsys}
	var faults []manifest.Fault
	there := true
	switch dir, _, _ := strings.Cut(file, "/"); dir {
	case DefinitionsDir:
		faults = l.loadSet(file).faults
	case AnnouncementsDir:
		there, faults = check(&l, file, validateAnnouncement)
	case HeadsDir:
		there, faults = check(&l, file, validateHead)
	case ApprovalsDir:
		there, faults = check(&l, file, validateApproval)
	case RecordsDir:
		there, faults = check(&l, file, validateRecord)
	}
	return there && !manifest.Fatal(faults)
}

func check[T any](l *loader, file string, ready func(*manifest.Doc[T]) []manifest.Fault) (bool, []manifest.Fault) {
	v, faults := manifest.Load(l.cache, l.fsys, file, ready)
	return v != nil, faults
}

// loadFolder reads every NAME.yaml of a folder. ready validates a value and completes it by its file name.
func loadFolder[T any](l *loader, dir string, ready func(*manifest.Doc[T]) []manifest.Fault) (all []T) {
	for _, name := range l.listFolder(dir, ".yaml") {
		v, faults := manifest.Load(l.cache, l.fsys, path.Join(dir, name), ready)
		l.faults = append(l.faults, faults...)
		if v != nil {
			all = append(all, *v)
		}
	}
	return all
}

func (l *loader) loadApprovals() {
	for _, id := range l.listFolder(ApprovalsDir) {
		dir := path.Join(ApprovalsDir, id)
		if l.tree.Announcements[id] == nil {
			l.addWarning(manifest.UnknownReference, dir, 0, "approves nothing: there is no %s/%s.yaml",
				AnnouncementsDir, id)
		}
		for _, a := range loadFolder(l, dir, validateApproval) {
			l.tree.Approvals = append(l.tree.Approvals, a)
			if l.tree.Settings.People[a.Person] == nil {
				l.addWarning(manifest.UnknownReference, path.Join(dir, a.Person+".yaml"), 0,
					"does not count: %s does not list %.60q in people", settingsFile, a.Person)
			}
		}
	}
}

func (l *loader) loadRecords() {
	for _, id := range l.listFolder(RecordsDir) {
		dir := path.Join(RecordsDir, id)
		for _, name := range l.listFolder(dir, ".yaml") {
			r, faults := manifest.Load(l.cache, l.fsys, path.Join(dir, name), validateRecord)
			l.faults = append(l.faults, faults...)
			if r == nil {
				continue
			}
			if l.tree.Records[id] == nil {
				l.tree.Records[id] = map[string]Record{}
			}
			l.tree.Records[id][stem(name)] = *r
		}
	}
}

func (l *loader) loadHeads() {
	for _, name := range l.listFolder(HeadsDir, ".yaml") {
		h, faults := manifest.Load(l.cache, l.fsys, path.Join(HeadsDir, name), validateHead)
		l.faults = append(l.faults, faults...)
		if h != nil {
			l.tree.Heads[stem(name)] = *h
		}
	}
}

// stem returns a file's name without folder and ending.
func stem(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }

// loadOverrides reads overrides/ as far as possible: no fault, not even in the file itself, stops a kill (R43).
func (l *loader) loadOverrides() {
	for _, name := range l.listFolder(OverridesDir, ".yaml", ".yml") {
		file := path.Join(OverridesDir, name)
		o, fault := manifest.LoadBytes(l.cache, l.fsys, file, func(data []byte) parsedOverride {
			return parseOverride(file, data)
		})
		if fault != nil {
			o = parseOverride(file, nil)
			o.faults = append(o.faults, *fault)
		}
		l.faults = append(l.faults, o.faults...)
		if !o.effective {
			continue
		}
		l.tree.Overrides = append(l.tree.Overrides, o.Override)
		switch flag, announcement := o.Flag, o.Announcement; {
		case l.flagsUnknown:
		case o.Kind == Kill && l.tree.Flags[flag] == nil:
			l.addWarning(manifest.UnknownReference, file, o.line,
				"kills nothing: there is no flag %.60q; remove the file, or fix its name", flag)
		case o.Kind == Hold && l.tree.Announcements[announcement] == nil:
			l.addWarning(manifest.UnknownReference, file, o.line,
				"holds nothing: there is no announcement %.60q; remove the file, or fix its name", announcement)
		}
	}
	slices.SortStableFunc(l.tree.Overrides, func(a, b Override) int { return cmp.Compare(a.Name, b.Name) })
}
