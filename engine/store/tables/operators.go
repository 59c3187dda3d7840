package tables

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Operators stores the tokens of people and programs. Any process may write it.
type Operators struct{ db Database }

// AddToken stores an operator's token. Its name and hash must be new, else access.ErrTaken.
func (o Operators) AddToken(ctx context.Context, t access.Token) error {
	return o.db.Write(ctx, "store the token of "+t.Name, func(tx Tx) error {
		added, err := tx.Exec(`INSERT INTO operators (name, role, hash, created, expires) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING`,
			t.Name, t.Roles.String(), t.Hash, rows.Millis(t.Created), rows.Millis(t.Expires))
		if err != nil || added > 0 {
			return err
		}
		if tx.MaybeCommitted() {
			if same, err := rowExists(tx, `SELECT 1 FROM operators WHERE name = $1 AND hash = $2`, t.Name,
				t.Hash); err != nil || same {
				return err
			}
		}
		return access.ErrTaken
	})
}

// RemoveToken deletes an operator's token by name; access.ErrUnknown: there is none.
func (o Operators) RemoveToken(ctx context.Context, name string) error {
	return o.db.Write(ctx, "remove the token of "+name, func(tx Tx) error {
		removed, err := tx.Exec(`DELETE FROM operators WHERE name = $1`, name)
		if err == nil && removed == 0 && !tx.MaybeCommitted() {
			return access.ErrUnknown
		}
		return err
	})
}

// Tokens returns all operators' tokens by name, including expired ones.
func (o Operators) Tokens(ctx context.Context) ([]access.Token, error) {
	return o.queryTokens(ctx, `SELECT name, role, hash, created, expires FROM operators ORDER BY name`)
}

// Token returns the token with a hash, expired or not; access.ErrUnknown: there is none.
func (o Operators) Token(ctx context.Context, hash string) (access.Token, error) {
	found, err := o.queryTokens(ctx, `SELECT name, role, hash, created, expires FROM operators WHERE hash = $1`, hash)
	if err != nil {
		return access.Token{}, err
	}
	if len(found) == 0 {
		return access.Token{}, access.ErrUnknown
	}
	return found[0], nil
}

func (o Operators) queryTokens(ctx context.Context, query string, args ...any) ([]access.Token, error) {
	return readTx(ctx, o.db, "read operators' tokens", func(r Reader) ([]access.Token, error) {
		return queryRows(r, func(t *access.Token) []any {
			return []any{&t.Name, rolesColumn{&t.Roles}, &t.Hash, millisColumn{&t.Created}, millisColumn{&t.Expires}}
		}, query, args...)
	})
}

// rolesColumn scans roles from their names with commas between them. A name that this version does not know permits
// nothing.
type rolesColumn struct{ to *access.Roles }

func (c rolesColumn) Scan(column any) error {
	names, ok := column.(string)
	if !ok {
		return fmt.Errorf("roles are stored as %T, not as text", column)
	}
	*c.to = nil
	for name := range strings.SplitSeq(names, ",") {
		*c.to = append(*c.to, access.Role(name))
	}
	return nil
}
