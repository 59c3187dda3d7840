package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

// writeTx runs do in one durable write transaction, all of it or nothing. Once begun, the transaction ignores ctx, so
// that the caller always learns whether it was committed.
func (s *Store) writeTx(ctx context.Context, op string, do func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return s.commitTx(ctx, op, do)
}

func (s *Store) commitTx(ctx context.Context, op string, do func(*sql.Tx) error) error {
	tx, err := s.writeDB.BeginTx(context.WithoutCancel(ctx), nil)
	if err == nil {
		if err = do(tx); err == nil {
			err = tx.Commit()
		} else if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) && !isRolledBack(back) {
			err = errors.Join(err, back)
		}
	}
	err = wrapError(op, err)
	switch {
	case err == nil:
		s.writeErr.Store(nil)
	case !tables.IsExpectedError(err):
		s.writeErr.Store(&err)
	}
	return err
}

// ErrDamaged says that the database's file can't be trusted.
var ErrDamaged = errors.New("the file is damaged")

// isRolledBack reports whether a ROLLBACK failed because SQLite had rolled back by itself, as it does when the disk is
// full.
func isRolledBack(err error) bool {
	return strings.Contains(err.Error(), "no transaction is active")
}

// wrapError adds the operation, and plan.ErrBusy, ErrFull or ErrReadOnly where one applies.
func wrapError(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch code := e.Code(); {
		case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_LOCKED:
			return fmt.Errorf("%s: %w: %w", op, plan.ErrBusy, err)
		case code&0xff == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR_SHMSIZE:
			return fmt.Errorf("%s: %w: %w", op, plan.ErrFull, err)
		case code&0xff == sqlite3.SQLITE_READONLY:
			return fmt.Errorf("%s: %w: %w", op, plan.ErrReadOnly, err)
		case code&0xff == sqlite3.SQLITE_NOTADB, code&0xff == sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("%s: %w: %w: "+
				"restore a backup, or move it away and let the cells' reports refill a new one", op, err, ErrDamaged)
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}
