package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Grant makes offers in one transaction, those for which there is a slot, and gives those that were made. A cell's
// offer is replaced by one of the same or a newer (epoch, sequence) only: the same with other values is an offer too (R13).
func (s *Store) Grant(ctx context.Context, offers []plan.Offer) ([]plan.Granted, error) {
	var m rows.Made
	err := s.ledger(ctx, "keep grants", func(ctx context.Context, tx pgx.Tx) error {
		newest, err := places(ctx, tx, offers)
		if err != nil {
			return err
		}
		slots, err := slotsOf(ctx, tx)
		if err != nil {
			return err
		}
		if m, err = rows.Make(offers, newest, slots); err != nil || len(m.Granted) == 0 {
			return err
		}
		return s.grant(ctx, tx, m)
	})
	if err != nil {
		return nil, err
	}
	s.served.Wrote(m.Served)
	return m.Granted, nil
}

func (s *Store) grant(ctx context.Context, tx pgx.Tx, m rows.Made) error {
	b := &pgx.Batch{}
	n := len(m.Grants)
	cells, assignments, at := make([]string, n), make([]string, n), make([]string, n)
	epochs, sequences := make([]int64, n), make([]int64, n)
	for i, g := range m.Grants {
		cells[i], epochs[i], sequences[i], assignments[i], at[i] = g.Cell, g.Epoch, g.Sequence, g.Assignment, g.At.Format(time.RFC3339Nano)
	}
	b.Queue(`INSERT INTO grants (cell, epoch, sequence, assignment, granted_at) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
		ON CONFLICT (cell) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, assignment = excluded.assignment, granted_at = excluded.granted_at`,
		cells, epochs, sequences, assignments, at)
	if n := len(m.Slots); n > 0 {
		channels, holders, taken := make([]string, n), make([]string, n), make([]int64, n)
		for i, t := range m.Slots {
			channels[i], holders[i], taken[i] = t.Channel, t.Cell, rows.Millis(t.At)
		}
		b.Queue(`INSERT INTO slots (channel, cell, taken_at) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])`, channels, holders, taken)
	}
	queueServed(b, s.served.News(m.Served))
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	return s.tell(ctx, tx, note{Cells: cells, Material: true, Known: true})
}

// places gives where the newest grants of the offers' cells stand.
func places(ctx context.Context, tx pgx.Tx, offers []plan.Offer) (map[string]rows.Place, error) {
	names := make([]string, len(offers))
	for i, o := range offers {
		names[i] = o.Cell
	}
	found, err := tx.Query(ctx, `SELECT cell, epoch, sequence FROM grants WHERE cell = ANY($1)`, names)
	if err != nil {
		return nil, err
	}
	newest := make(map[string]rows.Place, len(offers))
	var cell string
	var p rows.Place
	_, err = pgx.ForEachRow(found, []any{&cell, &p.Epoch, &p.Sequence}, func() error {
		newest[cell] = p
		return nil
	})
	return newest, err
}

// slotsOf reads all slots in use: never many more than the caps of all channels.
func slotsOf(ctx context.Context, q queryer) (rows.Slots, error) {
	found, err := q.Query(ctx, `SELECT channel, cell FROM slots`)
	if err != nil {
		return nil, err
	}
	slots := rows.Slots{}
	var channel, cell string
	_, err = pgx.ForEachRow(found, []any{&channel, &cell}, func() error {
		slots.Add(channel, cell)
		return nil
	})
	return slots, err
}

// Free ends the slots of cells: what they were for succeeded, failed, stalled or lapsed (R14).
func (s *Store) Free(ctx context.Context, channel string, cells []string) error {
	return s.changed(ctx, fmt.Sprintf("free the slots of %d cells of %s", len(cells), channel), func(b *pgx.Batch) error {
		b.Queue(`DELETE FROM slots WHERE channel = $1 AND cell = ANY($2)`, channel, cells)
		return nil
	})
}
