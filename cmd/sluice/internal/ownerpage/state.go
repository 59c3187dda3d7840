package ownerpage

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/engine/controlplane/bulletin"
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
	notes  *bulletin.Renderer

	mu   sync.Mutex
	kept map[releases.Digest]Kept // a release's bytes never change
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

// release returns what the page shows of a release's content; ok is false if the agent has not got it yet.
func (r *reader) release(d releases.Digest) (k Kept, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.kept[d]; ok {
		return k, true
	}
	f, err := agent.KeptReleases{StateDir: r.folder}.Open(context.Background(), d)
	if errors.Is(err, fs.ErrNotExist) {
		return k, false
	}
	if err == nil {
		var files releases.Files
		var found releases.Digest
		files, found, err = releases.Unpack(f, releases.Limits{})
		_ = f.Close() // it was read
		switch {
		case err != nil:
		case found != d:
			err = errors.New("the agent's copy is damaged")
		default:
			k.Notes, err = r.notes.Notes(bulletin.TruncateNotes(string(files["notes.md"].Data)))
		}
	}
	if err != nil { // read again next time
		return Kept{Fault: err.Error()}, true
	}
	if len(r.kept) >= maxKept {
		clear(r.kept)
	}
	r.kept[d] = k
	return k, true
}
