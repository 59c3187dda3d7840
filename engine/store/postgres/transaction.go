package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

var dialect = tables.Dialect{SetLanded: `jsonb_set(body::jsonb, '{landed}', to_jsonb($2::text))::text`}

type database struct{ *Store }

func (d database) Read(ctx context.Context, op string, read func(tables.Reader) error) error {
	return d.readTx(ctx, op, func(ctx context.Context, tx pgx.Tx) error {
		return read(d.newTransaction(ctx, tx, false))
	})
}

func (d database) Write(ctx context.Context, op string, write func(tables.Tx) error) error {
	return d.writeTx(ctx, op, func(ctx context.Context, tx pgx.Tx, maybeCommitted bool) error {
		return d.newTransaction(ctx, tx, maybeCommitted).run(write)
	})
}

// WriteAsLeader writes if this store leads. It locks the row of the lease until the commit, so that no new term begins
// before, and a leader's writes come one after the other: caps and cursors need no locks of their own.
func (d database) WriteAsLeader(ctx context.Context, op string, write func(tables.Tx) error) error {
	return d.writeTx(ctx, op, func(ctx context.Context, tx pgx.Tx, maybeCommitted bool) error {
		if err := d.fence(ctx, tx); err != nil {
			return err
		}
		return d.newTransaction(ctx, tx, maybeCommitted).run(write)
	})
}

// transaction implements tables.Tx.
type transaction struct {
	ctx            context.Context // of the current attempt
	tx             pgx.Tx
	store          *Store
	maybeCommitted bool
	queued         *pgx.Batch
	failed         error // the first error of queueing
}

func (s *Store) newTransaction(ctx context.Context, tx pgx.Tx, maybeCommitted bool) *transaction {
	return &transaction{ctx: ctx, tx: tx, store: s, maybeCommitted: maybeCommitted, queued: &pgx.Batch{}}
}

func (t *transaction) run(write func(tables.Tx) error) error {
	if err := write(t); err != nil {
		return err
	}
	return t.flush()
}

func (t *transaction) flush() error {
	if t.failed != nil || t.queued.Len() == 0 {
		return t.failed
	}
	b := t.queued
	t.queued = &pgx.Batch{}
	return t.tx.SendBatch(t.ctx, b).Close()
}

func (t *transaction) Each(query string, args, dest []any, row func() error) error {
	if err := t.flush(); err != nil {
		return err
	}
	found, err := t.tx.Query(t.ctx, query, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(found, dest, row)
	return err
}

func (t *transaction) Exec(statement string, args ...any) (int64, error) {
	if err := t.flush(); err != nil {
		return 0, err
	}
	done, err := t.tx.Exec(t.ctx, statement, args...)
	return done.RowsAffected(), err
}

// Queue queues a statement until flush, so that many share a round trip.
func (t *transaction) Queue(statement string, args ...any) { t.queued.Queue(statement, args...) }

// Insert queues one statement for all rows.
func (t *transaction) Insert(into string, all [][]any, onConflict string) {
	queueRows(t.queued, into, all, onConflict)
}

// Now returns the database's clock.
func (t *transaction) Now() (time.Time, error) { return t.store.readClock(t.ctx, t.tx) }

// Notify sends a notification with the transaction.
func (t *transaction) Notify(n engine.StoreUpdate) {
	payloads, err := notification{By: t.store.name, Cells: n.Cells, Material: n.Material, Known: n.Known,
		Flags: n.Flags, Records: n.Records}.payloads()
	if err != nil {
		t.failed = err
		return
	}
	t.Queue(notifyStatement, payloads)
}

// MaybeCommitted reports whether an earlier attempt may have been committed, because its answer was lost.
func (t *transaction) MaybeCommitted() bool { return t.maybeCommitted }

// queueRows queues the insertion of rows as arrays, one for each column.
func queueRows(b *pgx.Batch, into string, all [][]any, onConflict string) {
	if len(all) == 0 {
		return
	}
	columns, types := make([]any, len(all[0])), make([]string, len(all[0]))
	for c, first := range all[0] {
		if _, text := first.(string); text {
			columns[c], types[c] = columnOf[string](all, c), fmt.Sprintf("$%d::text[]", c+1)
		} else {
			columns[c], types[c] = columnOf[int64](all, c), fmt.Sprintf("$%d::bigint[]", c+1)
		}
	}
	b.Queue(into+` SELECT * FROM unnest(`+strings.Join(types, ", ")+`) `+onConflict, columns...)
}

func columnOf[T any](all [][]any, c int) []T {
	column := make([]T, len(all))
	for i, row := range all {
		column[i] = row[c].(T)
	}
	return column
}
