package flagserver

import (
	"context"
	"fmt"
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
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Source fetches bundles.
type Source interface {
	content.Source
	// RetryPause returns how long to wait after failures in a row, of which err is the last.
	RetryPause(err error, failures int) time.Duration
}

// Options configure a Server. All fields but those that may be nil are required.
type Options struct {
	StateDir    string
	Source      Source
	Clock       *clock.Clock
	Facts       flags.Facts // what runs; channel and labels are received
	Log         zerolog.Logger
	OnReport    func()             // called when there is something to report
	OnTestPoint func(point string) // for tests

	Sharer Sharer // nil: nothing is shared
	// Verify returns why a bundle may not come into force in a cell with these labels; nil: all may that match their
	// digest. What is in force already stays, whatever it would say.
	Verify func(ctx context.Context, b *flags.Bundle, labels map[string]string) error
}

// Server holds the flags received from the control plane, and folds them with what the cell knows: what runs, what the
// owner holds, and the time. Callers get the newest fold. Methods are safe for concurrent use.
//
// Orders are in force as soon as they are received, and reported once they are durable. A bundle is in force once it is
// fetched, verified and compiled. Until then the last good one remains (R43).
type Server struct {
	stateDir    string
	source      Source
	clock       *clock.Clock
	log         zerolog.Logger
	onReport    func()
	onTestPoint func(point string)

	current      atomic.Pointer[snapshot] // never nil
	timerChanged wake.Signal              // wakes RefoldOnTime: the next instant changed, or a write failed
	bundleWanted wake.Signal              // wakes FetchBundles
	Sockets      *Sockets                 // where programs ask

	verify      func(ctx context.Context, b *flags.Bundle, labels map[string]string) error // nil: see Options
	sharer      Sharer                                                                     // nil: nothing is shared
	shareWanted wake.Signal                                                                // wakes KeepSharing
	sharingMu   sync.Mutex                                                                 // is taken before mu
	sharing     sharing

	mu             sync.Mutex
	record         flagsRecord
	saved          flagsRecord     // record as on disk
	saveError      error           // why record could not be saved; nil: it was
	timeUnsaved    bool            // saving the time failed, and was logged
	bundle         *compiledBundle // in force; nil: none
	facts          flags.Facts     // without channel and labels
	states         map[string]flags.CellState
	refusal        string          // why the flags received last were refused; empty: they were not
	timeRefusal    string          // why the control plane's time is refused; empty: it is not
	foldedAt       int64           // instant of the current fold
	unshared       string          // why the nodes lack what is in force; empty: they have it, or there are none
	missingReason  string          // why the wanted bundle is not in force; empty: it is, or is being fetched
	unusable       releases.Digest // digest of a bundle that can't be used, from whatever source
	cancelFetch    func()          // ends the current fetch; nil: there is none
	delivered      []byte          // the wanted bundle, as it came with the desired state; nil: it is fetched
	reported       *cells.FlagsReport
	writtenInForce []byte // inforce.json as on disk, without Since
}

// snapshot is immutable; callers evaluate it.
type snapshot struct {
	folded  *flags.Folded   // nil: nothing yet
	bundle  *compiledBundle // that was folded
	changed chan struct{}   // closed once another snapshot replaces this one
}

type compiledBundle struct {
	digest   releases.Digest
	channel  string
	gates    map[string]flags.Gate // by ID
	compiled *flags.Compiled
}

// maxReason bounds a stored or reported reason, in bytes.
const maxReason = 2 << 10

// New returns a server with the flags on disk in force, as far as they are intact. The error says that the machine does
// not let it read them.
func New(o Options) (*Server, error) {
	s := &Server{
		stateDir: o.StateDir, source: o.Source, clock: o.Clock, log: o.Log, onReport: o.OnReport,
		onTestPoint:  o.OnTestPoint,
		timerChanged: wake.New(), bundleWanted: wake.New(), facts: o.Facts,
		verify: o.Verify, sharer: o.Sharer, shareWanted: wake.New(), Sockets: &Sockets{log: o.Log},
	}
	s.current.Store(&snapshot{changed: make(chan struct{})})
	switch err := s.clock.Restore(); {
	case disk.IsDamage(err):
		putAside(filepath.Join(s.stateDir, "clock.json"), s.log)
		s.log.Error().Err(err).Msg("the time is unknown: no flag turns on by time until the control plane is reached")
	case err != nil:
		return nil, fmt.Errorf("read the time: %w", err)
	}
	var err error
	switch s.record, err = loadRecord(s.stateDir); {
	case disk.IsDamage(err):
		putAside(flagsFile(s.stateDir), s.log)
		s.log.Error().Err(err).
			Msg("the saved flags can't be read: flags are off until the control plane sends them again")
	case err != nil:
		return nil, err
	}
	s.saved = s.record
	s.facts.Held = s.record.Held
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loadBundle()
	s.fold()
	s.persist()
	return s, nil
}

// putAside puts a damaged file aside; the next save would overwrite it.
func putAside(file string, log zerolog.Logger) {
	aside, err := disk.PutAside(file, time.Now())
	log.Warn().Err(err).Str("file", aside).Msg("a file of the state folder was damaged: the agent put it aside")
}

// Current returns the current fold and instant: see flags.Source.
func (s *Server) Current() (*flags.Folded, int64) {
	f := s.current.Load().folded
	at, _ := s.instant()
	if f != nil && f.Next() != 0 && at >= f.Next() {
		at = f.Next() - 1 // the fold for that instant is about to come
	}
	return f, at
}

// instant returns the current instant for flags. known reports whether the control plane ever said the time.
func (s *Server) instant() (at int64, known bool) {
	now, known := s.clock.Now()
	if !known {
		return 0, false
	}
	return flags.Instant(now), true
}

// Changed returns a channel that is closed once Current returns another fold.
func (s *Server) Changed() <-chan struct{} { return s.current.Load().changed }

// SetDesired takes the flags of the desired state; nil: the control plane has no flags repository, which changes
// nothing.
func (s *Server) SetDesired(f *cells.Flags) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	merged, err := s.record.merge(f)
	if err != nil {
		s.recordRefusal(err.Error())
		return
	}
	if merged.Bundle.Digest != s.record.Bundle.Digest {
		s.missingReason, s.delivered = "", f.Bundle.Content
		if s.cancelFetch != nil {
			s.cancelFetch()
		}
	}
	changed := !sameOrders(merged.Orders, s.record.Orders) || !maps.Equal(merged.Labels, s.record.Labels)
	s.record, s.refusal = merged, ""
	if changed {
		s.fold()
		s.onTestPoint("orders in force")
	}
	s.persist()
	s.bundleWanted.Notify()
}

// StartOrder makes the next flags of a height or above count, whatever was received before: the cell was registered by
// a new token.
func (s *Server) StartOrder(height int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Order = newOrder()
	s.record.Height = max(0, height-1) // flags of that very height replace the orders, instead of joining them
	s.persist()
}

func (s *Server) recordRefusal(why string) {
	if s.refusal != why {
		s.log.Warn().Str("why", why).Msg("the flags received were refused")
	}
	s.refusal = words.Clip(why, maxReason)
	s.persist()
}

// SetRunning sets what may be running. It is folded once SetRunning returns (R38).
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

// SetHeld sets the features that the owner holds.
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
