package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// AddToken keeps an operator's token. Its name and hash must be new, else access.ErrTaken.
func (s *Store) AddToken(ctx context.Context, t access.Token) error {
	return s.tx(ctx, "keep the token of "+t.Name, func(tx *sql.Tx) error {
		added, err := affected(tx.Exec(`INSERT INTO operators (name, role, hash, created, expires) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			t.Name, string(t.Role), t.Hash, rows.Millis(t.Created), rows.Millis(t.Expires)))
		if err == nil && added == 0 {
			return access.ErrTaken
		}
		return err
	})
}

// RemoveToken forgets an operator's token, by name; access.ErrUnknown: there is none.
func (s *Store) RemoveToken(ctx context.Context, name string) error {
	return s.tx(ctx, "remove the token of "+name, func(tx *sql.Tx) error {
		removed, err := affected(tx.Exec(`DELETE FROM operators WHERE name = ?`, name))
		if err == nil && removed == 0 {
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
	found, err := s.tokens(ctx, `SELECT name, role, hash, created, expires FROM operators WHERE hash = ?`, hash)
	if err != nil {
		return access.Token{}, err
	}
	if len(found) == 0 {
		return access.Token{}, access.ErrUnknown
	}
	return found[0], nil
}

func (s *Store) tokens(ctx context.Context, query string, args ...any) ([]access.Token, error) {
	found, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap("read operators' tokens", err)
	}
	defer found.Close()
	var all []access.Token
	for found.Next() {
		var t access.Token
		var created, expires int64
		if err := found.Scan(&t.Name, &t.Role, &t.Hash, &created, &expires); err != nil {
			return nil, wrap("read operators' tokens", err)
		}
		t.Created, t.Expires = rows.Time(created), rows.Time(expires)
		all = append(all, t)
	}
	return all, wrap("read operators' tokens", found.Err())
}

// Audit keeps a line of who did what; the oldest go when there are more than access.MaxEntries.
func (s *Store) Audit(ctx context.Context, e access.Entry) error {
	return s.tx(ctx, "keep a line of the audit", func(tx *sql.Tx) error {
		body, err := rows.Encode(e)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO audit (body) VALUES (?)`, body); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?`, access.MaxEntries)
		return err
	})
}

// Audits gives the audit's newest lines, newest first; at most limit.
func (s *Store) Audits(ctx context.Context, limit int) ([]access.Entry, error) {
	all, err := list[access.Entry](ctx, s.read, `SELECT body FROM audit ORDER BY id DESC LIMIT ?`, limit)
	return all, wrap("read the audit", err)
}
