package edits

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Releases is the content of a release repository at one commit.
type Releases struct {
	Files   fs.FS
	Desired *plan.Desired
}

// Base returns the commit.
func (s *Releases) Base() string { return s.Desired.Commit }

// Content returns the files.
func (s *Releases) Content() fs.FS { return s.Files }

// People returns the people in sluice.yaml.
func (s *Releases) People() People { return s.Desired.Pipeline.People }

// Check accepts every change that counts: a fault in a release repository stops only what has the fault.
func (s *Releases) Check(files map[string][]byte, by Person) ([]releases.Fault, error) {
	return nil, s.checkSigned(files, by)
}

// Channel returns a channel by name; the error lists the channels.
func (s *Releases) Channel(name string) (*plan.Channel, error) {
	if c := s.Desired.Channels[name]; c != nil {
		return c, nil
	}
	if len(s.Desired.Order) == 0 {
		return nil, Fail(fmt.Errorf("there is no channel %q: no channels exist yet", name),
			"add channels/%s/channel.yaml", name)
	}
	return nil, Fail(fmt.Errorf("there is no channel %q%s", name, words.DidYouMean(name, s.Desired.Order)),
		"the channels are %s", words.Some(s.Desired.Order, 12))
}

// Cell returns a cell by name; the error suggests the nearest.
func (s *Releases) Cell(name string) (*plan.Cell, error) {
	if c := s.Desired.Cells[name]; c != nil {
		return c, nil
	}
	return nil, s.unknownCell(name)
}

func (s *Releases) unknownCell(name string) error {
	return Fail(fmt.Errorf("the repository has no cell %q%s", name,
		words.DidYouMean(name, sortedKeys(s.Desired.Cells))), "sluice cell list")
}

// Release returns a release by version; the error names the newest. A pruned or faulty release is an error too.
func (s *Releases) Release(version string) (*plan.Release, error) {
	r := s.Desired.Releases[version]
	switch {
	case r == nil && len(s.Desired.Versions) == 0:
		return nil, Fail(fmt.Errorf("there is no release %q: no releases exist yet", version),
			"sluice release cut %s --from FOLDER", version)
	case r == nil:
		newest := s.Desired.Versions[len(s.Desired.Versions)-1]
		return nil, Fail(fmt.Errorf("there is no release %q", version), "sluice release list; the newest is %s",
			newest.Version)
	case r.Tombstone != nil:
		return nil, Fail(fmt.Errorf("release %s was pruned", version),
			"cut a new version; this number is not used again")
	}
	r = s.Whole(r)
	if fatal := Fatal(r.Faults); len(fatal) > 0 {
		return nil, Fail(fmt.Errorf("release %s has faults: %s", version, fatal[0]),
			"sluice validate lists all of them")
	}
	return r, nil
}

// Whole returns a release with all that its folder has, which is not read before for releases that no decision of the
// engine needs.
func (s *Releases) Whole(r *plan.Release) *plan.Release {
	if r.Loaded {
		return r
	}
	entry := releases.ReadRelease(nil, s.Files, r.Version)
	whole := *r
	whole.StoredRelease, whole.Loaded, whole.Unread = entry.StoredRelease, true, false
	whole.Faults = append(slices.Clip(r.Faults), Fatal(entry.Faults)...)
	return &whole
}

// ReleaseFiles reads all files of a release, by their path in the release's folder.
func ReleaseFiles(files fs.FS, version string) (map[string][]byte, error) {
	return readFolder(files, path.Join(releases.Dir, version))
}

func (s *Releases) isQuarantined(channel, version string, digest releases.Digest) bool {
	return slices.ContainsFunc(s.Desired.Quarantine,
		func(q channels.Quarantine) bool { return q.Stops(channel, version, digest) })
}

