package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sluice-cd/sluice/engine/store/tables"
	"github.com/sluice-cd/sluice/internal/backoff"
)

var (
	// errLost: the connection is gone, or there is none.
	errLost = errors.New("the connection to the database was lost")
	// errAgain: somebody else was there first; it is worth another look.
	errAgain = errors.New("another process writes the same")
)

// trial is one attempt of a write.
type trial struct {
	conn       *pgx.Conn
	committing bool // set before the commit is sent: from then a lost connection leaves open whether it was made
	unsure     bool // an attempt before this one may have been made
}

// try makes a write, and makes it again if its connection was lost, until the time is over. Once begun it is not given
// up when ctx ends: a commit that was cut off would leave its caller not knowing. do must end the transaction it begins,
// and, when its trial is unsure, leave as it is what is there already.
func (s *Store) try(ctx context.Context, pool *pgxpool.Pool, op string, do func(ctx context.Context, t *trial) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	t := &trial{}
	for n := 0; ; n++ {
		err := once(ctx, pool, t, do)
		if err != nil && s.life.Err() != nil {
			return ErrClosed
		}
		if err == nil || !transient(err) {
			return s.outcome(wrap(op, err))
		}
		if errors.Is(err, errLost) {
			pool.Reset() // what else is idle there is most likely lost too
		}
		if backoff.Sleep(ctx, pause(n, 5*time.Millisecond, 250*time.Millisecond, rand.Float64())) != nil {
			return s.outcome(wrap(op, err))
		}
	}
}

func once(ctx context.Context, pool *pgxpool.Pool, t *trial, do func(ctx context.Context, t *trial) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes it if it is in a transaction still
	t.conn, t.committing = conn.Conn(), false
	err = do(ctx, t)
	if err == nil {
		return nil
	}
	if t.conn.IsClosed() || gone(err) {
		t.unsure = t.unsure || t.committing
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

// outcome remembers how the last write went.
func (s *Store) outcome(err error) error {
	switch {
	case err == nil:
		s.failed.Store(nil)
	case !tables.Answers(err):
		s.failed.Store(&err)
	}
	return err
}

// write runs do in one durable write transaction, all of it or nothing. do may be run several times.
func (s *Store) write(ctx context.Context, op string, do func(ctx context.Context, tx pgx.Tx, unsure bool) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return s.try(ctx, s.pool, op, func(ctx context.Context, t *trial) error {
		tx, err := t.conn.Begin(ctx)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, t.unsure); err != nil {
			_ = tx.Rollback(ctx) // if that fails, the connection ends, and the transaction with it
			return err
		}
		t.committing = true
		return tx.Commit(ctx)
	})
}

// Reads is how often the database was read since it was opened; what a write reads on its way is not counted.
func (s *Store) Reads() int64 { return s.reads.Load() }

// read runs do in a transaction that reads as of one instant.
func (s *Store) read(ctx context.Context, op string, do func(ctx context.Context, tx pgx.Tx) error) error {
	if s.queue.Closed() {
		return ErrClosed
	}
	s.reads.Add(1)
	limited, cancel := context.WithTimeout(ctx, readFactor*s.timeout)
	defer cancel()
	var err error
	for n := range 3 { // pooled connections may be dead since the last time: a new one says
		err = pgx.BeginTxFunc(limited, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			return do(limited, tx)
		})
		if err == nil || limited.Err() != nil || n == 2 || !gone(err) && !network(err) {
			break
		}
		s.pool.Reset()
	}
	return s.readFailed(ctx, op, err)
}

// readFailed says why a read failed: the caller's context counts first.
func (s *Store) readFailed(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case s.life.Err() != nil:
		return ErrClosed
	case gone(err), network(err):
		err = fmt.Errorf("%w: %w", errLost, err)
	}
	return wrap(op, err)
}
