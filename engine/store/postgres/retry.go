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
	// errConnectionLost means that the connection ended, or could not be made.
	errConnectionLost = errors.New("the connection to the database was lost")
	// errRetry means that another process was faster, and that another attempt is worth while.
	errRetry = errors.New("another process writes the same")
)

type attempt struct {
	conn           *pgx.Conn
	committing     bool // set before the commit: if the connection is then lost, the commit may have been made
	maybeCommitted bool // an earlier attempt may have been committed
}

// retryWrite runs a write, and repeats it if the connection is lost, until the timeout. Once begun, it ignores ctx, so
// that the caller always learns whether the write was committed. do must end the transaction that it begins and, if
// maybeCommitted is set, must not change what an earlier attempt wrote.
func (s *Store) retryWrite(ctx context.Context, pool *pgxpool.Pool, op string,
	do func(ctx context.Context, t *attempt) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	t := &attempt{}
	for n := 0; ; n++ {
		err := runAttempt(ctx, pool, t, do)
		if err != nil && s.lifetime.Err() != nil {
			return ErrClosed
		}
		if err == nil || !isTransient(err) {
			return s.recordOutcome(wrapError(op, err))
		}
		if errors.Is(err, errConnectionLost) {
			pool.Reset() // the pool's other idle connections are probably lost too
		}
		if backoff.Sleep(ctx, retryDelay(n, 5*time.Millisecond, 250*time.Millisecond, rand.Float64())) != nil {
			return s.recordOutcome(wrapError(op, err))
		}
	}
}

func runAttempt(ctx context.Context, pool *pgxpool.Pool, t *attempt,
	do func(ctx context.Context, t *attempt) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes a connection that is still in a transaction
	t.conn, t.committing = conn.Conn(), false
	err = do(ctx, t)
	if err == nil {
		return nil
	}
	if t.conn.IsClosed() || isSessionEnded(err) {
		t.maybeCommitted = t.maybeCommitted || t.committing
		return fmt.Errorf("%w: %w", errConnectionLost, err)
	}
	return err
}

func (s *Store) recordOutcome(err error) error {
	switch {
	case err == nil:
		s.writeErr.Store(nil)
	case !tables.IsExpectedError(err):
		s.writeErr.Store(&err)
	}
	return err
}

// writeTx runs do in one durable write transaction, all of it or nothing. do may run several times.
func (s *Store) writeTx(ctx context.Context, op string,
	do func(ctx context.Context, tx pgx.Tx, maybeCommitted bool) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return s.retryWrite(ctx, s.pool, op, func(ctx context.Context, t *attempt) error {
		tx, err := t.conn.Begin(ctx)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, t.maybeCommitted); err != nil {
			_ = tx.Rollback(ctx) // if that fails, the connection ends, and the transaction with it
			return err
		}
		t.committing = true
		return tx.Commit(ctx)
	})
}

// Reads returns how often the database was read since it was opened, without reads by writes.
func (s *Store) Reads() int64 { return s.reads.Load() }

// readTx runs do in a transaction that reads as of one instant.
func (s *Store) readTx(ctx context.Context, op string, do func(ctx context.Context, tx pgx.Tx) error) error {
	if s.queue.Closed() {
		return ErrClosed
	}
	s.reads.Add(1)
	limited, cancel := context.WithTimeout(ctx, readFactor*s.timeout)
	defer cancel()
	var err error
	for n := range 3 { // pooled connections may have died since their last use
		err = pgx.BeginTxFunc(limited, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
			func(tx pgx.Tx) error {
				return do(limited, tx)
			})
		if err == nil || limited.Err() != nil || n == 2 || !isSessionEnded(err) && !isNetworkError(err) {
			break
		}
		s.pool.Reset()
	}
	return s.readError(ctx, op, err)
}

// readError returns why a read failed; the caller's context counts first.
func (s *Store) readError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case s.lifetime.Err() != nil:
		return ErrClosed
	case isSessionEnded(err), isNetworkError(err):
		err = fmt.Errorf("%w: %w", errConnectionLost, err)
	}
	return wrapError(op, err)
}
