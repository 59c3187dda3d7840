// Package roster tells which cell a key speaks for: what git says of cells' identities, with the registrations that are on
// their way there (R25). It is pure. A Roster is immutable, and may be read from several goroutines.
package roster

import (
	"maps"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Roster says whose a key is: by git's identities, over which newer registrations are laid. Immutable.
type Roster struct {
	base *members // as git has it
	over *members // of cells whose newest registration git does not have yet
}

// members are cells by key.
type members struct {
	byCell map[string]cells.Identity
	byKey  map[string]member
}

type member struct {
	cell string
	shut string // why the key is not good; empty: it is
	old  bool   // the key before, good until the new one was used
	next bool   // the new one, and the key before is still good
}

func newMembers() *members { return &members{map[string]cells.Identity{}, map[string]member{}} }

func (m *members) clone() *members { return &members{maps.Clone(m.byCell), maps.Clone(m.byKey)} }

// put adds a cell. A key that two of them have is nobody's.
func (m *members) put(cell string, i cells.Identity) {
	m.byCell[cell] = i
	shut := ""
	switch {
	case i.Quarantined != "":
		shut = "quarantined: " + i.Quarantined
	case i.Revoked:
		shut = "revoked"
	}
	add := func(key string, k member) {
		if other, there := m.byKey[key]; there && other.cell != cell {
			k.shut = "it is the key of " + other.cell + " and of " + cell
		}
		m.byKey[key] = k
	}
	if i.Previous != "" {
		add(i.Previous, member{cell: cell, shut: shut, old: true})
	}
	if i.PublicKey != "" {
		add(i.PublicKey, member{cell: cell, shut: shut, next: i.Previous != ""})
	}
}

// drop removes a cell.
func (m *members) drop(cell string) {
	i := m.byCell[cell]
	delete(m.byCell, cell)
	for _, key := range []string{i.Previous, i.PublicKey} {
		if m.byKey[key].cell == cell {
			delete(m.byKey, key)
		}
	}
}

// find returns what is known of a key.
func (r *Roster) find(key string) (member, bool) {
	k, over := r.over.byKey[key]
	b, base := r.base.byKey[key]
	if base {
		if _, newer := r.over.byCell[b.cell]; newer {
			base = false // what its cell registered since counts
		}
	}
	switch {
	case over && base && b.cell != k.cell:
		k.shut = "it is the key of " + b.cell + " and of " + k.cell
		return k, true
	case over:
		return k, true
	default:
		return b, base
	}
}

// Holder names the cell that a key is known of, whether it is good or not; ok is false if it is nobody's.
func (r *Roster) Holder(key string) (cell string, ok bool) {
	k, ok := r.find(key)
	return k.cell, ok
}

// Cell names the cell whose key it is, as identity.yaml writes keys: its newest, or the one before while that is good.
// ok is false for one that was shut out: Why says what for.
func (r *Roster) Cell(key string) (name string, ok bool) {
	k, ok := r.find(key)
	if !ok || k.shut != "" {
		return "", false
	}
	return k.cell, true
}

// Why says why a key is not good, for a log: nobody is told who isn't known.
func (r *Roster) Why(key string) string {
	switch k, ok := r.find(key); {
	case !ok:
		return "no cell has this key"
	case k.shut != "":
		return k.cell + ": " + k.shut
	}
	return ""
}

// Next tells whether the key is its cell's newest while the one before is still good: its first use ends that, see Engine.Used.
func (r *Roster) Next(key string) bool {
	k, ok := r.find(key)
	return ok && k.next && k.shut == ""
}

// Keyed tells whether a cell has a key, or had one that was shut out.
func (r *Roster) Keyed(cell string) bool {
	i, ok := r.over.byCell[cell]
	if !ok {
		i = r.base.byCell[cell]
	}
	return i.PublicKey != "" || i.Revoked || i.Quarantined != ""
}

// Identity is what counts of a cell's identity: the zero one, if it never had any.
func (r *Roster) Identity(cell string) cells.Identity {
	if i, ok := r.over.byCell[cell]; ok {
		return i
	}
	return r.base.byCell[cell]
}

// Of is who is who by d and the registrations: before itself, if nothing is new.
func Of(d *plan.Desired, registered map[string]plan.Registration, before *Roster) *Roster {
	r := &Roster{base: before.base, over: newMembers()}
	if !sameMembers(before.base, d) {
		r.base = newMembers()
		for name, cell := range d.Cells {
			r.base.put(name, cell.Identity)
		}
	}
	for name, g := range registered {
		if cell := d.Cells[name]; cell != nil && g.Identity.Serial > cell.Identity.Serial {
			r.over.put(name, g.Identity)
		}
	}
	if r.base == before.base && maps.Equal(r.over.byCell, before.over.byCell) {
		return before
	}
	return r
}

func sameMembers(m *members, d *plan.Desired) bool {
	if len(m.byCell) != len(d.Cells) {
		return false
	}
	for name, cell := range d.Cells {
		if i, ok := m.byCell[name]; !ok || i != cell.Identity {
			return false
		}
	}
	return true
}

// With is r with one more registration.
func (r *Roster) With(g plan.Registration) *Roster {
	over := r.over.clone()
	over.drop(g.Cell)
	over.put(g.Cell, g.Identity)
	return &Roster{base: r.base, over: over}
}

// New is who is who by these identities, by cell.
func New(identities map[string]cells.Identity) *Roster {
	r := Empty()
	for name, i := range identities {
		r.base.put(name, i)
	}
	return r
}

// Empty is nobody.
func Empty() *Roster { return &Roster{base: newMembers(), over: newMembers()} }
