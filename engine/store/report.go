package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

const (
	perInsert = 32  // rows a statement
	compactBy = 100 // a cell's events are cut back after so many new ones
)

// Report keeps cells' states and events, all or none of the batch, durable when it returns. Each state's version must be
// one above the kept one's, else it is plan.ErrStale. If ctx ends first, whether they were kept is not known.
func (s *Store) Report(ctx context.Context, batch []plan.Reported) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := rows.Reported(batch)
	if err != nil || r.Empty() {
		return err
	}
	return s.queue.Keep(ctx, r)
}

// writer gives what the queue calls to write a batch.
func (s *Store) writer() func([]*rows.Report) (map[*rows.Report]error, error) {
	fresh := map[string]int{} // events by cell since they were last cut back
	known := versions{kept: map[string]int64{}}
	cells := upsert{}
	return func(batch []*rows.Report) (map[*rows.Report]error, error) {
		var a rows.Admitted
		if err := cells.prepare(s.write); err != nil {
			err = wrap("keep reports", err)
			s.failed.Store(&err)
			return nil, err
		}
		err := s.commit(context.Background(), "keep reports", func(tx *sql.Tx) error {
			if err := known.read(tx, batch); err != nil {
				return err
			}
			a = rows.Admit(batch, known.kept)
			if err := cells.write(tx, a.Cells); err != nil {
				return err
			}
			return s.keep(tx, a, fresh)
		})
		if err != nil {
			clear(known.kept) // it says what was to be
			return nil, err
		}
		s.served.Wrote(a.Served)
		return a.Refused, nil
	}
}

// versions are those of cells' rows as this process read or wrote them last, so that an ordinary report reads nothing.
type versions struct {
	data int64            // data_version: another when another process wrote since
	kept map[string]int64 // by cell; 0: it has no row
}

// read makes sure that kept has what tx sees of a batch's cells.
func (v *versions) read(tx *sql.Tx, batch []*rows.Report) error {
	var data int64
	if err := tx.QueryRow(dataVersion).Scan(&data); err != nil {
		return err
	}
	if data != v.data {
		clear(v.kept)
		v.data = data
	}
	var missing []string
	for _, r := range batch {
		for _, c := range r.Cells {
			if _, have := v.kept[c.Name]; !have {
				missing = append(missing, c.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, name := range missing {
		v.kept[name] = 0
	}
	var name string
	var version int64
	t := transaction{ctx: context.Background(), tx: tx}
	return t.Each(`SELECT name, version FROM cells WHERE name = ANY($1)`, []any{missing}, []any{&name, &version}, func() error {
		v.kept[name] = version
		return nil
	})
}

// keep writes what was admitted beside the cells.
func (s *Store) keep(tx *sql.Tx, a rows.Admitted, fresh map[string]int) error {
	events := make([][]any, len(a.Events))
	for i, e := range a.Events {
		events[i] = []any{e.Cell, e.Boot, e.Number, e.Body}
	}
	if err := insert(tx, `INSERT INTO events (cell, boot, number, body)`, events, `ON CONFLICT (cell, boot, number) DO NOTHING`); err != nil {
		return err
	}
	if err := s.compact(tx, a.Events, fresh); err != nil {
		return err
	}
	t := &transaction{ctx: context.Background(), tx: tx}
	tables.RaiseServed(t, s.served.News(a.Served))
	return t.failed
}

// compact cuts the history of cells that wrote much since the last time, or for the first time since the start.
func (s *Store) compact(tx *sql.Tx, events []rows.Event, fresh map[string]int) error {
	for _, e := range events {
		n, known := fresh[e.Cell]
		fresh[e.Cell] = n + 1
		if known && n+1 < compactBy {
			continue
		}
		fresh[e.Cell] = 0
		_, err := tx.Exec(`DELETE FROM events WHERE cell = ?1 AND id <= (SELECT id FROM events WHERE cell = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`, e.Cell, s.history)
		if err != nil {
			return err
		}
	}
	return nil
}

// insert writes rows with few statements, perInsert rows each while there are so many.
func insert(tx *sql.Tx, into string, all [][]any, onConflict string) error {
	spelled := func(n int) string { return into + ` VALUES ` + tuples(n, len(all[0])) + ` ` + onConflict }
	var many *sql.Stmt
	for len(all) > 0 {
		n := min(len(all), perInsert)
		args := make([]any, 0, n*len(all[0]))
		for _, r := range all[:n] {
			args = append(args, r...)
		}
		var err error
		switch {
		case n < perInsert:
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

func tuples(rows, columns int) string {
	tuple := "(?" + strings.Repeat(",?", columns-1) + ")"
	return tuple + strings.Repeat(","+tuple, rows-1)
}
