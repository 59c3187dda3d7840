package flagserver

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Source is where bundles come from.
type Source interface {
	content.Source
	// RetryPause is how long to wait after a number of failures in a row, the last being err.
	RetryPause(err error, failures int) time.Duration
}

// Options say what a Server works with. All are required.
type Options struct {
	StateDir    string
	Source      Source
	Clock       *clock.Clock
	Facts       flags.Facts // what runs; channel and labels are told
	Log         zerolog.Logger
	OnReport    func()             // there is something to report
	OnTestPoint func(point string) // is told how far it is
}

// Server has what the cell was told of flags, and folds it with what is known here: what runs, what the owner
// holds, and the time. Whoever asks for a flag gets the newest folding. Methods are safe for concurrent use.
//
// Orders are in force as soon as they were told, and reported once they are durable; a bundle once it was fetched,
// verified and compiled. Until then, and where that fails, the last good one stands (R43).
type Server struct {
	stateDir    string
	source      Source
	clock       *clock.Clock
	log         zerolog.Logger
	onReport    func()
	onTestPoint func(point string)

	current      atomic.Pointer[snapshot] // never nil
	timerChanged wake.Signal              // there is another instant to wait for, or something to write
	bundleWanted wake.Signal              // there may be a bundle to fetch

	mu             sync.Mutex
	record         flagsRecord
	saved          flagsRecord     // as it is on disk
	saveError      error           // why what record has could not be written; nil: it could, so far
	timeUnsaved    bool            // the time could not be written: it was said
	bundle         *compiledBundle // in force; nil: none
	facts          flags.Facts     // but channel and labels
	states         map[string]flags.CellState
	refusal        string          // why what was told last was not taken; empty: it was
	missingReason  string          // why the bundle that should be in force is not; empty: it is, or is being fetched
	unusable       releases.Digest // can't be used, whoever gives it
	cancelFetch    func()          // ends the fetch of the moment; nil: there is none
	reported       *cells.FlagsReport
	writtenInForce []byte // what the owner is shown, but since when
}

// snapshot is what callers get.
type snapshot struct {
	folded  *flags.Folded   // nil: there is nothing yet
	bundle  *compiledBundle // of which it is
	changed chan struct{}   // closed once another takes its place
}

// compiledBundle is a bundle that may be folded.
type compiledBundle struct {
	digest   releases.Digest
	channel  string
	gates    map[string]flags.Gate // by ID
	compiled *flags.Compiled
}

// maxReason bounds, in bytes, a reason that is kept or reported.
const maxReason = 2 << 10

// New takes what is on disk into force, as far as it is whole.
func New(o Options) *Server {
	s := &Server{
		stateDir: o.StateDir, source: o.Source, clock: o.Clock, log: o.Log, onReport: o.OnReport, onTestPoint: o.OnTestPoint,
		timerChanged: wake.New(), bundleWanted: wake.New(), facts: o.Facts,
	}
	s.current.Store(&snapshot{changed: make(chan struct{})})
	if err := s.clock.Restore(); err != nil {
		s.log.Error().Err(err).Msg("the time is not known until the control plane tells it: no flag turns on by time before")
	}
	var err error
	if s.record, err = loadRecord(s.stateDir); err != nil {
		s.log.Error().Err(err).Msg("flags are off until the control plane tells them anew")
	}
	s.saved = s.record
	s.facts.Held = s.record.Held
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loadBundle()
	s.fold()
	s.persist()
	return s
}

// Current is the folding that holds, and the instant: see flags.Source.
func (s *Server) Current() (*flags.Folded, int64) {
	f := s.current.Load().folded
	at, _ := s.instant()
	if f != nil && f.Next() != 0 && at >= f.Next() {
		at = f.Next() - 1 // what changes then is about to be folded
	}
	return f, at
}

// instant is the instant for flags, and known says that the control plane ever told the time.
func (s *Server) instant() (at int64, known bool) {
	now, known := s.clock.Now()
	if !known {
		return 0, false
	}
	return flags.Instant(now), true
}

// Changed is a channel that is closed once Current is another folding than now.
func (s *Server) Changed() <-chan struct{} { return s.current.Load().changed }

// SetDesired takes the control plane's word; nil: it has no flags repository, which changes nothing here.
func (s *Server) SetDesired(f *cells.Flags) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	book, err := s.record.merge(f)
	if err != nil {
		s.recordRefusal(err.Error())
		return
	}
	if book.Bundle.Digest != s.record.Bundle.Digest {
		s.missingReason = ""
		if s.cancelFetch != nil {
			s.cancelFetch()
		}
	}
	again := !sameOrders(book.Orders, s.record.Orders) || !maps.Equal(book.Labels, s.record.Labels)
	s.record, s.refusal = book, ""
	if again {
		s.fold()
		s.onTestPoint("orders in force")
	}
	s.persist()
	s.bundleWanted.Notify()
}

func (s *Server) recordRefusal(why string) {
	if s.refusal != why {
		s.log.Warn().Str("why", why).Msg("what was told of flags is not taken")
	}
	s.refusal = words.Clip(why, maxReason)
	s.persist()
}

// SetRunning takes what may be running: it is folded once this returns (R38).
func (s *Server) SetRunning(release string, contained []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts.Release == release && slices.Equal(s.facts.Features, contained) {
		return
	}
	s.facts.Release, s.facts.Features = release, contained
	s.fold()
	s.persist()
}

// SetHeld takes the features that the owner holds.
func (s *Server) SetHeld(features []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.facts.Held, features) {
		return
	}
	s.facts.Held, s.record.Held = features, features
	s.fold()
	s.persist()
}

func (s *Server) bundleDir() string { return filepath.Join(s.stateDir, "flags") }
