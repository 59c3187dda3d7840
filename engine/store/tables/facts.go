package tables

import (
	"context"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Facts stores single values by name. Any process may write it.
type Facts struct{ db Database }

// Fact returns the value with a name; empty: none.
func (f Facts) Fact(ctx context.Context, name string) (string, error) {
	return readTx(ctx, f.db, "read "+name, func(r Reader) (string, error) {
		found, err := queryColumn[string](r, `SELECT body FROM facts WHERE name = $1`, name)
		if err != nil || len(found) == 0 {
			return "", err
		}
		return found[0], nil
	})
}

// SetFact stores a value under a name if the stored value is before (empty: none); else plan.ErrStale.
func (f Facts) SetFact(ctx context.Context, name, before, value string) error {
	return f.db.Write(ctx, "store "+name, func(tx Tx) error {
		statement, args := `UPDATE facts SET body = $2 WHERE name = $1 AND body = $3`, []any{name, value, before}
		if before == "" {
			statement, args = `INSERT INTO facts (name, body) VALUES ($1, $2) ON CONFLICT DO NOTHING`, args[:2]
		}
		written, err := tx.Exec(statement, args...)
		if err != nil || written > 0 {
			return err
		}
		if tx.MaybeCommitted() {
			if same, err := rowExists(tx, `SELECT 1 FROM facts WHERE name = $1 AND body = $2`, name,
				value); err != nil || same {
				return err
			}
		}
		return plan.ErrStale
	})
}

// queueFact stores a value as JSON in place of any other.
func queueFact(tx Tx, name string, value any) {
	tx.Queue(`INSERT INTO facts (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET body = excluded.body`,
		name, jsonBody{value})
}

func readFact[T any](ctx context.Context, db Database, name string) (value T, err error) {
	found, err := readJSON[T](ctx, db, "read "+name, `SELECT body FROM facts WHERE name = $1`, name)
	if err != nil || len(found) == 0 {
		return value, err
	}
	return found[0], nil
}
