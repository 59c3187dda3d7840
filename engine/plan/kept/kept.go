// Package kept says which paths of a branch keep an older value: those that can't be read, and those that one push
// removed with too many others (R47). Absent is only what a tree that was read whole does not list.
//
// It is pure: it folds changes, and reads commits by a function that it is passed. A State belongs to one goroutine; a
// view that View returned may be read by several.
package kept

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// ConfirmTrailer is the trailer of a commit message that names the commit whose many removals a person confirms.
const ConfirmTrailer = "Confirm-Removal"

// Window is the time within which removals count together, by the commits' own dates: one push may have many commits.
const Window = time.Hour

// Path says why a path of the tip does not count.
type Path struct {
	From    string // the commit whose content counts
	Since   string // the commit from which on it does
	Removed bool   // it was removed with too many others; else it can't be read
}

// State is what the history says about paths that keep an older value. Its fields are exported to be stored.
type State struct {
	Paths   map[string]Path
	Present map[string]bool   // cells, channels and releases that the branch has, as folders
	Recent  []Removal         // removals that count, those within Window of the newest
	Ended   map[string]string // folders that kept their value for a while, and the commit that ended it by removal
	// Dropped says who changed paths while these kept their value: it counts once the change does.
	Dropped map[string]releases.FileChange
}

// Removal is one folder's.
type Removal struct {
	Dir  string // cells, channels or releases
	When time.Time
}

// Open returns a commit's files.
type Open func(commit string) (fs.FS, error)

// MakeMaps makes the maps that gob leaves nil.
func (s *State) MakeMaps() {
	if s.Paths == nil {
		s.Paths = map[string]Path{}
	}
	if s.Present == nil {
		s.Present = map[string]bool{}
	}
	if s.Ended == nil {
		s.Ended = map[string]string{}
	}
	if s.Dropped == nil {
		s.Dropped = map[string]releases.FileChange{}
	}
}

// Bound returns how many of n things one push may remove without a confirmation.
func Bound(n int) int { return max(3, n/10) }

// maxPaths bounds the unreadable folders of one commit. Beyond, the top folders that they are in are kept whole.
const maxPaths = 100

// Fold folds c, and returns it as it counts: without what changed below paths that keep their value, and with what
// differs where a path no longer does.
func (s *State) Fold(c releases.Change, open Open) (releases.Change, error) {
	unreadable := c.Unreadable
	if len(unreadable) > maxPaths {
		unreadable = topFolders(unreadable)
	}
	removed := s.findRemoved(c.Files)
	if len(s.Paths) == 0 && len(unreadable) == 0 && len(removed) == 0 {
		s.note(c, nil)
		return c, nil
	}
	now, err := open(c.Commit)
	if err != nil {
		return c, err
	}
	var before fs.FS = nothing{}
	if c.Parent != "" {
		if before, err = open(c.Parent); err != nil {
			return c, err
		}
	}
	if before, err = s.View(before, open); err != nil {
		return c, err
	}
	was := maps.Clone(s.Paths)
	ended, settled := s.endPaths(c, now)
	for _, name := range unreadable {
		s.keep(was, name, c)
	}
	if c.Files, err = s.addEnded(c, was, ended, before, now, open); err != nil {
		return c, err
	}
	s.keepRemoved(c, was, slices.DeleteFunc(s.findRemoved(c.Files), func(dir string) bool { return settled[dir] }))
	c.Files = s.dropKept(c)
	s.note(c, ended)
	return c, nil
}

