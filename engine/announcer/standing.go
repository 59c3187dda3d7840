package announcer

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// version is a change of a file that can stand.
type version struct {
	commit string
	height int64  // of commit
	blob   string // object id; empty: the commit removed the file
}

// versions are the changes of files in the first-parent history, oldest first, by path.
type versions map[string][]version

// fold adds a change.
func (v versions) fold(c releases.Change, f releases.FileChange, height int64) {
	if repository.CanStand(f.Path) {
		v[f.Path] = append(v[f.Path], version{c.Commit, height, f.New})
	}
}

// until returns a file's changes up to a height.
func (v versions) until(file string, height int64) []version {
	all := v[file]
	end, _ := slices.BinarySearchFunc(all, height+1, func(x version, h int64) int { return int(x.height - h) })
	return all[:end]
}

// renamedTo returns the files that the commit which added a file removed from the same folder, and that are still gone
// at a height: one of them may have become the file.
func (v versions) renamedTo(file string, added, height int64) (gone []string) {
	for name := range v {
		if path.Dir(name) != path.Dir(file) {
			continue
		}
		if all := v.until(name, height); len(all) > 0 && all[len(all)-1].blob == "" && all[len(all)-1].height == added {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	return gone
}

// standing finds the contents that are in force in a commit in place of those that can't be: for each such file, its
// newest earlier content in the first-parent history without a fault. It depends on the history alone, so every process
// finds the same.
type standing struct {
	versions versions
	height   int64 // of the commit
	// readable reports whether a file has no fault of its own in a version.
	readable func(file string, v version) (bool, error)

	at      map[string]int      // by file: how many of its versions are left to go back to
	found   map[string]string   // by file: the commit whose content is in force; empty: none, and the file is left out
	instead map[string][]string // by file that is left out: files that were removed with the commit that added it
}

// stepBack takes an earlier content for a file that has a fault, or whose earlier content turned out to have one beside
// other files. It reports whether there was anything left to do.
func (s *standing) stepBack(file string) (bool, error) {
	if commit, stands := s.found[file]; stands && commit == "" {
		return false, nil
	}
	all := s.versions.until(file, s.height)
	left, stands := s.at[file]
	if !stands {
		left = max(len(all)-1, 0) // the last one is the commit's own
	}
	for ; left > 0 && all[left-1].blob != ""; left-- {
		readable, err := s.readable(file, all[left-1])
		if err != nil {
			return false, err
		}
		if readable {
			s.at[file], s.found[file] = left-1, all[left-1].commit
			return true, nil
		}
	}
	s.at[file], s.found[file] = 0, ""
	if len(all) == 0 || all[len(all)-1].blob == "" {
		return true, nil
	}
	// It never was readable. If it was renamed, what it was before stays.
	s.instead[file] = s.versions.renamedTo(file, all[left].height, s.height)
	for _, before := range s.instead[file] {
		if _, err := s.stepBack(before); err != nil {
			return false, err
		}
	}
	return true, nil
}

// maxStandingRounds limits how often files are taken back because of what other files say.
const maxStandingRounds = 16

// age returns the height of the commit whose content of a file is in force.
func (s *standing) age(file string) int64 {
	all := s.versions.until(file, s.height)
	if len(all) == 0 {
		return 0
	}
	if left, stands := s.at[file]; stands {
		return all[left].height
	}
	return all[len(all)-1].height
}

// settle returns the tree of a commit with faults in which only the files with faults stay as they were, or the tree as
// it is if that can't be: sluice.yaml or a folder has a fault, or a file lost what it refers to.
func (r *reader) settle(commit string, files fs.FS) (tree *repository.Tree, err error) {
	s := &standing{versions: r.history.versions, height: r.history.heights[commit], readable: r.isReadable,
		at: map[string]int{}, found: map[string]string{}, instead: map[string][]string{}}
	tree = repository.LoadByAge(&r.cache, files, s.age)
	why := map[string]manifest.Fault{} // by file: the first fault at commit
	for now, round := tree, 0; round < maxStandingRounds; round++ {
		bad := map[string]bool{}
		for _, f := range now.Faults {
			if f.Warning || strings.HasPrefix(f.File+"/", repository.OverridesDir+"/") {
				continue
			}
			if !repository.CanStand(f.File) {
				return tree, nil
			}
			if _, known := why[f.File]; !known {
				why[f.File] = f
			}
			bad[f.File] = true
		}
		for _, file := range slices.Sorted(maps.Keys(bad)) {
			if lost, err := r.lostReference(s, file); err != nil || lost {
				return tree, err
			}
			if more, err := s.stepBack(file); err != nil || !more {
				return tree, err
			}
		}
		over, err := r.putInForce(files, s.found)
		if err != nil {
			return nil, err
		}
		now = repository.LoadByAge(&r.cache, over, s.age)
		if !now.Invalid {
			now.Faults = manifest.Sort(append(slices.Clone(now.Faults), slices.Collect(maps.Values(why))...))
			now.Standing = s.describe(why)
			return now, nil
		}
	}
	return tree, nil
}

// lostReference reports whether an announcement was in force as it is, and lost what it refers to by a later change of
// another file: it is not the announcement that has to stand.
func (r *reader) lostReference(s *standing, file string) (bool, error) {
	if path.Dir(file) != repository.AnnouncementsDir {
		return false, nil
	}
	all := s.versions.until(file, s.height)
	left, stands := s.at[file]
	if !stands {
		left = len(all) - 1
	}
	if left < 0 || all[left].height == s.height || all[left].blob == "" {
		return false, nil
	}
	if readable, err := r.isReadable(file, all[left]); err != nil || !readable {
		return false, err
	}
	then, err := r.loadTree(all[left].commit)
	return err == nil && !then.Invalid &&
		!slices.ContainsFunc(then.Standing, func(x repository.Standing) bool { return x.File == file }), err
}

// putInForce returns files with those contents in force that were found.
func (r *reader) putInForce(files fs.FS, found map[string]string) (fs.FS, error) {
	changes := map[string][]byte{}
	for file, from := range found {
		changes[file] = nil
		if from != "" {
			var err error
			if changes[file], err = r.readVersion(from, file); err != nil {
				return nil, err
			}
		}
	}
	return overlay.New(files).With(changes), nil
}

// describe says of each file with a fault what is in force in place of it.
func (s *standing) describe(why map[string]manifest.Fault) (all []repository.Standing) {
	for _, file := range slices.Sorted(maps.Keys(why)) {
		all = append(all, repository.Standing{File: file, Fault: why[file], Commit: s.found[file],
			Instead: s.instead[file]})
	}
	return all
}

// readVersion returns a file in a commit.
func (r *reader) readVersion(commit, file string) ([]byte, error) {
	files, err := r.repo.FS(commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}
	data, err := fs.ReadFile(files, file)
	if err != nil {
		return nil, fmt.Errorf("read %s in commit %s: %w", file, commit, err)
	}
	return data, nil
}

// isReadable reports whether a version of a file has no fault of its own. It remembers that by the object.
func (r *reader) isReadable(file string, v version) (bool, error) {
	key := file + "\x00" + v.blob
	if known, is := r.readable[key]; is {
		return known, nil
	}
	files, err := r.repo.FS(v.commit)
	if err != nil {
		return false, fmt.Errorf("read commit %s: %w", v.commit, err)
	}
	if r.readable == nil || len(r.readable) > maxReadable {
		r.readable = map[string]bool{}
	}
	r.readable[key] = repository.IsReadable(&r.cache, files, file)
	return r.readable[key], nil
}

const maxReadable = 10_000

// whyFilesStand says which files of the tip are not in force as they are; empty: none.
func whyFilesStand(tip *repository.Tree) string {
	if len(tip.Standing) == 0 {
		return ""
	}
	var files []string
	for _, s := range tip.Standing {
		inForce := "the file is left out until it is mended"
		switch {
		case s.Commit != "":
			inForce = "the file's content of " + words.ShortCommit(s.Commit) + " stays in force"
		case len(s.Instead) > 0:
			inForce += ", and what the same commit removed stays: " + words.Some(s.Instead, 3)
		}
		files = append(files, fmt.Sprintf("%v; %s", s.Fault, inForce))
	}
	return words.Some(files, 3) + ". All else of the tip is in force"
}
