package rows

import (
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Position is an assignment's position in the order of a cell's assignments (R2).
type Position struct{ Epoch, Sequence int64 }

func (p Position) before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Sequence < q.Sequence
}

// Slots holds the cells that have a slot in use, by channel and cell.
type Slots map[string]map[string]bool

// Add adds a cell's slot.
func (s Slots) Add(channel, cell string) {
	if s[channel] == nil {
		s[channel] = map[string]bool{}
	}
	s[channel][cell] = true
}

// Slot is a slot that an offer took.
type Slot struct {
	Channel, Cell string
	At            time.Time
}

// Grant is the row of a grant.
type Grant struct {
	Cell string
	Position
	Assignment string // as JSON
	At         time.Time
}

// GrantBatch is the outcome of offers.
type GrantBatch struct {
	Granted []plan.Granted // the grants that were made, in order
	Grants  []Grant        // rows to write: the last grant of each cell
	Slots   []Slot         // rows to write: slots that were not in use before
	Served  []Sequence
}

// AdmitOffers compares offers, in order, with each cell's newest grant and the slots in use, and updates both. An offer
// older than the cell's grant is not made; one at the same position is, since it may have other values (R13). A cell
// with a slot of the channel takes no second slot.
func AdmitOffers(offers []plan.Offer, newest map[string]Position, slots Slots) (GrantBatch, error) {
	var m GrantBatch
	at := make(map[string]int, len(offers)) // the index of a cell's row in m.Grants
	for _, o := range offers {
		a := o.Assignment
		position := Position{a.Epoch, a.Sequence}
		if old, known := newest[o.Cell]; known && position.before(old) {
			continue
		}
		if o.Cap > 0 && !slots[a.Channel][o.Cell] {
			if len(slots[a.Channel]) >= o.Cap {
				continue
			}
			slots.Add(a.Channel, o.Cell)
			m.Slots = append(m.Slots, Slot{a.Channel, o.Cell, o.At})
		}
		body, err := Encode(a)
		if err != nil {
			return GrantBatch{}, err
		}
		newest[o.Cell] = position
		m.Granted = append(m.Granted, o.Granted)
		m.Served = append(m.Served, Sequence{a.Channel, a.Sequence})
		row := Grant{o.Cell, position, body, o.At}
		if i, twice := at[o.Cell]; twice {
			m.Grants[i] = row
			continue
		}
		at[o.Cell] = len(m.Grants)
		m.Grants = append(m.Grants, row)
	}
	return m, nil
}
