package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	rowsPerInsert = 32  // rows in one statement
	trimEvery     = 100 // a cell's events are trimmed after so many new ones
)

// RecordReports stores cells' states and events, all or none of the batch, durably. Each state's version must be one
// above the stored one's, else the error is plan.ErrStale. If ctx ends first, the batch may have been stored.
func (s *Store) RecordReports(ctx context.Context, batch []plan.Reported) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := rows.EncodeReports(batch)
	if err != nil || r.Empty() {
		return err
	}
	return s.queue.Submit(ctx, r)
}

// newBatchWriter returns the function by which the queue writes a batch.
func (s *Store) newBatchWriter() func([]*rows.Report) (map[*rows.Report]error, error) {
	newEvents := map[string]int{} // number of events by cell since the last trim
	known := versionCache{byCell: map[string]int64{}}
	cells := cellUpserter{}
	return func(batch []*rows.Report) (map[*rows.Report]error, error) {
		var a rows.Admitted
		if err := cells.prepare(s.writeDB); err != nil {
			err = wrapError("store reports", err)
			s.writeErr.Store(&err)
			return nil, err
		}
		err := s.commitTx(context.Background(), "store reports", func(tx *sql.Tx) error {
			if err := known.refresh(tx, batch); err != nil {
				return err
			}
			a = rows.Admit(batch, known.byCell)
			if err := cells.write(tx, a.Cells); err != nil {
				return err
			}
			return s.writeAdmitted(tx, a, newEvents)
		})
		if err != nil {
			clear(known.byCell) // it has versions that were not written
			return nil, err
		}
		return a.Refused, nil
	}
}

// versionCache holds the versions of cells' rows as last read or written, so that an ordinary report reads nothing.
type versionCache struct {
	dataVersion int64            // changes when another process writes
	byCell      map[string]int64 // by cell; 0: the cell has no row
}

// refresh makes byCell agree with what tx sees of a batch's cells.
func (v *versionCache) refresh(tx *sql.Tx, batch []*rows.Report) error {
	var data int64
	if err := tx.QueryRow(dataVersionQuery).Scan(&data); err != nil {
		return err
	}
	if data != v.dataVersion {
		clear(v.byCell)
		v.dataVersion = data
	}
	var missing []string
	for _, r := range batch {
		for _, c := range r.Cells {
			if _, have := v.byCell[c.Name]; !have {
				missing = append(missing, c.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, name := range missing {
		v.byCell[name] = 0
	}
	var name string
	var version int64
	t := transaction{ctx: context.Background(), tx: tx}
	return t.Each(`SELECT name, version FROM cells WHERE name = ANY($1)`, []any{missing}, []any{&name, &version},
		func() error {
			v.byCell[name] = version
			return nil
		})
}

// writeAdmitted writes what was admitted, except the cells' rows.
func (s *Store) writeAdmitted(tx *sql.Tx, a rows.Admitted, fresh map[string]int) error {
	events := make([][]any, len(a.Events))
	for i, e := range a.Events {
		events[i] = []any{e.Cell, e.Boot, e.Number, e.Body}
	}
	if err := insertRows(tx, `INSERT INTO events (cell, boot, number, body)`, events,
		`ON CONFLICT (cell, boot, number) DO NOTHING`); err != nil {
		return err
	}
	return s.trimEvents(tx, a.Events, fresh)
}

// trimEvents trims the events of cells that have many new ones, or the first ones since the start.
func (s *Store) trimEvents(tx *sql.Tx, events []rows.Event, fresh map[string]int) error {
	for _, e := range events {
		n, known := fresh[e.Cell]
		fresh[e.Cell] = n + 1
		if known && n+1 < trimEvery {
			continue
		}
		fresh[e.Cell] = 0
		_, err := tx.Exec(`DELETE FROM events WHERE cell = ?1 AND id <= (SELECT id FROM events
			WHERE cell = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`, e.Cell, s.history)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertRows inserts rows by few statements of rowsPerInsert rows each, and one for the rest.
func insertRows(tx *sql.Tx, into string, all [][]any, onConflict string) error {
	spelled := func(n int) string { return into + ` VALUES ` + valueTuples(n, len(all[0])) + ` ` + onConflict }
	var many *sql.Stmt
	for len(all) > 0 {
		n := min(len(all), rowsPerInsert)
		args := make([]any, 0, n*len(all[0]))
		for _, r := range all[:n] {
			args = append(args, r...)
		}
		var err error
		switch {
		case n < rowsPerInsert:
			_, err = tx.Exec(spelled(n), args...)
		default:
			if many == nil {
				if many, err = tx.Prepare(spelled(n)); err != nil {
					return err
				}
				defer many.Close()
			}
			_, err = many.Exec(args...)
		}
		if err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func valueTuples(rows, columns int) string {
	tuple := "(?" + strings.Repeat(",?", columns-1) + ")"
	return tuple + strings.Repeat(","+tuple, rows-1)
}
