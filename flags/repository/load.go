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
	maxFiles = 10_000   // read of one folder
	maxAll   = 24 << 20 // bytes of all definitions written out: bundles have room for more
)

// Load reads a flags repository: a commit, or a folder on disk. The Tree is never nil. What could be read is in it even if
// it is Invalid, overrides above all (R43). c may be nil; with one, files whose object id is known are not read again, and
// what they say is shared: immutable.
func Load(c *manifest.Cache, fsys fs.FS) *Tree {
	l := loader{c: c, fsys: fsys, zones: zones{}, tree: &Tree{
		Flags:         map[string]*flags.Definition{},
		Announcements: map[string]*Announcement{},
		Records:       map[string]map[string]Record{},
		Heads:         map[string]Head{},
	}}
	l.settings()
	l.definitions()
	l.tree.byFeature = keysByFeature(l.tree.Flags)
	l.announcements()
	l.approvals()
	l.records()
	l.heads()
	l.tree.Invalid = manifest.Fatal(l.faults)
	l.overrides()
	l.tree.Faults = manifest.Sort(l.faults)
	return l.tree
}

// loader fills a tree.
type loader struct {
	c         *manifest.Cache
	fsys      fs.FS
	tree      *Tree
	zones     zones
	faults    []manifest.Fault
	strangers bool // people are not known, as sluice.yaml can't be read
	unread    bool // some flags may be missing, as their file can't be parsed: what names an unknown one may be right
}

func (l *loader) fault(code manifest.FaultCode, file string, line int, format string, args ...any) {
	l.faults = append(l.faults, manifest.Fault{File: file, Line: line, Code: code,
		Message: fmt.Sprintf(format, args...)})
}

func (l *loader) warn(code manifest.FaultCode, file string, line int, format string, args ...any) {
	l.fault(code, file, line, format, args...)
	l.faults[len(l.faults)-1].Warning = true
}

// list gives the entries of a folder that are read: folders, or files with one of the endings. Of the others it says so.
func (l *loader) list(dir string, endings ...string) (names []string) {
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.fault(manifest.Unreadable, dir, 0, "can't be read: %v", err)
		}
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		switch at := path.Join(dir, name); {
		case name == ".gitkeep": // it keeps a folder in git
		case len(endings) == 0 && e.IsDir(), !e.IsDir() && slices.Contains(endings, path.Ext(name)):
			names = append(names, name)
		case !e.IsDir() && path.Ext(name) == ".yml" && slices.Contains(endings, ".yaml"):
			l.fault(manifest.WrongName, at, 0, "must end in .yaml")
		default:
			l.warn(manifest.Unused, at, 0, "is not read: nothing here has this name")
		}
	}
	if len(names) > maxFiles {
		l.fault(manifest.TooLarge, dir, 0, "has %d entries: at most %d are read", len(names), maxFiles)
		names = names[:maxFiles]
	}
	return names
}

// definitions reads flags/, up to the first file that is beyond a bound.
func (l *loader) definitions() {
	const atOnce = 32 // files: what they hold is bounded by that
	count, bytes := 0, 0
	for names := range slices.Chunk(l.list(DefinitionsDir, ".yaml", ".yml", ".json"), atOnce) {
		for _, s := range l.sets(names) {
			count, bytes = count+len(s.flags), bytes+s.bytes
			switch {
			case count > flags.MaxFlags:
				l.fault(manifest.TooLarge, DefinitionsDir, 0, "has more than %d flags: remove those that are on everywhere (`sluice flag stale`)", flags.MaxFlags)
			case bytes > maxAll:
				l.fault(manifest.TooLarge, DefinitionsDir, 0, "has flags of more than %d MiB, references and metadata written out: make them smaller, or remove those that are on everywhere (`sluice flag stale`)", maxAll>>20)
			default:
				l.define(s)
				continue
			}
			l.unread = true
			return
		}
	}
}

// sets reads files of definitions, on all processors.
func (l *loader) sets(names []string) []set {
	sets := make([]set, len(names))
	var reading errgroup.Group
	reading.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		reading.Go(func() error { // each writes its own
			sets[i] = l.definitionsOf(path.Join(DefinitionsDir, name))
			return nil
		})
	}
	_ = reading.Wait() // none returns an error
	return sets
}

