package store

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
)

// Free ends the slots of cells.
func (s *Store) Free(context.Context, string, []string) error { return nil }

// Lead takes the lease.
func (s *Store) Lead(context.Context, time.Duration) (int64, bool, error) { return 1, true, nil }

// Resign ends this process's term.
func (s *Store) Resign(context.Context) error { return nil }

// Claim uses up a token.
func (s *Store) Claim(context.Context, string, engine.Registration) error { return engine.ErrDenied }

// Register records r.
func (s *Store) Register(context.Context, engine.Registration) error { return engine.ErrStale }

// Follow returns at once.
func (s *Store) Follow(context.Context, func(engine.News)) error { return nil }

// Now is the store's clock.
func (s *Store) Now(context.Context) (time.Time, error) { return time.Now(), nil }
