package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

// cellUpserter writes cells' rows, one at a time, by a statement that is kept: it ends with the connection. Many rows in one
// statement are no quicker, for SQLite then keeps a journal of the statement, to undo it alone.
type cellUpserter struct{ *sql.Stmt }

// prepare is called outside of a transaction: the statement outlives it.
func (u *cellUpserter) prepare(db *sql.DB) (err error) {
	if u.Stmt != nil {
		return nil
	}
	u.Stmt, err = db.PrepareContext(context.Background(), `INSERT INTO cells (name, channel, release, state, last_report, body, version) VALUES (?,?,?,?,?,?,?)
		ON CONFLICT (name) DO UPDATE SET channel = excluded.channel, release = excluded.release, state = excluded.state,
		last_report = excluded.last_report, body = excluded.body, version = excluded.version`)
	return err
}

func (u *cellUpserter) write(tx *sql.Tx, all []rows.Cell) error {
	stmt := tx.Stmt(u.Stmt)
	for _, c := range all {
		if _, err := stmt.Exec(c.Name, c.Channel, c.Release, c.State, c.LastReport, c.Body, c.Version); err != nil {
			return err
		}
	}
	return nil
}
