package tables

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

// body is a parameter that is kept as JSON.
type body struct{ of any }

// Value encodes it.
func (b body) Value() (driver.Value, error) { return rows.Encode(b.of) }

// stamp reads a time from a column of Unix milliseconds.
type stamp struct{ to *time.Time }

// Scan takes the column.
func (s stamp) Scan(column any) error {
	millis, ok := column.(int64)
	if !ok {
		return fmt.Errorf("a time is kept as %T, not as milliseconds", column)
	}
	*s.to = rows.Time(millis)
	return nil
}

// collect gives a query's rows, each as dest has them scanned into a T.
func collect[T any](r Reader, dest func(*T) []any, query string, args ...any) (all []T, err error) {
	var v T
	err = r.Each(query, args, dest(&v), func() error {
		all = append(all, v)
		return nil
	})
	return all, err
}

// column gives the one column of a query.
func column[T any](r Reader, query string, args ...any) ([]T, error) {
	return collect(r, func(v *T) []any { return []any{v} }, query, args...)
}

// list decodes the one column of a query.
func list[T any](r Reader, query string, args ...any) ([]T, error) {
	bodies, err := column[string](r, query, args...)
	if err != nil || len(bodies) == 0 {
		return nil, err
	}
	all := make([]T, len(bodies))
	return all, rows.DecodeAll(bodies, all)
}

// pairs gives a query's two columns as a map.
func pairs[T any](r Reader, query string, args ...any) (map[string]T, error) {
	all := map[string]T{}
	var key string
	var v T
	err := r.Each(query, args, []any{&key, &v}, func() error {
		all[key] = v
		return nil
	})
	return all, err
}

// exists reports whether a query has a row.
func exists(r Reader, query string, args ...any) (bool, error) {
	found, err := column[int64](r, query, args...)
	return len(found) > 0, err
}

// read reads in a transaction of its own.
func read[T any](ctx context.Context, db Database, op string, from func(Reader) (T, error)) (T, error) {
	var v T
	err := db.Read(ctx, op, func(r Reader) (err error) {
		v, err = from(r)
		return err
	})
	return v, err
}

// readList is read of list.
func readList[T any](ctx context.Context, db Database, op, query string, args ...any) ([]T, error) {
	return read(ctx, db, op, func(r Reader) ([]T, error) { return list[T](r, query, args...) })
}
