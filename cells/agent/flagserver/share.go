package flagserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"reflect"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Shared is what an agent knows of flags, for the cell's node parts, which evaluate them too. Immutable.
type Shared struct {
	Cell     string            `json:"cell"`
	Order    string            `json:"order,omitempty"` // another one: heights start anew
	Height   int64             `json:"height"`
	Bundle   releases.Digest   `json:"bundle"` // in force in the agent
	Orders   flags.Orders      `json:"orders"`
	Labels   map[string]string `json:"labels,omitempty"`
	Held     []string          `json:"held,omitempty"`
	Release  string            `json:"release,omitempty"`
	Features []string          `json:"features,omitempty"` // contained in every release that may be running
	Time     time.Time         `json:"time,omitzero"`      // the control plane's, as it was shared; zero: unknown
}

// Sharer takes what an agent shares to where node parts find it.
type Sharer interface {
	// Share returns once s is durable. bundle returns the bytes of the bundle in s.
	Share(ctx context.Context, s Shared, bundle func() ([]byte, error)) error
}

const (
	// timeSharedEvery is the time between shares of nothing but the time, while an answer waits for an instant. It is
	// well below the jump that a clock takes from a single sample.
	timeSharedEvery = 45 * time.Second
	restSharedEvery = 10 * time.Minute // and while none does: so that what somebody changed or deleted is there again
	minSharePause   = 100 * time.Millisecond
	maxSharePause   = 10 * time.Second
)

// sharing is what was shared last. Server.sharing.mu guards it, and is held while something is shared, so that nothing
// older follows something newer.
type sharing struct {
	last Shared // without Time
	at   time.Time
}

// KeepSharing shares each change of what the agent knows, at once, until ctx ends.
func (s *Server) KeepSharing(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.shareWanted:
		}
		next := restSharedEvery
		if s.nextInstant() != 0 {
			next = timeSharedEvery
		}
		err := s.share(ctx, next-time.Second)
		if err != nil {
			next = backoff.FullJitter(backoff.Exponential(minSharePause, maxSharePause, failures))
			failures++
		} else {
			failures = 0
		}
		s.recordShared(ctx, err)
		timer.Reset(next)
	}
}

// Share returns once what the agent knows now is where node parts find it; at once if there are none. It is called
// before something runs that lacks a feature (R38).
func (s *Server) Share(ctx context.Context) error {
	if s.sharer == nil {
		return nil
	}
	if err := s.share(ctx, restSharedEvery); err != nil {
		return &cells.UnavailableError{Cause: fmt.Errorf("share the flags with the cell's nodes: %w", err)}
	}
	return nil
}

// share shares what is known, unless it did so within a while.
func (s *Server) share(ctx context.Context, within time.Duration) error {
	s.sharingMu.Lock()
	defer s.sharingMu.Unlock()
	now, ok := s.shared()
	if !ok {
		return nil
	}
	stamp := now.Time
	now.Time = time.Time{}
	if reflect.DeepEqual(now, s.sharing.last) && time.Since(s.sharing.at) < within {
		return nil
	}
	toShare := now
	toShare.Time = stamp
	err := s.sharer.Share(ctx, toShare, func() ([]byte, error) {
		return disk.ReadLimited(s.bundleFile(now.Bundle), flags.MaxBundle)
	})
	if err == nil {
		s.sharing = sharing{now, time.Now()}
	}
	return err
}

// shared returns what is to be shared; ok is false as long as no bundle is in force.
func (s *Server) shared() (now Shared, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle == nil {
		return Shared{}, false
	}
	r := s.record
	at, _ := s.clock.Now()
	return Shared{Cell: s.facts.Cell, Order: r.Order, Height: r.Height, Bundle: s.bundle.digest, Orders: r.Orders,
		Labels: r.Labels, Held: s.facts.Held, Release: s.facts.Release, Features: s.facts.Features, Time: at}, true
}

func (s *Server) nextInstant() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextChange()
}

// recordShared reports why the nodes lack what the agent has; nil: they have it.
func (s *Server) recordShared(ctx context.Context, why error) {
	text := ""
	switch {
	case ctx.Err() != nil:
		return
	case why != nil:
		text = "the cell's nodes keep the flags of before: " + words.Clip(why.Error(), maxReason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if (text == "") != (s.unshared == "") {
		s.log.Warn().Err(why).Msg("sharing the flags with the cell's nodes failed, or works again")
	}
	if s.unshared != text {
		s.unshared = text
		s.persist()
	}
}

// Take puts into force what an agent shared. What is older than what was taken before is refused, as it is of the
// control plane (R39).
func (s *Server) Take(from Shared) error {
	if _, err := releases.ParseDigest(string(from.Bundle)); err != nil {
		return fmt.Errorf("shared flags: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from.Order == s.record.Order && from.Height < s.record.Height {
		return fmt.Errorf("shared flags of height %d are refused after those of height %d: %w", from.Height,
			s.record.Height, errBehind)
	}
	if now, known := s.clock.Now(); !known || from.Time.After(now) { // it may have been on its way for long
		s.clock.AddSample(from.Time, s.clock.ReadMachine())
	}
	if from.Bundle != s.record.Bundle.Digest {
		s.missingReason = ""
		if s.cancelFetch != nil {
			s.cancelFetch()
		}
	}
	s.record.Order, s.record.Height, s.record.Orders = from.Order, from.Height, from.Orders
	s.record.Bundle = cells.FlagBundle{Digest: from.Bundle}
	s.record.Labels, s.record.Held = maps.Clone(from.Labels), from.Held
	s.facts.Cell, s.facts.Release, s.facts.Features, s.facts.Held = from.Cell, from.Release, from.Features, from.Held
	s.fold()
	s.persist()
	s.bundleWanted.Notify()
	return nil
}

// newOrder identifies an order of heights.
func newOrder() string { return rand.Text() }