// addEnded returns the files of c with what differs at and below the ended paths, where nothing older counts any more.
// kept are the paths that kept their value before c.
func (s *State) addEnded(c releases.Change, kept map[string]Path, ended []string, before, now fs.FS,
	open Open) ([]releases.FileChange, error) {
	files := slices.Clone(c.Files)
	if len(ended) == 0 {
		return files, nil
	}
	after, err := s.View(now, open)
	if err != nil {
		return nil, err
	}
	was := maps.Clone(s.Paths)
	for _, name := range ended {
		d := differ{before: before, after: after}
		d.compare(name, 0)
		for _, below := range d.unreadable {
			s.keep(was, below, c)
		}
		own := map[string]releases.FileChange{}
		for _, f := range files {
			own[f.Path] = f
		}
		files = slices.DeleteFunc(files, func(f releases.FileChange) bool { return isBelow(f.Path, name) })
		for _, f := range d.files {
			f.OldIn = origin(kept, f.Path, c.Parent)
			files = append(files, s.credit(f, c, own, kept[name].Since))
		}
		maps.DeleteFunc(s.Dropped, func(at string, _ releases.FileChange) bool { return isBelow(at, name) })
	}
	slices.SortFunc(files, func(a, b releases.FileChange) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(files, func(a, b releases.FileChange) bool { return a.Path == b.Path }), nil
}

// credit returns f, a change that counts since c, with who made it: c, as far as it changed the path, and the commits
// that changed it while an older value counted. Where the history does not say who did, nobody signed it.
func (s *State) credit(f releases.FileChange, c releases.Change, own map[string]releases.FileChange,
	since string) releases.FileChange {
	mine, inC := own[f.Path]
	earlier, dropped := s.Dropped[f.Path]
	f.Key = mine.Key
	f.Authors = append(slices.Clip(earlier.Authors), mine.Authors...)
	f.Commits = append(slices.Clip(earlier.Commits), mine.Commits...)
	switch {
	case inC || dropped:
	case path.Dir(f.Path) == releases.Dir:
		f.Authors, f.Commits = []releases.Person{c.Author, c.Committer}, []releases.SignedCommit{{Commit: since}}
	default: // whoever made c did not write it: an approval, say, is not theirs
		f.Authors = []releases.Person{c.Author, c.Committer, {}}
	}
	return f
}

// maxDropped bounds what is noted of one path. Beyond, nobody signed the rest.
const maxDropped = 100

// drop notes who made a change that does not count yet.
func (s *State) drop(f releases.FileChange) {
	d := s.Dropped[f.Path]
	d.Path = f.Path
	if len(d.Commits)+len(f.Commits) > maxDropped {
		f.Commits = []releases.SignedCommit{{Commit: f.Commits[len(f.Commits)-1].Commit}}
	}
	d.Authors, d.Commits = appendDropped(d.Authors, f.Authors), appendDropped(d.Commits, f.Commits)
	s.Dropped[f.Path] = d
}

func appendDropped[T any](all, more []T) []T {
	all = append(slices.Clip(all), more...)
	return all[max(0, len(all)-maxDropped):]
}

// keep lets a path that can't be read keep the value that it had before c; was are the paths that kept theirs until
// then.
func (s *State) keep(was map[string]Path, name string, c releases.Change) {
	if old, ok := was[name]; ok && !old.Removed {
		s.Paths[name] = old
	} else if c.Parent != "" {
		s.Paths[name] = Path{From: origin(was, name, c.Parent), Since: c.Commit}
	}
}

// origin returns the commit that has what counts of a path before a commit with that parent.
func origin(was map[string]Path, name, parent string) string {
	if above, ok := findKept(was, name); ok {
		return was[above].From
	}
	return parent
}

// endPaths ends the keeping of paths that c makes readable, puts back, or confirms to be removed, and returns them;
// settled are those whose removal is confirmed.
func (s *State) endPaths(c releases.Change, now fs.FS) (ended []string, settled map[string]bool) {
	confirmed := trailers(c.Message)
	settled = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Paths)) {
		k, ok := s.Paths[name]
		if !ok {
			continue // it ended with the folder around it
		}
		marker := markerOf(name)
		switch {
		case !k.Removed && !isReadable(now, name):
			continue
		case k.Removed && marker == "": // a file that was written below a folder whose removal waits
			continue
		case k.Removed && slices.Contains(confirmed, k.Since):
			settled[name] = true
		case k.Removed:
			if _, err := fs.Stat(now, marker); err != nil {
				continue
			}
		}
		delete(s.Paths, name)
		if k.Removed {
			maps.DeleteFunc(s.Paths, func(below string, _ Path) bool { return isBelow(below, name) })
		}
		ended = append(ended, name)
	}
	return ended, settled
}

// findRemoved returns the folders that files remove and that count until now.
func (s *State) findRemoved(files []releases.FileChange) (removed []string) {
	for _, f := range files {
		if dir := folderOf(f.Path); f.New == "" && dir != "" && s.Present[dir] {
			if _, kept := findKept(s.Paths, dir); !kept {
				removed = append(removed, dir)
			}
		}
	}
	return removed
}

// keepRemoved keeps the folders that c removes, if they are too many.
func (s *State) keepRemoved(c releases.Change, was map[string]Path, removed []string) {
	s.Recent = slices.DeleteFunc(s.Recent, func(r Removal) bool { return r.When.Sub(c.When).Abs() > Window })
	by := map[string][]string{}
	for _, dir := range removed {
		by[path.Dir(dir)] = append(by[path.Dir(dir)], dir)
	}
	for top, dirs := range by {
		earlier, present := 0, 0
		for _, r := range s.Recent {
			if r.Dir == top {
				earlier++
			}
		}
		for dir := range s.Present {
			if path.Dir(dir) == top {
				present++
			}
		}
		if c.Parent != "" && earlier+len(dirs) > Bound(present+earlier) {
			for _, dir := range dirs {
				s.Paths[dir] = Path{From: origin(was, dir, c.Parent), Since: c.Commit, Removed: true}
			}
			continue
		}
		for range dirs {
			s.Recent = append(s.Recent, Removal{Dir: top, When: c.When})
		}
	}
}

