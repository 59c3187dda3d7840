package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Now is the database's clock, the same for all who share it. It is off by half the time that asking took, at most.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.queue.Closed() {
		return time.Time{}, ErrClosed
	}
	s.reads.Add(1)
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	asked := time.Now()
	now, err := s.readClock(limited, s.pool)
	if err != nil {
		return time.Time{}, s.readError(ctx, "ask the database for the time", err)
	}
	if s.clock != nil {
		return now, nil
	}
	return now.Add(time.Since(asked) / 2), nil
}

// rowQuerier is what pools and transactions have in common here.
type rowQuerier interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// readClock reads the store's clock.
func (s *Store) readClock(ctx context.Context, q rowQuerier) (now time.Time, err error) {
	if s.clock != nil {
		return s.clock(), nil
	}
	err = q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now.UTC(), err
}
