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

// tx runs do in one durable write transaction, all of it or nothing. Once begun it is not given up
// when ctx ends: a commit that was cut off would leave its caller not knowing.
func (s *Store) tx(ctx context.Context, op string, do func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return s.commit(ctx, op, do)
}

func (s *Store) commit(ctx context.Context, op string, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(context.WithoutCancel(ctx), nil)
	if err == nil {
		if err = do(tx); err == nil {
			err = tx.Commit()
		} else if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) && !rolledBack(back) {
			err = errors.Join(err, back)
		}
	}
	err = wrap(op, err)
	switch {
	case err == nil:
		s.failed.Store(nil)
	case !tables.Answers(err):
		s.failed.Store(&err)
	}
	return err
}

// rolledBack tells whether a ROLLBACK failed because SQLite had rolled back by itself, as it does when the disk is full.
func rolledBack(err error) bool {
	return strings.Contains(err.Error(), "no transaction is active")
}

// wrap names the operation and says busy and full in the engine's words.
func wrap(op string, err error) error {
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
		case code&0xff == sqlite3.SQLITE_NOTADB, code&0xff == sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("%s: %w: the file is damaged: restore a backup, or move it away and let the cells' reports refill a new one", op, err)
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}
