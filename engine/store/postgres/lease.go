package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
)

// term is the row of the lease, and when it was read.
type term struct {
	number               int64
	holder               string // empty: nobody holds the lease
	since, until, readAt time.Time
}

// isActive reports whether the lease has not run out. A lease acquired later than now was written before the clock was
// set back; it does not count, for it would last as long as the clock went back.
func (t term) isActive() bool {
	return t.holder != "" && !t.readAt.Before(t.since) && t.readAt.Before(t.until)
}

// lockLease locks the row of the lease, then reads it, so that readAt is after the wait for the lock.
func (s *Store) lockLease(ctx context.Context, tx pgx.Tx) (t term, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT FROM lease FOR UPDATE`)
	b.Queue(`SELECT term, holder, since, until, clock_timestamp() FROM lease`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&t.number, &t.holder, &t.since, &t.until, &t.readAt)
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
// another process holds it. Acquiring a lease that ran out begins a new term even for its former holder, whose writes
// of the old term may still be on their way.
func (s *Store) AcquireLease(ctx context.Context, length time.Duration) (number int64, led bool, err error) {
	s.leaseRequested.Store(true)
	err = s.writeTx(ctx, "acquire the lease", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		t, err := s.lockLease(ctx, tx)
		if err != nil {
			return err
		}
		mine := t.holder == s.name && t.isActive()
		number, led = t.number, mine || !t.isActive()
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

// fence lets a write through, under the lease's lock, if this store leads. A store that never requested the lease may
// write while nobody leads, as a process that runs alone.
func (s *Store) fence(ctx context.Context, tx pgx.Tx) error {
	t, err := s.lockLease(ctx, tx)
	if err != nil {
		return err
	}
	mine := t.holder == s.name
	leads := mine && t.isActive() && t.number == s.term.Load()
	if !leads && (s.leaseRequested.Load() || !mine && t.isActive()) {
		return plan.ErrDeposed
	}
	return nil
}