// dropKept returns the files of c that count. A file that is written below a folder whose removal waits counts, and is
// kept in its turn.
func (s *State) dropKept(c releases.Change) []releases.FileChange {
	files := make([]releases.FileChange, 0, len(c.Files))
	for _, f := range c.Files {
		name, kept := findKept(s.Paths, f.Path)
		if !kept {
			files = append(files, f)
			continue
		}
		if k := s.Paths[name]; k.Removed && k.Since != c.Commit && f.New != "" {
			s.Paths[f.Path] = Path{From: c.Commit, Since: c.Commit, Removed: true}
			files = append(files, f)
			continue
		}
		s.drop(f)
	}
	return files
}

// note notes which folders there are after c, as it counts. Below the ended paths an older value counted until then.
func (s *State) note(c releases.Change, ended []string) {
	for _, f := range c.Files {
		dir := folderOf(f.Path)
		switch {
		case dir == "":
		case f.New != "":
			s.Present[dir] = true
			delete(s.Ended, dir)
		case s.Present[dir]:
			delete(s.Present, dir)
			if slices.ContainsFunc(ended, func(e string) bool { return isBelow(dir, e) }) {
				s.Ended[dir] = c.Commit
			}
		}
	}
}

// Unconfirmed returns the removals that wait, in a fixed order.
func (s *State) Unconfirmed() (list []Unconfirmed) {
	type key struct{ dir, commit string }
	counts := map[key]int{}
	for name, k := range s.Paths {
		if k.Removed && markerOf(name) != "" {
			counts[key{path.Dir(name), k.Since}]++
		}
	}
	for k, n := range counts {
		u := Unconfirmed{Commit: k.commit, Dir: k.dir, Count: n}
		for dir := range s.Present {
			if path.Dir(dir) == k.dir {
				u.Of++
			}
		}
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b Unconfirmed) int {
		return strings.Compare(a.Dir+a.Commit, b.Dir+b.Commit)
	})
	return list
}

// Unreadable returns the paths that can't be read, sorted.
func (s *State) Unreadable() (names []string) {
	for name, k := range s.Paths {
		if !k.Removed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// trailers returns the commits whose removals a message confirms.
func trailers(message string) (commits []string) {
	for line := range strings.Lines(message) {
		if rest, ok := strings.CutPrefix(line, ConfirmTrailer+":"); ok {
			commits = append(commits, strings.TrimSpace(rest))
		}
	}
	return commits
}

// folderOf returns the folder of a cell, channel or release whose being there a path decides; empty: of none.
func folderOf(name string) string {
	dir, file := path.Split(name)
	dir = path.Clean(dir)
	switch {
	case dir == releases.Dir:
		return name
	case path.Dir(dir) == cells.Dir && file == "cell.yaml", path.Dir(dir) == channels.Dir && file == "channel.yaml":
		return dir
	}
	return ""
}

// markerOf returns the path that says whether a folder of a cell, channel or release is there; empty: it is no such
// folder.
func markerOf(dir string) string {
	switch path.Dir(dir) {
	case releases.Dir:
		return dir
	case cells.Dir:
		return path.Join(dir, "cell.yaml")
	case channels.Dir:
		return path.Join(dir, "channel.yaml")
	}
	return ""
}

func topFolders(names []string) (tops []string) {
	for _, name := range names {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return tops
}

// findKept returns the deepest of the paths that is name or has it below.
func findKept(paths map[string]Path, name string) (string, bool) {
	for at := name; ; at = path.Dir(at) {
		if _, ok := paths[at]; ok {
			return at, true
		}
		if at == "." || at == "/" {
			return "", false
		}
	}
}

// isBelow reports whether name is dir, or below it.
func isBelow(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// isReadable reports whether files have a folder of that name that can be listed, or certainly none.
func isReadable(files fs.FS, name string) bool {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := fs.Stat(files, name[:i])
		if isAbsent(err) {
			return true
		}
		if err != nil || !info.IsDir() {
			return false
		}
	}
	_, err := fs.ReadDir(files, name)
	return err == nil
}
