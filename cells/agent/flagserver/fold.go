package flagserver

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// fold needs mu. What turns on by the time does so once the time is durable; nothing else, a kill least of all, waits for the disk.
func (s *Server) fold() {
	if s.bundle == nil {
		return
	}
	old := s.current.Load()
	at, _ := s.now()
	if next := s.next(); old.bundle != s.bundle || next != 0 && at >= next {
		s.keep()
	}
	facts := s.facts
	facts.Channel, facts.Labels, facts.Region = s.bundle.channel, s.record.Labels, s.record.Labels["region"]
	f := s.bundle.compiled.Fold(s.record.Orders, facts, at)
	s.states = f.States()
	s.remember()
	if old.folded == nil || old.folded.Revision() != f.Revision() {
		s.current.Store(&snapshot{folded: f, bundle: s.bundle, changed: make(chan struct{})})
		close(old.changed)
	} else {
		s.current.Store(&snapshot{folded: f, bundle: s.bundle, changed: old.changed}) // the same answers, with another Next
	}
	s.alarm.Notify()
}

// keep needs mu. It makes the time durable.
func (s *Server) keep() {
	err := s.clock.Keep()
	if err != nil && !s.untimed {
		s.log.Error().Err(err).Msg("the time can't be kept: after a restart flags may be late, or off again until it is told")
	}
	s.untimed = err != nil
}

// remember notes what is on, by which what is suspended is known.
func (s *Server) remember() {
	var seen []string
	for _, id := range slices.Sorted(maps.Keys(s.states)) {
		state := s.states[id]
		_, before := slices.BinarySearch(s.record.SeenOn, id)
		if state == flags.Waiting && before {
			s.states[id] = flags.Suspended
		}
		if before || state == flags.On || state == flags.Ramping {
			seen = append(seen, id)
		}
	}
	s.record.SeenOn = seen
}

// settle needs mu: it makes durable what was learned, and tells of it.
func (s *Server) settle() {
	if !reflect.DeepEqual(s.record, s.kept) {
		err := s.record.save(s.stateDir)
		if err != nil && s.unsaved == nil {
			s.log.Error().Err(err).Msg("flags are in force, and reported once they can be written")
		}
		if s.unsaved = err; err == nil {
			s.kept = s.record
			s.reached("flags kept")
		}
	}
	r := s.compose()
	if r == nil {
		return
	}
	if err := s.show(); err != nil {
		s.log.Warn().Err(err).Msg("the owner is not shown how flags are")
	}
	if !reflect.DeepEqual(r, s.reported) {
		s.reported = r
		s.news()
	}
}

// KeepTime folds again at each instant at which that changes something, and writes what could not be written, until ctx ends.
func (s *Server) KeepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keep()
			return
		case <-timer.C:
		case <-s.alarm:
		case <-s.clock.Changed():
		}
		timer.Reset(s.catchUp())
	}
}

// housekeeping is how often is looked at what does not wait for an instant.
const housekeeping = 5 * time.Second

// catchUp does what is due, and says how long nothing is.
func (s *Server) catchUp() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle == nil && s.unsaved == nil {
		return housekeeping
	}
	next := s.next()
	at, known := s.now()
	come := known && next != 0 && at >= next
	if come {
		s.fold()
		next = s.next()
	}
	if come || s.unsaved != nil {
		s.settle()
	}
	if s.bundle != nil && s.clock.Due() {
		s.keep()
	}
	if next == 0 || !known {
		return housekeeping
	}
	return min(housekeeping, max(time.Millisecond, s.clock.Until(time.Unix(next, 0))))
}

// next needs mu.
func (s *Server) next() int64 {
	if f := s.current.Load().folded; f != nil {
		return f.Next()
	}
	return 0
}
