package rows

import (
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Position is where an assignment stands in a cell's order (R2).
type Position struct{ Epoch, Sequence int64 }

func (p Position) before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Sequence < q.Sequence
}

// Slots says which cells have a slot in use, by channel and cell.
type Slots map[string]map[string]bool

// Add counts a slot.
func (s Slots) Add(channel, cell string) {
	if s[channel] == nil {
		s[channel] = map[string]bool{}
	}
	s[channel][cell] = true
}

// Slot is one that an offer took.
type Slot struct {
	Channel, Cell string
	At            time.Time
}

// Grant is an offer as a row.
type Grant struct {
	Cell string
	Position
	Assignment string // encoded
	At         time.Time
}

// GrantBatch is what came of offers.
type GrantBatch struct {
	Granted []plan.Granted // those that were made, in order
	Grants  []Grant        // to be written: the last of each cell
	Slots   []Slot         // to be written: those that were not in use before
	Served  []Sequence
}

// AdmitOffers holds offers, in order, against the newest grant of each cell and the slots in use; both are changed to what
// holds afterwards. An offer that is older than the cell's grant is not made. One of the same place is: with other
// values it is another offer (R13). A cell that has a slot of the channel already takes no second one.
func AdmitOffers(offers []plan.Offer, newest map[string]Position, slots Slots) (GrantBatch, error) {
	var m GrantBatch
	at := make(map[string]int, len(offers)) // of a cell's row in m.Grants
	for _, o := range offers {
		a := o.Assignment
		place := Position{a.Epoch, a.Sequence}
		if old, known := newest[o.Cell]; known && place.before(old) {
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
		newest[o.Cell] = place
		m.Granted = append(m.Granted, o.Granted)
		m.Served = append(m.Served, Sequence{a.Channel, a.Sequence})
		row := Grant{o.Cell, place, body, o.At}
		if i, twice := at[o.Cell]; twice {
			m.Grants[i] = row
			continue
		}
		at[o.Cell] = len(m.Grants)
		m.Grants = append(m.Grants, row)
	}
	return m, nil
}
