package tables

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

type jsonBody struct{ value any }

func (b jsonBody) Value() (driver.Value, error) { return rows.Encode(b.value) }

// millisColumn scans a time from a column of Unix milliseconds.
type millisColumn struct{ to *time.Time }

func (s millisColumn) Scan(column any) error {
	millis, ok := column.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T, not as milliseconds", column)
	}
	*s.to = rows.FromMillis(millis)
	return nil
}

// queryRows returns a query's rows, each scanned into the fields of a T that dest returns.
func queryRows[T any](r Reader, dest func(*T) []any, query string, args ...any) (all []T, err error) {
	var v T
	err = r.Each(query, args, dest(&v), func() error {
		all = append(all, v)
		return nil
	})
	return all, err
}

func queryColumn[T any](r Reader, query string, args ...any) ([]T, error) {
	return queryRows(r, func(v *T) []any { return []any{v} }, query, args...)
}

// queryJSON decodes the only column of a query.
func queryJSON[T any](r Reader, query string, args ...any) ([]T, error) {
	bodies, err := queryColumn[string](r, query, args...)
	if err != nil || len(bodies) == 0 {
		return nil, err
	}
	all := make([]T, len(bodies))
	return all, rows.DecodeAll(bodies, all)
}

// queryMap returns a query's two columns as a map.
func queryMap[T any](r Reader, query string, args ...any) (map[string]T, error) {
	all := map[string]T{}
	var key string
	var v T
	err := r.Each(query, args, []any{&key, &v}, func() error {
		all[key] = v
		return nil
	})
	return all, err
}

func rowExists(r Reader, query string, args ...any) (bool, error) {
	found, err := queryColumn[int64](r, query, args...)
	return len(found) > 0, err
}

// readTx runs from in a transaction of its own.
func readTx[T any](ctx context.Context, db Database, op string, from func(Reader) (T, error)) (T, error) {
	var v T
	err := db.Read(ctx, op, func(r Reader) (err error) {
		v, err = from(r)
		return err
	})
	return v, err
}

// readJSON runs queryJSON in a transaction of its own.
func readJSON[T any](ctx context.Context, db Database, op, query string, args ...any) ([]T, error) {
	return readTx(ctx, db, op, func(r Reader) ([]T, error) { return queryJSON[T](r, query, args...) })
}
