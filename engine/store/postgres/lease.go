package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
)

// leaseRow is the row of the lease as of an instant.
type leaseRow struct {
	term                 int64
	holder               string // the name of a store; empty: the lease is free
	since, until, readAt time.Time
}

// isActive reports whether the lease is held and has not run out. A lease whose start is in the future counts as run
// out: the clock was set back since, and the lease would be prolonged by that much.
func (t leaseRow) isActive() bool {
	return t.holder != "" && !t.readAt.Before(t.since) && t.readAt.Before(t.until)
}

// lockLease locks the row of the lease, then reads it, so that readAt is after the wait for the lock.
func (s *Store) lockLease(ctx context.Context, tx pgx.Tx) (t leaseRow, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT FROM lease FOR UPDATE`)
	b.Queue(`SELECT term, holder, since, until, clock_timestamp() FROM lease`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&t.term, &t.holder, &t.since, &t.until, &t.readAt)
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return t, err
	}
	if s.clock != nil {
		t.readAt = s.clock()
	}
	return t, nil
}

// AcquireLease acquires the lease for length by the database's clock, or renews this store's own. led is false while
// another process holds the lease. Acquiring a lease that ran out begins a new term even for its former holder, whose
// writes of the old term may still be on their way.
func (s *Store) AcquireLease(ctx context.Context, length time.Duration) (number int64, led bool, err error) {
	s.leaseRequested.Store(true)
	err = s.writeTx(ctx, "acquire the lease", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		t, err := s.lockLease(ctx, tx)
		if err != nil {
			return err
		}
		mine := t.holder == s.name && t.isActive()
		number, led = t.term, mine || !t.isActive()
		if !led {
			return nil
		}
		if !mine {
			number++
		}
		_, err = tx.Exec(ctx, `UPDATE lease SET term = $1, holder = $2, since = $3, until = $4`, number, s.name,
			t.readAt, t.readAt.Add(length))
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if led {
		s.term.Store(number)
	}
	return number, led, nil
}

// ReleaseLease ends this store's term, if it leads.
func (s *Store) ReleaseLease(ctx context.Context) error {
	return s.writeTx(ctx, "release the lease", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		_, err := tx.Exec(ctx, `UPDATE lease SET holder = '', until = since WHERE holder = $1`, s.name)
		return err
	})
}

// fence locks the lease for a write, and returns plan.ErrDeposed unless this store leads. A store that never requested
// the lease, as in a process that runs alone, may write while no store leads.
func (s *Store) fence(ctx context.Context, tx pgx.Tx) error {
	t, err := s.lockLease(ctx, tx)
	if err != nil {
		return err
	}
	mine := t.holder == s.name
	leads := mine && t.isActive() && t.term == s.term.Load()
	if !leads && (s.leaseRequested.Load() || !mine && t.isActive()) {
		return plan.ErrDeposed
	}
	return nil
}
