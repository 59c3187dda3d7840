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

// RecordGrants grants the offers for which there is a slot, in one transaction, and returns the grants. A cell's grant
// is replaced only by one with the same or a newer (epoch, sequence): the same one may have other values (R13).
func (l Ledger) RecordGrants(ctx context.Context, offers []plan.Offer) ([]plan.Granted, error) {
	var m rows.GrantBatch
	err := l.db.WriteAsLeader(ctx, "record grants", func(tx Tx) error {
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
		`ON CONFLICT (cell) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,
			assignment = excluded.assignment, granted_at = excluded.granted_at`)
	taken := make([][]any, len(m.Slots))
	for i, t := range m.Slots {
		taken[i] = []any{t.Channel, t.Cell, rows.Millis(t.At)}
	}
	tx.Insert(`INSERT INTO slots (channel, cell, taken_at)`, taken, ``)
	raiseServed(tx, l.served.Unwritten(m.Served))
	tx.Notify(engine.StoreUpdate{Cells: cells, Material: true, Known: true})
}

// newestGrants returns the positions of the newest grants of the offers' cells.
func newestGrants(r Reader, offers []plan.Offer) (map[string]rows.Position, error) {
	names := make([]string, len(offers))
	for i, o := range offers {
		names[i] = o.Cell
	}
	newest := make(map[string]rows.Position, len(offers))
	var cell string
	var p rows.Position
	return newest, r.Each(`SELECT cell, epoch, sequence FROM grants WHERE cell = ANY($1)`, []any{names},
		[]any{&cell, &p.Epoch, &p.Sequence}, func() error {
			newest[cell] = p
			return nil
		})
}

// slotsInUse reads all slots in use, which are not many more than the caps of all channels.
func slotsInUse(r Reader) (rows.Slots, error) {
	slots := rows.Slots{}
	var channel, cell string
	return slots, r.Each(`SELECT channel, cell FROM slots`, nil, []any{&channel, &cell}, func() error {
		slots.Add(channel, cell)
		return nil
	})
}

// FreeSlots ends the slots of cells whose rollout succeeded, failed, stalled or lapsed (R14).
func (l Ledger) FreeSlots(ctx context.Context, channel string, cells []string) error {
	return l.writeKnown(ctx, fmt.Sprintf("free the slots of %d cells of %s", len(cells), channel), func(tx Tx) {
		tx.Queue(`DELETE FROM slots WHERE channel = $1 AND cell = ANY($2)`, channel, cells)
	})
}

// raiseServed writes the highest sequences ever decided or granted, by channel (R2). The caller must call MarkWritten
// after the commit.
func raiseServed(tx interface{ Insert(string, [][]any, string) }, raised map[string]int64) {
	all := make([][]any, 0, len(raised))
	for _, channel := range slices.Sorted(maps.Keys(raised)) { // every process locks in the same order
		all = append(all, []any{channel, raised[channel]})
	}
	tx.Insert(`INSERT INTO served (channel, sequence)`, all,
		`ON CONFLICT (channel) DO UPDATE SET sequence = excluded.sequence WHERE served.sequence < excluded.sequence`)
}
