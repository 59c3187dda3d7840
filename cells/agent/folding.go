package agent

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// fold needs mu. What turns on by the time does so once the time is durable; nothing else, a kill least of all, waits for the disk.
func (s *switchboard) fold() {
	if s.bundle == nil {
		return
	}
	old := s.shown.Load()
	at, _ := s.now()
	if next := s.next(); old.bundle != s.bundle || next != 0 && at >= next {
		s.keep()
	}
	facts := s.facts
	facts.Channel, facts.Labels, facts.Region = s.bundle.channel, s.book.Labels, s.book.Labels["region"]
	f := s.bundle.compiled.Fold(s.book.Orders, facts, at)
	s.states = f.States()
	s.remember()
	if old.folded == nil || old.folded.Revision() != f.Revision() {
		s.shown.Store(&shown{folded: f, bundle: s.bundle, changed: make(chan struct{})})
		close(old.changed)
	} else {
		s.shown.Store(&shown{folded: f, bundle: s.bundle, changed: old.changed}) // the same answers, with another Next
	}
	s.poked.Notify()
}

// keep needs mu. It makes the time durable.
func (s *switchboard) keep() {
	err := s.clock.Keep()
	if err != nil && !s.untimed {
		s.log.Error().Err(err).Msg("the time can't be kept: after a restart flags may be late, or off again until it is told")
	}
	s.untimed = err != nil
}

// remember notes what is on, by which what is suspended is known.
func (s *switchboard) remember() {
	var lit []string
	for _, id := range slices.Sorted(maps.Keys(s.states)) {
		state := s.states[id]
		_, before := slices.BinarySearch(s.book.Lit, id)
		if state == flags.Waiting && before {
			s.states[id] = flags.Suspended
		}
		if before || state == flags.On || state == flags.Ramping {
			lit = append(lit, id)
		}
	}
	s.book.Lit = lit
}

// settle needs mu: it makes durable what was learned, and tells of it.
func (s *switchboard) settle() {
	if !reflect.DeepEqual(s.book, s.kept) {
		err := s.book.save(s.dir)
		if err != nil && s.full == nil {
			s.log.Error().Err(err).Msg("flags are in force, and reported once they can be written")
		}
		if s.full = err; err == nil {
			s.kept = s.book
			s.at("flags kept")
		}
	}
	r := s.compose()
	if r == nil {
		return
	}
	if err := s.show(); err != nil {
		s.log.Warn().Err(err).Msg("the owner is not shown how flags are")
	}
	if !reflect.DeepEqual(r, s.said) {
		s.said = r
		s.ring()
	}
}

// keepTime folds again at each instant at which that changes something, and writes what could not be written, until ctx ends.
func (s *switchboard) keepTime(ctx context.Context) {
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
		case <-s.poked:
		case <-s.clock.Changed():
		}
		timer.Reset(s.catchUp())
	}
}

// housekeeping is how often is looked at what does not wait for an instant.
const housekeeping = 5 * time.Second

// catchUp does what is due, and says how long nothing is.
func (s *switchboard) catchUp() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle == nil && s.full == nil {
		return housekeeping
	}
	next := s.next()
	at, known := s.now()
	come := known && next != 0 && at >= next
	if come {
		s.fold()
		next = s.next()
	}
	if come || s.full != nil {
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
func (s *switchboard) next() int64 {
	if f := s.shown.Load().folded; f != nil {
		return f.Next()
	}
	return 0
}
