package tables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// RecordGrants makes offers in one transaction, those for which there is a slot, and gives those that were made. A cell's
// offer is replaced by one of the same or a newer (epoch, sequence) only: the same with other values is an offer too (R13).
func (l Ledger) RecordGrants(ctx context.Context, offers []plan.Offer) ([]plan.Granted, error) {
	var m rows.GrantBatch
	err := l.db.WriteAsLeader(ctx, "keep grants", func(tx Tx) error {
		newest, err := newestGrants(tx, offers)
		if err != nil {
			return err
		}
		slots, err := slotsInUse(tx)
		if err != nil {
			return err
		}
		if m, err = rows.AdmitOffers(offers, newest, slots); err != nil || len(m.Granted) == 0 {
			return err
		}
		l.queueGrants(tx, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.served.MarkWritten(m.Served)
	return m.Granted, nil
}

func (l Ledger) queueGrants(tx Tx, m rows.GrantBatch) {
	grants, cells := make([][]any, len(m.Grants)), make([]string, len(m.Grants))
	for i, g := range m.Grants {
		cells[i], grants[i] = g.Cell, []any{g.Cell, g.Epoch, g.Sequence, g.Assignment, g.At.Format(time.RFC3339Nano)}
	}
	tx.Insert(`INSERT INTO grants (cell, epoch, sequence, assignment, granted_at)`, grants,
		`ON CONFLICT (cell) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, assignment = excluded.assignment, granted_at = excluded.granted_at`)
	taken := make([][]any, len(m.Slots))
	for i, t := range m.Slots {
		taken[i] = []any{t.Channel, t.Cell, rows.Millis(t.At)}
	}
	tx.Insert(`INSERT INTO slots (channel, cell, taken_at)`, taken, ``)
	RaiseServed(tx, l.served.Unwritten(m.Served))
	tx.Notify(engine.StoreUpdate{Cells: cells, Material: true, Known: true})
}

// newestGrants gives where the newest grants of the offers' cells stand.
func newestGrants(r Reader, offers []plan.Offer) (map[string]rows.Position, error) {
	names := make([]string, len(offers))
	for i, o := range offers {
		names[i] = o.Cell
	}
	newest := make(map[string]rows.Position, len(offers))
	var cell string
	var p rows.Position
	return newest, r.Each(`SELECT cell, epoch, sequence FROM grants WHERE cell = ANY($1)`, []any{names}, []any{&cell, &p.Epoch, &p.Sequence}, func() error {
		newest[cell] = p
		return nil
	})
}

// slotsInUse reads all slots in use: never many more than the caps of all channels.
func slotsInUse(r Reader) (rows.Slots, error) {
	slots := rows.Slots{}
	var channel, cell string
	return slots, r.Each(`SELECT channel, cell FROM slots`, nil, []any{&channel, &cell}, func() error {
		slots.Add(channel, cell)
		return nil
	})
}

// FreeSlots ends the slots of cells: what they were for succeeded, failed, stalled or lapsed (R14).
func (l Ledger) FreeSlots(ctx context.Context, channel string, cells []string) error {
	return l.writeKnown(ctx, fmt.Sprintf("free the slots of %d cells of %s", len(cells), channel), func(tx Tx) {
		tx.Queue(`DELETE FROM slots WHERE channel = $1 AND cell = ANY($2)`, channel, cells)
	})
}

// RaiseServed keeps the highest sequences ever served or reported, by channel (R2). After the commit the caller tells its
// rows.Sequences.
func RaiseServed(tx interface{ Insert(string, [][]any, string) }, news map[string]int64) {
	all := make([][]any, 0, len(news))
	for _, channel := range slices.Sorted(maps.Keys(news)) { // locked in the same order by everybody
		all = append(all, []any{channel, news[channel]})
	}
	tx.Insert(`INSERT INTO served (channel, sequence)`, all,
		`ON CONFLICT (channel) DO UPDATE SET sequence = excluded.sequence WHERE served.sequence < excluded.sequence`)
}
