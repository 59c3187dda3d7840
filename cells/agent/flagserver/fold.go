package flagserver

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/flags"
)

// fold needs mu. Before it turns anything on because of the time, it saves the time. Everything else, a kill above all,
// does not wait for the disk.
func (s *Server) fold() {
	if s.bundle == nil {
		return
	}
	old := s.current.Load()
	at, _ := s.instant()
	if next := s.nextChange(); old.bundle != s.bundle || next != 0 && at >= next {
		s.saveTime()
	}
	facts := s.facts
	facts.Channel, facts.Labels, facts.Region = s.bundle.channel, s.record.Labels, s.record.Labels["region"]
	f := s.bundle.compiled.Fold(s.record.Orders, facts, at)
	s.states, s.foldedAt = f.States(), at
	s.recordSeenOn()
	if old.folded == nil || old.folded.Revision() != f.Revision() {
		s.current.Store(&snapshot{folded: f, bundle: s.bundle, changed: make(chan struct{})})
		close(old.changed)
	} else {
		s.current.Store(&snapshot{folded: f, bundle: s.bundle, changed: old.changed}) // same answers, another Next
	}
	s.timerChanged.Notify()
	s.shareWanted.Notify()
}

// saveTime makes the time durable. It needs mu.
func (s *Server) saveTime() {
	err := s.clock.Save()
	if err != nil && !s.timeUnsaved {
		s.log.Error().Err(err).Msg("the time can't be saved: after a restart, " +
			"flags may turn on late, or be off until the control plane is reached")
	}
	s.timeUnsaved = err != nil
}

// recordSeenOn records the announcements that are on, so that suspended ones are recognised later.
func (s *Server) recordSeenOn() {
	var seen []string
	for _, id := range slices.Sorted(maps.Keys(s.states)) {
		state := s.states[id]
		_, seenBefore := slices.BinarySearch(s.record.SeenOn, id)
		if state == flags.Waiting && seenBefore {
			s.states[id] = flags.Suspended
		}
		if seenBefore || state == flags.On || state == flags.Ramping {
			seen = append(seen, id)
		}
	}
	s.record.SeenOn = seen
}

// persist makes durable what was received, and reports it. It needs mu.
func (s *Server) persist() {
	if !reflect.DeepEqual(s.record, s.saved) {
		err := s.record.save(s.stateDir)
		if err != nil && s.saveError == nil {
			s.log.Error().Err(err).
				Msg("the flags are in force but can't be saved; they are reported once they are saved")
		}
		if s.saveError = err; err == nil {
			s.saved = s.record
			s.onTestPoint("flags kept")
		}
	}
	r := s.composeReport()
	if r == nil {
		return
	}
	if err := s.writeInForce(); err != nil {
		s.log.Warn().Err(err).Msg("the flags in force could not be saved for the owner's commands")
	}
	if !reflect.DeepEqual(r, s.reported) {
		s.reported = r
		s.onReport()
	}
}

// RefoldOnTime folds again at each instant that changes an answer, and retries failed writes, until ctx ends.
func (s *Server) RefoldOnTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.saveTime()
			return
		case <-timer.C:
		case <-s.timerChanged:
		case <-s.clock.Changed():
		}
		timer.Reset(s.refoldIfDue())
	}
}

// clockDoubt returns why the control plane's time is not believed, or "".
func (s *Server) clockDoubt() string {
	c := s.clock.Status()
	if c.Refused.IsZero() {
		return ""
	}
	return fmt.Sprintf("the control plane's time, %s, is refused: it would be more than %s ahead of the machine's own "+
		"clocks; if it is right, the owner resets the time: sluice cell clock reset",
		c.Refused.UTC().Format(time.DateTime), clock.MaxAhead)
}

// housekeepingInterval is the time between checks of work that has no instant.
const housekeepingInterval = 5 * time.Second

// refoldIfDue does what is due, and returns how long to wait for the next work.
func (s *Server) refoldIfDue() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if doubt := s.clockDoubt(); doubt != s.timeRefusal {
		s.timeRefusal = doubt
		s.saveTime()
		s.persist()
	}
	if s.bundle == nil && s.saveError == nil {
		return housekeepingInterval
	}
	next := s.nextChange()
	at, known := s.instant()
	due := known && (next != 0 && at >= next || at < s.foldedAt) // the owner may have had the time set back
	if due {
		s.fold()
		next = s.nextChange()
	}
	if due || s.saveError != nil {
		s.persist()
	}
	if s.bundle != nil && s.clock.SaveDue() {
		s.saveTime()
	}
	if next == 0 || !known {
		return housekeepingInterval
	}
	return min(housekeepingInterval, max(time.Millisecond, s.clock.DurationUntil(time.Unix(next, 0))))
}

// nextChange needs mu.
func (s *Server) nextChange() int64 {
	if f := s.current.Load().folded; f != nil {
		return f.Next()
	}
	return 0
}
