package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Grant makes offers in one transaction, those for which there is a slot, and gives those that were made. A cell's
// offer is replaced by one of the same or a newer (epoch, sequence) only: the same with other values is an offer too (R13).
func (s *Store) Grant(ctx context.Context, offers []plan.Offer) ([]plan.Granted, error) {
	var m rows.Made
	err := s.ledger(ctx, "keep grants", func(tx *sql.Tx) error {
		newest, err := places(tx, offers)
		if err != nil {
			return err
		}
		slots, err := slotsOf(context.Background(), tx)
		if err != nil {
			return err
		}
		if m, err = rows.Make(offers, newest, slots); err != nil {
			return err
		}
		return s.grant(tx, m)
	})
	if err != nil {
		return nil, err
	}
	s.served.Wrote(m.Served)
	return m.Granted, nil
}

func (s *Store) grant(tx *sql.Tx, m rows.Made) error {
	grants := make([][]any, len(m.Grants))
	for i, g := range m.Grants {
		grants[i] = []any{g.Cell, g.Epoch, g.Sequence, g.Assignment, g.At.Format(time.RFC3339Nano)}
	}
	err := insert(tx, `INSERT INTO grants (cell, epoch, sequence, assignment, granted_at) VALUES `, grants,
		` ON CONFLICT (cell) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, assignment = excluded.assignment, granted_at = excluded.granted_at`)
	if err != nil {
		return err
	}
	taken := make([][]any, len(m.Slots))
	for i, t := range m.Slots {
		taken[i] = []any{t.Channel, t.Cell, rows.Millis(t.At)}
	}
	if err := insert(tx, `INSERT INTO slots (channel, cell, taken_at) VALUES `, taken, ``); err != nil {
		return err
	}
	return s.raiseServed(tx, m.Served)
}

// places gives where the newest grants of the offers' cells stand.
func places(tx *sql.Tx, offers []plan.Offer) (map[string]rows.Place, error) {
	names := make([]string, len(offers))
	for i, o := range offers {
		names[i] = o.Cell
	}
	list, err := rows.Encode(names)
	if err != nil {
		return nil, err
	}
	found, err := tx.Query(`SELECT cell, epoch, sequence FROM grants WHERE cell IN (SELECT value FROM json_each(?))`, list)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	newest := make(map[string]rows.Place, len(offers))
	for found.Next() {
		var cell string
		var p rows.Place
		if err := found.Scan(&cell, &p.Epoch, &p.Sequence); err != nil {
			return nil, err
		}
		newest[cell] = p
	}
	return newest, found.Err()
}

// slotsOf reads all slots in use: never many more than the caps of all channels.
func slotsOf(ctx context.Context, q queryer) (rows.Slots, error) {
	found, err := q.QueryContext(ctx, `SELECT channel, cell FROM slots`)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	slots := rows.Slots{}
	for found.Next() {
		var channel, cell string
		if err := found.Scan(&channel, &cell); err != nil {
			return nil, err
		}
		slots.Add(channel, cell)
	}
	return slots, found.Err()
}

// Free ends the slots of cells: what they were for succeeded, failed, stalled or lapsed (R14).
func (s *Store) Free(ctx context.Context, channel string, cells []string) error {
	return s.ledger(ctx, fmt.Sprintf("free the slots of %d cells of %s", len(cells), channel), func(tx *sql.Tx) error {
		list, err := rows.Encode(cells)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM slots WHERE channel = ? AND cell IN (SELECT value FROM json_each(?))`, channel, list)
		return err
	})
}
