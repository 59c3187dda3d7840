package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Fact gives a single value that was kept under a name; empty: none was.
func (s *Store) Fact(ctx context.Context, name string) (string, error) {
	found, err := column[string](ctx, s.read, `SELECT body FROM facts WHERE name = ?`, name)
	if err != nil || len(found) == 0 {
		return "", wrap("read "+name, err)
	}
	return found[0], nil
}

// KeepFact keeps a value under a name if before is what is kept there now (empty: nothing); else engine.ErrStale.
func (s *Store) KeepFact(ctx context.Context, name, before, value string) error {
	return s.tx(ctx, "keep "+name, func(tx *sql.Tx) error {
		query, args := `UPDATE facts SET body = ?1 WHERE name = ?2 AND body = ?3`, []any{value, name, before}
		if before == "" {
			query, args = `INSERT INTO facts (name, body) VALUES (?2, ?1) ON CONFLICT DO NOTHING`, args[:2]
		}
		kept, err := affected(tx.Exec(query, args...))
		if err == nil && kept == 0 {
			return plan.ErrStale
		}
		return err
	})
}
