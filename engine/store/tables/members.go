package tables

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// joinRetention is how long an expired token is kept, since its user may ask for a lost answer (R28).
const joinRetention = 24 * time.Hour

// Members stores who may speak as which cell until git has it. Any process may write it.
type Members struct{ db Database }

// AddJoin stores a cell's token, and deletes tokens that expired a while ago.
func (m Members) AddJoin(ctx context.Context, j access.Join) error {
	return m.db.Write(ctx, "store a token for "+j.Cell, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		tx.Queue(`DELETE FROM joins WHERE expires < $1`, rows.Millis(now.Add(-joinRetention)))
		added, err := tx.Exec(`INSERT INTO joins (hash, cell, serial, made_by, created, expires)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			j.Hash, j.Cell, j.Serial, j.By, rows.Millis(j.Created), rows.Millis(j.Expires))
		if err == nil && added == 0 && !tx.MaybeCommitted() {
			return access.ErrTaken
		}
		return err
	})
}

// Joins returns a cell's tokens that can still be used, oldest first.
func (m Members) Joins(ctx context.Context, cell string) ([]access.Join, error) {
	return readTx(ctx, m.db, "read the tokens of "+cell, func(r Reader) ([]access.Join, error) {
		now, err := r.Now()
		if err != nil {
			return nil, err
		}
		return queryRows(r, func(j *access.Join) []any {
			return []any{&j.Hash, &j.Cell, &j.Serial, &j.By, millisColumn{&j.Created}, millisColumn{&j.Expires}}
		}, `SELECT hash, cell, serial, made_by, created, expires FROM joins
			WHERE cell = $1 AND used_by IS NULL AND expires > $2 ORDER BY created, hash`,
			cell, rows.Millis(now))
	})
}

// HasToken reports whether a token with this hash was made for a cell, and has not expired.
func (m Members) HasToken(ctx context.Context, cell, hash string) (bool, error) {
	return readTx(ctx, m.db, "look up a token of "+cell, func(r Reader) (bool, error) {
		now, err := r.Now()
		if err != nil {
			return false, err
		}
		return rowExists(r, `SELECT 1 FROM joins WHERE hash = $1 AND cell = $2 AND expires > $3`, hash, cell,
			rows.Millis(now))
	})
}

// ClaimToken uses up a token by one conditional update, and records r. The token is valid for one key, which may repeat
// the claim while it is the cell's newest (R28); for the serial after the token's (R26); until it expires. Else the
// error is plan.ErrDenied.
func (m Members) ClaimToken(ctx context.Context, hash string, r plan.Registration) error {
	return m.db.Write(ctx, "claim a token for "+r.Cell, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		used, err := tx.Exec(`UPDATE joins SET used_by = $1
			WHERE hash = $2 AND cell = $3 AND used_by IS NULL AND expires > $4 AND serial + 1 = $5 AND $1 <> ''`,
			r.Identity.PublicKey, hash, r.Cell, rows.Millis(now), r.Identity.Serial)
		if err != nil {
			return err
		}
		if used == 0 {
			return checkRepeatedClaim(tx, hash, r)
		}
		newest, err := upsertRegistration(tx, r)
		if err == nil && !newest {
			return plan.ErrDenied
		}
		return err
	})
}

// checkRepeatedClaim accepts a claim by the key that used the token before, while that key is the cell's.
func checkRepeatedClaim(tx Tx, hash string, r plan.Registration) error {
	newest, err := queryJSON[plan.Registration](tx, `SELECT r.body FROM registrations r JOIN joins j ON j.cell = r.cell
		WHERE j.hash = $1 AND j.cell = $2 AND j.used_by = $3`, hash, r.Cell, r.Identity.PublicKey)
	if err != nil {
		return err
	}
	if len(newest) == 0 || !isRepeatedKey(newest[0].Identity, r.Identity) {
		return plan.ErrDenied
	}
	return nil
}

// isRepeatedKey reports whether the claimed key is already the cell's newest, and valid.
func isRepeatedKey(newest, asked cells.Identity) bool {
	return asked.PublicKey != "" && newest.PublicKey == asked.PublicKey && !newest.Revoked && newest.Quarantined == ""
}

// Register records r as the cell's newest if its serial is above every recorded one; else plan.ErrStale.
func (m Members) Register(ctx context.Context, r plan.Registration) error {
	return m.db.Write(ctx, "register "+r.Cell, func(tx Tx) error {
		newest, err := upsertRegistration(tx, r)
		if err != nil || newest {
			return err
		}
		if tx.MaybeCommitted() { // an earlier attempt may have recorded r
			if same, err := rowExists(tx, `SELECT 1 FROM registrations WHERE cell = $1 AND body = $2`, r.Cell,
				jsonBody{r}); err != nil || same {
				return err
			}
		}
		return fmt.Errorf("serial %d: %w", r.Identity.Serial, plan.ErrStale)
	})
}

func upsertRegistration(tx Tx, r plan.Registration) (newest bool, err error) {
	written, err := tx.Exec(`INSERT INTO registrations (cell, serial, body) VALUES ($1, $2, $3)
		ON CONFLICT (cell) DO UPDATE SET serial = excluded.serial, body = excluded.body
		WHERE excluded.serial > registrations.serial`,
		r.Cell, r.Identity.Serial, jsonBody{r})
	if err != nil || written == 0 {
		return false, err
	}
	tx.Notify(engine.StoreUpdate{Known: true})
	return true, nil
}
