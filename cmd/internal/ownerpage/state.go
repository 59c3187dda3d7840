package ownerpage

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/markdown"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/releases"
)

// State is what the pages show: what the agent of a state folder keeps there for the cell's owner.
type State struct {
	Cell        string // empty: the folder belongs to none yet
	Offer       agent.Offer
	Decided     *cells.Owner // never nil
	Invalid     string       // why the owner's decisions can't be read; empty: they can
	Reported    agent.Reported
	Maintenance maintenance.State
	Exports     Exports
	Flags       *flagserver.InForce // nil: the cell received none
	Faults      []string            // what else can't be read
	Kept        map[releases.Digest]Kept
}

// Kept is a release that the agent has on disk.
type Kept struct {
	Notes markup.HTML // empty: it has none
	Fault string      // why they can't be read; empty: they can
}

// Candidates returns what is offered and does not run, newest first.
func (s *State) Candidates() []owner.Candidate {
	return owner.Candidates(s.Offer.Head, s.Offer.Assignment, s.Offer.Running)
}

// reader reads States. Its methods may be called at once.
type reader struct {
	folder string
	notes  *markdown.Renderer

	mu   sync.Mutex
	kept map[releases.Digest]keptFile
}

// maxKept bounds how many releases' notes are kept.
const maxKept = 64

// read reads the State. What can't be read is a fault of that part alone.
func (r *reader) read(now time.Time) *State {
	s := &State{Decided: &cells.Owner{}, Kept: map[releases.Digest]Kept{}}
	note := func(err error) {
		if err != nil {
			s.Faults = append(s.Faults, err.Error())
		}
	}
	var err error
	s.Cell, _, err = agent.StateDirCell(r.folder)
	note(err)
	s.Offer, err = agent.LoadOffer(r.folder)
	note(err)
	s.Reported, err = agent.LoadReported(r.folder)
	note(err)
	s.Maintenance, err = agent.LoadMaintenance(r.folder, now)
	note(err)
	s.Exports.Wish, err = exporter.LoadWish(r.folder)
	note(err)
	s.Exports.Waiting, err = exporter.List(r.folder)
	note(err)
	s.Flags, err = flagserver.LoadInForce(r.folder)
	note(err)
	switch o, err := agent.LoadOwner(r.folder); {
	case err != nil:
		s.Invalid = err.Error()
	case o != nil:
		s.Decided = o
	}
	for _, c := range s.Candidates() {
		if k, ok := r.release(c.Digest); ok {
			s.Kept[c.Digest] = k
		}
	}
	return s
}

// keptFile is what was read of a release, and of which file.
type keptFile struct {
	kept Kept
	file fs.FileInfo
}

// release returns what the page shows of a release's content; ok is false if the agent has not got it yet. A file is
// read once, as long as it stays the same.
func (r *reader) release(d releases.Digest) (k Kept, ok bool) {
	f, err := agent.KeptReleases{StateDir: r.folder}.File(d)
	if errors.Is(err, fs.ErrNotExist) {
		return k, false
	}
	if err != nil {
		return Kept{Fault: err.Error()}, true
	}
	defer func() { _ = f.Close() }() // it was only read
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return Kept{Fault: err.Error()}, true
	}
	if known, ok := r.kept[d]; ok && os.SameFile(known.file, info) && known.file.Size() == info.Size() &&
		known.file.ModTime().Equal(info.ModTime()) {
		return known.kept, true
	}
	files, found, err := releases.Unpack(f, releases.Limits{})
	switch {
	case err != nil:
	case found != d:
		err = errors.New("the agent's copy is damaged")
	default:
		k.Notes, err = r.notes.Notes(markdown.TruncateNotes(string(files["notes.md"].Data)))
	}
	if err != nil {
		k = Kept{Fault: err.Error()}
	}
	if len(r.kept) >= maxKept {
		clear(r.kept)
	}
	r.kept[d] = keptFile{k, info}
	return k, true
}
