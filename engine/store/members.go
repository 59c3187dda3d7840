package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// AddJoin keeps a cell's token, and forgets those that ran out a while ago.
func (s *Store) AddJoin(ctx context.Context, j access.Join) error {
	return s.tx(ctx, "keep a token for "+j.Cell, func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM joins WHERE expires < ?`, rows.Millis(s.now().Add(-rows.KeepJoin)))
		if err != nil {
			return err
		}
		added, err := affected(tx.Exec(`INSERT INTO joins (hash, cell, serial, made_by, created, expires) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			j.Hash, j.Cell, j.Serial, j.By, rows.Millis(j.Created), rows.Millis(j.Expires)))
		if err == nil && added == 0 {
			return access.ErrTaken
		}
		return err
	})
}

// Joins gives a cell's tokens that can still be used, oldest first.
func (s *Store) Joins(ctx context.Context, cell string) ([]access.Join, error) {
	found, err := s.read.QueryContext(ctx, `SELECT hash, cell, serial, made_by, created, expires FROM joins
		WHERE cell = ? AND used_by IS NULL AND expires > ? ORDER BY created, hash`, cell, rows.Millis(s.now()))
	if err != nil {
		return nil, wrap("read the tokens of "+cell, err)
	}
	defer found.Close()
	var all []access.Join
	for found.Next() {
		var j access.Join
		var created, expires int64
		if err := found.Scan(&j.Hash, &j.Cell, &j.Serial, &j.By, &created, &expires); err != nil {
			return nil, wrap("read the tokens of "+cell, err)
		}
		j.Created, j.Expires = rows.Time(created), rows.Time(expires)
		all = append(all, j)
	}
	return all, wrap("read the tokens of "+cell, found.Err())
}

// Claim uses up a token by one conditional update, and records r. It is good for one key, which may repeat it while it
// is the cell's newest (R28); for the serial that follows the token's (R26); until it runs out. Else engine.ErrDenied.
func (s *Store) Claim(ctx context.Context, hash string, r plan.Registration) error {
	return s.tx(ctx, "claim a token for "+r.Cell, func(tx *sql.Tx) error {
		used, err := affected(tx.Exec(`UPDATE joins SET used_by = ?1 WHERE hash = ?2 AND cell = ?3 AND used_by IS NULL AND expires > ?4 AND serial + 1 = ?5 AND ?1 <> ''`,
			r.Identity.PublicKey, hash, r.Cell, rows.Millis(s.now()), r.Identity.Serial))
		if err != nil {
			return err
		}
		if used == 0 {
			return repeated(tx, hash, r)
		}
		newest, err := register(tx, r)
		if err == nil && !newest {
			return plan.ErrDenied
		}
		return err
	})
}

// repeated tells whether r's key used the token before, and is the cell's still.
func repeated(tx *sql.Tx, hash string, r plan.Registration) error {
	newest, err := list[plan.Registration](context.Background(), tx, `SELECT r.body FROM registrations r JOIN joins j ON j.cell = r.cell
		WHERE j.hash = ? AND j.cell = ? AND j.used_by = ?`, hash, r.Cell, r.Identity.PublicKey)
	if err != nil {
		return err
	}
	if len(newest) == 0 || !rows.Repeats(newest[0], r) {
		return plan.ErrDenied
	}
	return nil
}

// Register records r as the cell's newest if its serial is above every one recorded; else engine.ErrStale.
func (s *Store) Register(ctx context.Context, r plan.Registration) error {
	return s.tx(ctx, "register "+r.Cell, func(tx *sql.Tx) error {
		newest, err := register(tx, r)
		if err == nil && !newest {
			return fmt.Errorf("serial %d: %w", r.Identity.Serial, plan.ErrStale)
		}
		return err
	})
}

func register(tx *sql.Tx, r plan.Registration) (newest bool, err error) {
	body, err := rows.Encode(r)
	if err != nil {
		return false, err
	}
	n, err := affected(tx.Exec(`INSERT INTO registrations (cell, serial, body) VALUES (?, ?, ?)
		ON CONFLICT (cell) DO UPDATE SET serial = excluded.serial, body = excluded.body WHERE excluded.serial > registrations.serial`,
		r.Cell, r.Identity.Serial, body))
	return n > 0, err
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
