package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

// queryer is what *sql.DB and *sql.Tx have in common here.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// column gives the one column of a query.
func column[T any](ctx context.Context, q queryer, query string, args ...any) ([]T, error) {
	found, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var all []T
	for found.Next() {
		var v T
		if err := found.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, found.Err()
}

// pairs gives a query's two columns as a map.
func pairs[T any](ctx context.Context, q queryer, query string, args ...any) (map[string]T, error) {
	found, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	all := map[string]T{}
	for found.Next() {
		var key string
		var v T
		if err := found.Scan(&key, &v); err != nil {
			return nil, err
		}
		all[key] = v
	}
	return all, found.Err()
}

// list decodes the one column of a query.
func list[T any](ctx context.Context, q queryer, query string, args ...any) ([]T, error) {
	bodies, err := column[string](ctx, q, query, args...)
	if err != nil || len(bodies) == 0 {
		return nil, err
	}
	all := make([]T, len(bodies))
	return all, rows.DecodeAll(bodies, all)
}