// define takes what a file says.
func (l *loader) define(s set) {
	l.faults = append(l.faults, s.faults...)
	l.unread = l.unread || len(s.flags) == 0 && manifest.Fatal(s.faults)
	for _, d := range s.flags {
		if other := l.tree.Flags[d.Key]; other != nil {
			l.fault(manifest.Duplicate, d.File, d.Line,
				"flag %s is in %s:%d too: a flag has one definition", d.Key, other.File, other.Line)
			continue
		}
		l.tree.Flags[d.Key] = d
	}
}

func (l *loader) definitionsOf(file string) set {
	s, fault := manifest.LoadBytes(l.c, l.fsys, file, func(data []byte) set { return readSet(file, data) })
	if fault != nil {
		return set{faults: []manifest.Fault{*fault}}
	}
	return s
}

// folder reads every NAME.yaml of a folder by ready, which also settles the value's names.
func folder[T any](l *loader, dir string, ready func(*manifest.Doc[T]) []manifest.Fault) (all []T) {
	for _, name := range l.list(dir, ".yaml") {
		v, faults := manifest.Load(l.c, l.fsys, path.Join(dir, name), ready)
		l.faults = append(l.faults, faults...)
		if v != nil {
			all = append(all, *v)
		}
	}
	return all
}

func (l *loader) approvals() {
	for _, id := range l.list(ApprovalsDir) {
		dir := path.Join(ApprovalsDir, id)
		if l.tree.Announcements[id] == nil {
			l.warn(manifest.UnknownReference, dir, 0, "approves nothing: there is no %s/%s.yaml", AnnouncementsDir, id)
		}
		for _, a := range folder(l, dir, readyApproval) {
			l.tree.Approvals = append(l.tree.Approvals, a)
			if l.tree.Settings.People[a.Person] == nil {
				l.warn(manifest.UnknownReference, path.Join(dir, a.Person+".yaml"), 0, "does not count: %s does not list %.60q in people", settingsFile, a.Person)
			}
		}
	}
}

func (l *loader) records() {
	for _, id := range l.list(RecordsDir) {
		dir := path.Join(RecordsDir, id)
		for _, name := range l.list(dir, ".yaml") {
			r, faults := manifest.Load(l.c, l.fsys, path.Join(dir, name), readyRecord)
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

func (l *loader) heads() {
	for _, name := range l.list(HeadsDir, ".yaml") {
		h, faults := manifest.Load(l.c, l.fsys, path.Join(HeadsDir, name), readyHead)
		l.faults = append(l.faults, faults...)
		if h != nil {
			l.tree.Heads[stem(name)] = *h
		}
	}
}

// stem is a file's name without folder and ending.
func stem(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }

// overrides reads overrides/, as much as can be made of it: a fault anywhere, in the file itself even, stops no kill (R43).
func (l *loader) overrides() {
	for _, name := range l.list(OverridesDir, ".yaml", ".yml") {
		file := path.Join(OverridesDir, name)
		o, fault := manifest.LoadBytes(l.c, l.fsys, file, func(data []byte) readOverride { return readOverrideFile(file, data) })
		if fault != nil {
			o = readOverrideFile(file, nil)
			o.faults = append(o.faults, *fault)
		}
		l.faults = append(l.faults, o.faults...)
		if !o.counts {
			continue
		}
		l.tree.Overrides = append(l.tree.Overrides, o.Override)
		switch flag, announcement := o.Flag, o.Announcement; {
		case l.unread:
		case o.Kind == Kill && l.tree.Flags[flag] == nil:
			l.warn(manifest.UnknownReference, file, o.line,
				"kills nothing: there is no flag %.60q; remove the file, or mend its name", flag)
		case o.Kind == Hold && l.tree.Announcements[announcement] == nil:
			l.warn(manifest.UnknownReference, file, o.line, "holds nothing: there is no announcement %.60q; remove the file, or mend its name", announcement)
		}
	}
	slices.SortStableFunc(l.tree.Overrides, func(a, b Override) int { return cmp.Compare(a.Name, b.Name) })
}
