package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// AddJoin keeps a cell's token, and forgets those that ran out a while ago.
func (s *Store) AddJoin(ctx context.Context, j access.Join) error {
	return s.write(ctx, "keep a token for "+j.Cell, func(ctx context.Context, tx pgx.Tx, unsure bool) error {
		now, err := s.at(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM joins WHERE expires < $1`, rows.Millis(now.Add(-rows.KeepJoin))); err != nil {
			return err
		}
		added, err := tx.Exec(ctx, `INSERT INTO joins (hash, cell, serial, made_by, created, expires) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			j.Hash, j.Cell, j.Serial, j.By, rows.Millis(j.Created), rows.Millis(j.Expires))
		if err == nil && added.RowsAffected() == 0 && !unsure {
			return access.ErrTaken
		}
		return err
	})
}

// Joins gives a cell's tokens that can still be used, oldest first.
func (s *Store) Joins(ctx context.Context, cell string) (all []access.Join, err error) {
	err = s.read(ctx, "read the tokens of "+cell, func(ctx context.Context, tx pgx.Tx) error {
		now, err := s.at(ctx, tx)
		if err != nil {
			return err
		}
		found, err := tx.Query(ctx, `SELECT hash, cell, serial, made_by, created, expires FROM joins
			WHERE cell = $1 AND used_by IS NULL AND expires > $2 ORDER BY created, hash`, cell, rows.Millis(now))
		if err != nil {
			return err
		}
		all = nil
		var j access.Join
		var created, expires int64
		_, err = pgx.ForEachRow(found, []any{&j.Hash, &j.Cell, &j.Serial, &j.By, &created, &expires}, func() error {
			j.Created, j.Expires = rows.Time(created), rows.Time(expires)
			all = append(all, j)
			return nil
		})
		return err
	})
	return all, err
}

// Claim uses up a token by one conditional update, and records r. It is good for one key, which may repeat it while it
// is the cell's newest (R28); for the serial that follows the token's (R26); until it runs out. Else engine.ErrDenied.
func (s *Store) Claim(ctx context.Context, hash string, r plan.Registration) error {
	return s.write(ctx, "claim a token for "+r.Cell, func(ctx context.Context, tx pgx.Tx, _ bool) error {
		now, err := s.at(ctx, tx)
		if err != nil {
			return err
		}
		used, err := tx.Exec(ctx, `UPDATE joins SET used_by = $1 WHERE hash = $2 AND cell = $3 AND used_by IS NULL AND expires > $4 AND serial + 1 = $5 AND $1 <> ''`,
			r.Identity.PublicKey, hash, r.Cell, rows.Millis(now), r.Identity.Serial)
		if err != nil {
			return err
		}
		if used.RowsAffected() == 0 {
			return repeated(ctx, tx, hash, r)
		}
		newest, err := s.register(ctx, tx, r)
		if err == nil && !newest {
			return plan.ErrDenied
		}
		return err
	})
}

// repeated tells whether r's key used the token before, and is the cell's still.
func repeated(ctx context.Context, tx pgx.Tx, hash string, r plan.Registration) error {
	newest, err := list[plan.Registration](ctx, tx, `SELECT r.body FROM registrations r JOIN joins j ON j.cell = r.cell
		WHERE j.hash = $1 AND j.cell = $2 AND j.used_by = $3`, hash, r.Cell, r.Identity.PublicKey)
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
	return s.write(ctx, "register "+r.Cell, func(ctx context.Context, tx pgx.Tx, unsure bool) error {
		newest, err := s.register(ctx, tx, r)
		if err != nil || newest {
			return err
		}
		if unsure { // it may be this very one that is recorded
			if same, err := recorded(ctx, tx, r); err != nil || same {
				return err
			}
		}
		return fmt.Errorf("serial %d: %w", r.Identity.Serial, plan.ErrStale)
	})
}

func (s *Store) register(ctx context.Context, tx pgx.Tx, r plan.Registration) (newest bool, err error) {
	body, err := rows.Encode(r)
	if err != nil {
		return false, err
	}
	done, err := tx.Exec(ctx, `INSERT INTO registrations (cell, serial, body) VALUES ($1, $2, $3)
		ON CONFLICT (cell) DO UPDATE SET serial = excluded.serial, body = excluded.body WHERE excluded.serial > registrations.serial`,
		r.Cell, r.Identity.Serial, body)
	if err != nil || done.RowsAffected() == 0 {
		return false, err
	}
	return true, s.tell(ctx, tx, note{Known: true})
}

func recorded(ctx context.Context, tx pgx.Tx, r plan.Registration) (same bool, err error) {
	body, err := rows.Encode(r)
	if err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM registrations WHERE cell = $1 AND body = $2)`, r.Cell, body).Scan(&same)
	return same, err
}
