package agent

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// switchboard has what the cell was told of flags, and folds it with what is known here: what runs, what the owner
// holds, and the time. Whoever asks for a flag gets the newest folding. Methods are safe for concurrent use.
//
// Orders are in force as soon as they were told, and reported once they are durable; a bundle once it was fetched,
// verified and compiled. Until then, and where that fails, the last good one stands (R43).
type switchboard struct {
	dir    string // the state folder
	clock  *clock.Clock
	client *plane.Client
	log    zerolog.Logger
	at     func(point string) // see Agent.reached
	ring   func()             // there is something to report

	shown  atomic.Pointer[shown] // never nil
	poked  wake.Signal           // there is another instant to wait for, or something to write
	wanted wake.Signal           // there may be a bundle to fetch

	mu      sync.Mutex
	book    flagBook
	kept    flagBook    // as it is on disk
	full    error       // why what book has could not be written; nil: it could, so far
	untimed bool        // the time could not be written: it was said
	bundle  *litBundle  // in force; nil: none
	facts   flags.Facts // but channel and labels
	states  map[string]flags.CellState
	refused string          // why what was told last was not taken; empty: it was
	missing string          // why the bundle that should be in force is not; empty: it is, or is being fetched
	bad     releases.Digest // can't be used, whoever gives it
	hurry   func()          // ends the fetch of the moment; nil: there is none
	said    *cells.FlagsReport
	drawn   []byte // what the owner is shown, but since when
}

// shown is what callers get.
type shown struct {
	folded  *flags.Folded // nil: there is nothing yet
	bundle  *litBundle    // of which it is
	changed chan struct{} // closed once another is shown
}

// litBundle is a bundle that may be folded.
type litBundle struct {
	digest   releases.Digest
	channel  string
	gates    map[string]flags.Gate // by ID
	compiled *flags.Compiled
}

// newSwitchboard takes what is on disk into force, as far as it is whole. facts are of what runs.
func newSwitchboard(a *Agent, facts flags.Facts, ring func()) *switchboard {
	s := &switchboard{
		dir: a.options.StateDir, clock: a.clock, client: a.client, log: a.options.Log, at: a.at, ring: ring,
		poked: wake.New(), wanted: wake.New(), facts: facts,
	}
	s.shown.Store(&shown{changed: make(chan struct{})})
	if err := s.clock.Restore(); err != nil {
		s.log.Error().Err(err).Msg("the time is not known until the control plane tells it: no flag turns on by time before")
	}
	var err error
	if s.book, err = loadBook(s.dir); err != nil {
		s.log.Error().Err(err).Msg("flags are off until the control plane tells them anew")
	}
	s.kept = s.book
	s.facts.Held = s.book.Held
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.fold()
	s.settle()
	return s
}

// Current gives the folding that holds, and the instant: see flags.Source.
func (s *switchboard) Current() (*flags.Folded, int64) {
	f := s.shown.Load().folded
	at, _ := s.now()
	if f != nil && f.Next() != 0 && at >= f.Next() {
		at = f.Next() - 1 // what changes then is about to be folded
	}
	return f, at
}

// now is the instant for flags, and known says that the control plane ever told the time.
func (s *switchboard) now() (at int64, known bool) {
	now, known := s.clock.Now()
	if !known {
		return 0, false
	}
	return flags.Instant(now), true
}

// Changed is closed once Current gives another folding than now.
func (s *switchboard) Changed() <-chan struct{} { return s.shown.Load().changed }

// tell takes the control plane's word; nil: it has no flags repository, which changes nothing here.
func (s *switchboard) tell(f *cells.Flags) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	book, err := s.book.take(f)
	if err != nil {
		s.refuse(err.Error())
		return
	}
	if book.Bundle.Digest != s.book.Bundle.Digest {
		s.missing = ""
		if s.hurry != nil {
			s.hurry()
		}
	}
	again := !sameOrders(book.Orders, s.book.Orders) || !maps.Equal(book.Labels, s.book.Labels)
	s.book, s.refused = book, ""
	if again {
		s.fold()
		s.at("orders in force")
	}
	s.settle()
	s.wanted.Notify()
}

func (s *switchboard) refuse(why string) {
	if s.refused != why {
		s.log.Warn().Str("why", why).Msg("what was told of flags is not taken")
	}
	s.refused = words.Clip(why, maxReason)
	s.settle()
}

// runs tells what may be running: it is folded once this returns (R38).
func (s *switchboard) runs(release string, contained []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts.Release == release && slices.Equal(s.facts.Features, contained) {
		return
	}
	s.facts.Release, s.facts.Features = release, contained
	s.fold()
	s.settle()
}

// hold takes the features that the owner holds.
func (s *switchboard) hold(features []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.facts.Held, features) {
		return
	}
	s.facts.Held, s.book.Held = features, features
	s.fold()
	s.settle()
}

func (s *switchboard) folder() string { return filepath.Join(s.dir, "flags") }
