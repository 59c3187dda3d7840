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
	inGit   *keyIndex // as git has it
	pending *keyIndex // of cells whose newest registration git does not have yet
}

// keyIndex are cells by key.
type keyIndex struct {
	byCell map[string]cells.Identity
	byKey  map[string]keyHolder
}

type keyHolder struct {
	cell     string
	rejected string // why the key is not good; empty: it is
	previous bool   // the key before, good until the new one was used
	newest   bool   // the new one, and the key before is still good
}

func newKeyIndex() *keyIndex { return &keyIndex{map[string]cells.Identity{}, map[string]keyHolder{}} }

func (m *keyIndex) clone() *keyIndex { return &keyIndex{maps.Clone(m.byCell), maps.Clone(m.byKey)} }

// addCell adds a cell. A key that two of them have is nobody's.
func (m *keyIndex) addCell(cell string, i cells.Identity) {
	m.byCell[cell] = i
	shut := ""
	switch {
	case i.Quarantined != "":
		shut = "quarantined: " + i.Quarantined
	case i.Revoked:
		shut = "revoked"
	}
	add := func(key string, k keyHolder) {
		if other, there := m.byKey[key]; there && other.cell != cell {
			k.rejected = "it is the key of " + other.cell + " and of " + cell
		}
		m.byKey[key] = k
	}
	if i.Previous != "" {
		add(i.Previous, keyHolder{cell: cell, rejected: shut, previous: true})
	}
	if i.PublicKey != "" {
		add(i.PublicKey, keyHolder{cell: cell, rejected: shut, newest: i.Previous != ""})
	}
}

// removeCell removes a cell.
func (m *keyIndex) removeCell(cell string) {
	i := m.byCell[cell]
	delete(m.byCell, cell)
	for _, key := range []string{i.Previous, i.PublicKey} {
		if m.byKey[key].cell == cell {
			delete(m.byKey, key)
		}
	}
}

// findHolder returns what is known of a key.
func (r *Roster) findHolder(key string) (keyHolder, bool) {
	k, over := r.pending.byKey[key]
	b, base := r.inGit.byKey[key]
	if base {
		if _, newer := r.pending.byCell[b.cell]; newer {
			base = false // what its cell registered since counts
		}
	}
	switch {
	case over && base && b.cell != k.cell:
		k.rejected = "it is the key of " + b.cell + " and of " + k.cell
		return k, true
	case over:
		return k, true
	default:
		return b, base
	}
}

// Holder names the cell that a key is known of, whether it is good or not; ok is false if it is nobody's.
func (r *Roster) Holder(key string) (cell string, ok bool) {
	k, ok := r.findHolder(key)
	return k.cell, ok
}

// Cell names the cell whose key it is, as identity.yaml writes keys: its newest, or the one before while that is good.
// ok is false for one that was shut out: Why says what for.
func (r *Roster) Cell(key string) (name string, ok bool) {
	k, ok := r.findHolder(key)
	if !ok || k.rejected != "" {
		return "", false
	}
	return k.cell, true
}

// Why says why a key is not good, for a log: nobody is told who isn't known.
func (r *Roster) Why(key string) string {
	switch k, ok := r.findHolder(key); {
	case !ok:
		return "no cell has this key"
	case k.rejected != "":
		return k.cell + ": " + k.rejected
	}
	return ""
}

// Next tells whether the key is its cell's newest while the one before is still good: its first use ends that, see Engine.Used.
func (r *Roster) Next(key string) bool {
	k, ok := r.findHolder(key)
	return ok && k.newest && k.rejected == ""
}

// Keyed tells whether a cell has a key, or had one that was shut out.
func (r *Roster) Keyed(cell string) bool {
	i, ok := r.pending.byCell[cell]
	if !ok {
		i = r.inGit.byCell[cell]
	}
	return i.PublicKey != "" || i.Revoked || i.Quarantined != ""
}

// Identity is what counts of a cell's identity: the zero one, if it never had any.
func (r *Roster) Identity(cell string) cells.Identity {
	if i, ok := r.pending.byCell[cell]; ok {
		return i
	}
	return r.inGit.byCell[cell]
}

// Of is who is who by d and the registrations: before itself, if nothing is new.
func Of(d *plan.Desired, registered map[string]plan.Registration, before *Roster) *Roster {
	r := &Roster{inGit: before.inGit, pending: newKeyIndex()}
	if !sameIdentities(before.inGit, d) {
		r.inGit = newKeyIndex()
		for name, cell := range d.Cells {
			r.inGit.addCell(name, cell.Identity)
		}
	}
	for name, g := range registered {
		if cell := d.Cells[name]; cell != nil && g.Identity.Serial > cell.Identity.Serial {
			r.pending.addCell(name, g.Identity)
		}
	}
	if r.inGit == before.inGit && maps.Equal(r.pending.byCell, before.pending.byCell) {
		return before
	}
	return r
}

func sameIdentities(m *keyIndex, d *plan.Desired) bool {
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
	over := r.pending.clone()
	over.removeCell(g.Cell)
	over.addCell(g.Cell, g.Identity)
	return &Roster{inGit: r.inGit, pending: over}
}

// New is who is who by these identities, by cell.
func New(identities map[string]cells.Identity) *Roster {
	r := Empty()
	for name, i := range identities {
		r.inGit.addCell(name, i)
	}
	return r
}

// Empty is nobody.
func Empty() *Roster { return &Roster{inGit: newKeyIndex(), pending: newKeyIndex()} }
