package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Now returns the database's clock, which all processes share. It is off by half the round trip at most.
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
		return time.Time{}, s.readError(ctx, "read the database's clock", err)
	}
	if s.clock != nil {
		return now, nil
	}
	return now.Add(time.Since(asked) / 2), nil
}

type rowQuerier interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

func (s *Store) readClock(ctx context.Context, q rowQuerier) (now time.Time, err error) {
	if s.clock != nil {
		return s.clock(), nil
	}
	err = q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now.UTC(), err
}
