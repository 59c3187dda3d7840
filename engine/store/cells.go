package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/store/rows"
)

// cellUpserter writes cells' rows one at a time by a prepared statement, which ends with the connection. A statement
// for many rows would not be faster, since SQLite would keep a journal for undoing that statement alone.
type cellUpserter struct{ *sql.Stmt }

// prepare must be called outside of a transaction, since the statement outlives it.
func (u *cellUpserter) prepare(db *sql.DB) (err error) {
	if u.Stmt != nil {
		return nil
	}
	u.Stmt, err = db.PrepareContext(context.Background(),
		`INSERT INTO cells (name, channel, release, state, last_report, body, version) VALUES (?,?,?,?,?,?,?)
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
