package store

import (
	"context"
	"database/sql"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

var dialect = tables.Dialect{SetLanded: `json_set(body, '$.landed', $2)`}

type database struct{ *Store }

func (d database) Read(ctx context.Context, op string, read func(tables.Reader) error) error {
	tx, err := d.readDB.BeginTx(ctx, nil)
	if err != nil {
		return wrapError(op, err)
	}
	defer tx.Rollback()
	return wrapError(op, read(&transaction{ctx: ctx, tx: tx, now: d.now}))
}

func (d database) Write(ctx context.Context, op string, write func(tables.Tx) error) error {
	return d.writeTx(ctx, op, func(tx *sql.Tx) error { return d.runTx(tx, write) })
}

func (d database) WriteAsLeader(ctx context.Context, op string, write func(tables.Tx) error) error {
	return d.writeTx(ctx, op, func(tx *sql.Tx) error {
		if err := d.fence(tx); err != nil {
			return err
		}
		return d.runTx(tx, write)
	})
}

func (d database) runTx(tx *sql.Tx, write func(tables.Tx) error) error {
	t := &transaction{ctx: context.Background(), tx: tx, now: d.now}
	if err := write(t); err != nil {
		return err
	}
	return t.failed
}

// transaction implements tables.Tx. Queued statements run at once.
type transaction struct {
	ctx    context.Context // used by reads only: a write is not interrupted
	tx     *sql.Tx
	now    func() time.Time
	failed error // the first error of a queued statement
}

func (t *transaction) Each(query string, args, dest []any, row func() error) error {
	if t.failed != nil {
		return t.failed
	}
	query, args, err := rewriteLists(query, args)
	if err != nil {
		return err
	}
	found, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		if err := found.Scan(dest...); err != nil {
			return err
		}
		if err := row(); err != nil {
			return err
		}
	}
	return found.Err()
}

func (t *transaction) Exec(statement string, args ...any) (int64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	statement, args, err := rewriteLists(statement, args)
	if err != nil {
		return 0, err
	}
	done, err := t.tx.ExecContext(t.ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

func (t *transaction) Queue(statement string, args ...any) { _, t.failed = t.Exec(statement, args...) }

// Insert inserts rows, many in one statement.
func (t *transaction) Insert(into string, all [][]any, onConflict string) {
	if t.failed == nil {
		t.failed = insertRows(t.tx, into, all, onConflict)
	}
}

// Now returns this machine's clock.
func (t *transaction) Now() (time.Time, error) { return t.now(), nil }

// Notify does nothing: other processes poll (see Follow).
func (t *transaction) Notify(engine.StoreUpdate) {}

// MaybeCommitted returns false: the answer to a commit can't be lost.
func (t *transaction) MaybeCommitted() bool { return false }

var anyPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`= ANY\((\$\d+)\)`) })

// rewriteLists passes lists as JSON, and rewrites a statement to read them.
func rewriteLists(statement string, args []any) (string, []any, error) {
	for i, a := range args {
		names, ok := a.([]string)
		if !ok {
			continue
		}
		encoded, err := rows.Encode(names)
		if err != nil {
			return "", nil, err
		}
		args = slices.Clone(args)
		args[i] = encoded
		statement = anyPattern().ReplaceAllString(statement, `IN (SELECT value FROM json_each($1))`)
	}
	return statement, args, nil
}
