package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// AddToken keeps an operator's token. Its name and hash must be new, else access.ErrTaken.
func (s *Store) AddToken(ctx context.Context, t access.Token) error {
	return s.write(ctx, "keep the token of "+t.Name, func(ctx context.Context, tx pgx.Tx, unsure bool) error {
		added, err := tx.Exec(ctx, `INSERT INTO operators (name, role, hash, created, expires) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			t.Name, string(t.Role), t.Hash, rows.Millis(t.Created), rows.Millis(t.Expires))
		if err != nil || added.RowsAffected() > 0 {
			return err
		}
		var same bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM operators WHERE name = $1 AND hash = $2)`, t.Name, t.Hash).Scan(&same)
		if err != nil || unsure && same {
			return err
		}
		return access.ErrTaken
	})
}

// RemoveToken forgets an operator's token, by name; access.ErrUnknown: there is none.
func (s *Store) RemoveToken(ctx context.Context, name string) error {
	return s.write(ctx, "remove the token of "+name, func(ctx context.Context, tx pgx.Tx, unsure bool) error {
		removed, err := tx.Exec(ctx, `DELETE FROM operators WHERE name = $1`, name)
		if err == nil && removed.RowsAffected() == 0 && !unsure {
			return access.ErrUnknown
		}
		return err
	})
}

// Tokens gives all operators' tokens, by name, those that ran out too.
func (s *Store) Tokens(ctx context.Context) ([]access.Token, error) {
	return s.tokens(ctx, `SELECT name, role, hash, created, expires FROM operators ORDER BY name`)
}

// Token gives the token with a hash, whether it ran out or not; access.ErrUnknown: there is none.
func (s *Store) Token(ctx context.Context, hash string) (access.Token, error) {
	found, err := s.tokens(ctx, `SELECT name, role, hash, created, expires FROM operators WHERE hash = $1`, hash)
	if err != nil {
		return access.Token{}, err
	}
	if len(found) == 0 {
		return access.Token{}, access.ErrUnknown
	}
	return found[0], nil
}

func (s *Store) tokens(ctx context.Context, query string, args ...any) (all []access.Token, err error) {
	err = s.read(ctx, "read operators' tokens", func(ctx context.Context, tx pgx.Tx) error {
		found, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		all = nil
		var t access.Token
		var created, expires int64
		_, err = pgx.ForEachRow(found, []any{&t.Name, &t.Role, &t.Hash, &created, &expires}, func() error {
			t.Created, t.Expires = rows.Time(created), rows.Time(expires)
			all = append(all, t)
			return nil
		})
		return err
	})
	return all, err
}

// Audit keeps a line of who did what; the oldest go when there are more than access.MaxEntries.
func (s *Store) Audit(ctx context.Context, e access.Entry) error {
	body, err := rows.Encode(e)
	if err != nil {
		return err
	}
	return s.write(ctx, "keep a line of the audit", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		b := &pgx.Batch{}
		b.Queue(`INSERT INTO audit (body) VALUES ($1)`, body)
		b.Queue(`DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - $1::bigint`, access.MaxEntries)
		return tx.SendBatch(ctx, b).Close()
	})
}

// Audits gives the audit's newest lines, newest first; at most limit.
func (s *Store) Audits(ctx context.Context, limit int) (all []access.Entry, err error) {
	err = s.read(ctx, "read the audit", func(ctx context.Context, tx pgx.Tx) error {
		all, err = list[access.Entry](ctx, tx, `SELECT body FROM audit ORDER BY id DESC LIMIT $1`, limit)
		return err
	})
	return all, err
}