// Flags is the content of a flags repository at one commit.
type Flags struct {
	Commit string
	Files  fs.FS // as they are in force
	Tree   *repository.Tree

	Withheld []releases.Fault // changes that no owner signed, and that are not in Files (R52)

	// Decisions that need the branch's history call the functions below, which are nil where no such decision is made.
	Contains  func(commit string) bool              // reports whether the branch has an older commit
	Open      func(commit string) (fs.FS, error)    // returns that commit's files
	Approvals func() (of announce.Input, err error) // returns Authors and Proven
}

// Base returns the commit.
func (s *Flags) Base() string { return s.Commit }

// Content returns the files.
func (s *Flags) Content() fs.FS { return s.Files }

// People returns the people in sluice.yaml.
func (s *Flags) People() People {
	people := People{}
	for name, p := range s.Tree.Settings.People {
		if p != nil {
			people[name] = &channels.Member{Email: p.Email, Keys: p.Keys, Roles: p.Roles}
		}
	}
	return people
}

// Check refuses a change that introduces a fault. Earlier faults don't matter: the change may mend one.
func (s *Flags) Check(files map[string][]byte, _ Person) (warnings []releases.Fault, err error) {
	more := NewFaults(s.Tree.Faults, repository.Load(nil, overlay.New(s.Files).With(files)).Faults)
	wrong := Fatal(more)
	if len(wrong) == 0 {
		return more, nil
	}
	if len(wrong) == 1 { // the error itself has the fault
		more = slices.DeleteFunc(more, func(f releases.Fault) bool { return !f.Warning })
	}
	err = fmt.Errorf("it would introduce a fault: %s", wrong[0])
	return nil, &Error{Err: err, Next: "nothing was committed; docs/formats.md describes the files", Faults: more}
}

// NewFaults returns the faults of after that before lacks, whatever their lines.
func NewFaults(before, after []releases.Fault) (added []releases.Fault) {
	known := map[releases.Fault]bool{}
	for _, f := range before {
		f.Line = 0
		known[f] = true
	}
	for _, f := range after {
		bare := f
		bare.Line = 0
		if !known[bare] {
			added = append(added, f)
		}
	}
	return added
}

// Definition returns a flag by key; the error has the next step.
func (s *Flags) Definition(key string) (*flags.Definition, error) {
	if d := s.Tree.Flags[key]; d != nil {
		return d, nil
	}
	if broken := Fatal(s.Tree.Faults); len(broken) > 0 {
		return nil, Fail(fmt.Errorf("there is no flag %q among those that could be read; the first fault is %s", key,
			broken[0]), "sluice flag lint lists all of them")
	}
	return nil, Fail(fmt.Errorf("there is no flag %q%s", key, words.DidYouMean(key, sortedKeys(s.Tree.Flags))),
		"sluice flag list; or make it: sluice flag set %s --new", key)
}

// Announcement returns an announcement by id.
func (s *Flags) Announcement(id string) (*repository.Announcement, error) {
	if a := s.Tree.Announcements[id]; a != nil {
		return a, nil
	}
	file := announcementFile(id)
	for _, f := range Fatal(s.Tree.Faults) {
		if f.File == file {
			return nil, Fail(errors.New(f.String()), "mend it; sluice flag lint lists all faults")
		}
	}
	return nil, Fail(fmt.Errorf("there is no announcement %q%s", id,
		words.DidYouMean(id, sortedKeys(s.Tree.Announcements))), "there are: %s",
		joinOrDash(sortedKeys(s.Tree.Announcements), ", "))
}

// Announcing returns the ids of the announcements of a feature, cancelled and archived ones last.
func (s *Flags) Announcing(feature string) (ids []string) {
	var ended []string
	for _, id := range sortedKeys(s.Tree.Announcements) {
		switch a := s.Tree.Announcements[id]; {
		case feature == "" || !slices.Contains(a.Features, feature):
		case a.Archived || a.Cancelled != "":
			ended = append(ended, id)
		default:
			ids = append(ids, id)
		}
	}
	return append(ids, ended...)
}

// joinOrDash joins names; without names it returns a dash.
func joinOrDash(names []string, between string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, between)
}
