package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

// queryer is what connections and transactions have in common here.
type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// column gives the one column of a query.
func column[T any](ctx context.Context, q queryer, query string, args ...any) ([]T, error) {
	found, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[T])
}

// pairs gives a query's two columns as a map.
func pairs[T any](ctx context.Context, q queryer, query string, args ...any) (map[string]T, error) {
	found, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	var key string
	var v T
	_, err = pgx.ForEachRow(found, []any{&key, &v}, func() error {
		all[key] = v
		return nil
	})
	return all, err
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
