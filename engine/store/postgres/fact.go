package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Fact gives a single value that was kept under a name; empty: none was.
func (s *Store) Fact(ctx context.Context, name string) (value string, err error) {
	err = s.read(ctx, "read "+name, func(ctx context.Context, tx pgx.Tx) error {
		found, err := column[string](ctx, tx, `SELECT body FROM facts WHERE name = $1`, name)
		if err == nil && len(found) > 0 {
			value = found[0]
		}
		return err
	})
	return value, err
}

// KeepFact keeps a value under a name if before is what is kept there now (empty: nothing); else engine.ErrStale.
func (s *Store) KeepFact(ctx context.Context, name, before, value string) error {
	return s.write(ctx, "keep "+name, func(ctx context.Context, tx pgx.Tx, unsure bool) error {
		statement, args := `UPDATE facts SET body = $2 WHERE name = $1 AND body = $3`, []any{name, value, before}
		if before == "" {
			statement, args = `INSERT INTO facts (name, body) VALUES ($1, $2) ON CONFLICT DO NOTHING`, args[:2]
		}
		kept, err := tx.Exec(ctx, statement, args...)
		if err != nil || kept.RowsAffected() > 0 {
			return err
		}
		var same bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM facts WHERE name = $1 AND body = $2)`, name, value).Scan(&same)
		if err != nil || unsure && same {
			return err
		}
		return plan.ErrStale
	})
}
