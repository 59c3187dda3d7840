// Package roster finds the cell that a key belongs to, by the identities in git and the registrations that are not in
// git yet (R25).
//
// It is pure. A Roster never changes, and several goroutines may read it.
package roster

import (
	"maps"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Roster maps keys to cells: git's identities, overlaid with newer registrations. Immutable.
type Roster struct {
	inGit   *keyIndex // the identities in git
	pending *keyIndex // registrations that are newer than git's identities
}

// keyIndex finds identities by cell, and cells by key.
type keyIndex struct {
	byCell map[string]cells.Identity
	byKey  map[string]keyHolder
	former map[string]string // cells by keys that they had before
}

type keyHolder struct {
	cell     string
	rejected string // why the key is rejected; empty: it is accepted
	previous bool   // the key before, which is valid until the new key is used
	newest   bool   // the new key, while the key before is still valid
}

func newKeyIndex() *keyIndex {
	return &keyIndex{map[string]cells.Identity{}, map[string]keyHolder{}, map[string]string{}}
}

func (m *keyIndex) clone() *keyIndex {
	return &keyIndex{maps.Clone(m.byCell), maps.Clone(m.byKey), maps.Clone(m.former)}
}

// addCell adds a cell. A key that two cells have is rejected.
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

func (m *keyIndex) removeCell(cell string) {
	i := m.byCell[cell]
	delete(m.byCell, cell)
	for _, key := range []string{i.Previous, i.PublicKey} {
		if m.byKey[key].cell == cell {
			delete(m.byKey, key)
		}
	}
}

// findHolder returns what is known about a key.
func (r *Roster) findHolder(key string) (keyHolder, bool) {
	pending, isPending := r.pending.byKey[key]
	inGit, isInGit := r.inGit.byKey[key]
	if isInGit {
		if _, newer := r.pending.byCell[inGit.cell]; newer {
			isInGit = false // the cell's newer registration counts
		}
	}
	switch {
	case isPending && isInGit && inGit.cell != pending.cell:
		pending.rejected = "it is the key of " + inGit.cell + " and of " + pending.cell
		return pending, true
	case isPending:
		return pending, true
	default:
		return inGit, isInGit
	}
}

// CellOfAnyKey returns the cell that a key belongs to, whether the key is accepted or not. ok is false if it belongs to
// none.
func (r *Roster) CellOfAnyKey(key string) (cell string, ok bool) {
	k, ok := r.findHolder(key)
	return k.cell, ok
}

// CellOfKey returns the cell of an accepted key, given as identity.yaml writes keys: the cell's newest key, or the key
// before while that is valid. ok is false for a rejected key; Why says why.
func (r *Roster) CellOfKey(key string) (name string, ok bool) {
	k, ok := r.findHolder(key)
	if !ok || k.rejected != "" {
		return "", false
	}
	return k.cell, true
}

// CellOfFormerKey returns the cell that had a key before. ok is false for a key that is a cell's now, or that no cell
// had.
func (r *Roster) CellOfFormerKey(key string) (name string, ok bool) {
	if _, held := r.findHolder(key); held {
		return "", false
	}
	name, ok = r.inGit.former[key]
	return name, ok
}

// RejectionReason says why a key is rejected. The reason is for logs: an unauthenticated peer must not learn it.
func (r *Roster) RejectionReason(key string) string {
	former, had := r.CellOfFormerKey(key)
	switch k, ok := r.findHolder(key); {
	case had:
		return former + ": it was replaced"
	case !ok:
		return "no cell has this key"
	case k.rejected != "":
		return k.cell + ": " + k.rejected
	}
	return ""
}

// IsNewKey reports whether the key is its cell's newest while the key before is still valid. The first use of the new
// key ends that, see Engine.Used.
func (r *Roster) IsNewKey(key string) bool {
	k, ok := r.findHolder(key)
	return ok && k.newest && k.rejected == ""
}

// HasKey reports whether a cell has a key, or had one that was revoked or quarantined.
func (r *Roster) HasKey(cell string) bool {
	i, ok := r.pending.byCell[cell]
	if !ok {
		i = r.inGit.byCell[cell]
	}
	return i.PublicKey != "" || i.Revoked || i.Quarantined != ""
}

// Identity returns the identity of a cell that is in force; zero: the cell has none.
func (r *Roster) Identity(cell string) cells.Identity {
	if i, ok := r.pending.byCell[cell]; ok {
		return i
	}
	return r.inGit.byCell[cell]
}

// Update returns the roster of d and the registrations. It returns before if nothing changed.
func Update(d *plan.Desired, registered map[string]plan.Registration, before *Roster) *Roster {
	r := &Roster{inGit: before.inGit, pending: newKeyIndex()}
	if !sameIdentities(before.inGit, d) {
		r.inGit = newKeyIndex()
		for name, cell := range d.Cells {
			r.inGit.addCell(name, cell.Identity)
			for _, key := range cell.Former {
				r.inGit.former[key] = name
			}
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

// WithRegistration returns r with one more registration.
func (r *Roster) WithRegistration(g plan.Registration) *Roster {
	pending := r.pending.clone()
	pending.removeCell(g.Cell)
	pending.addCell(g.Cell, g.Identity)
	return &Roster{inGit: r.inGit, pending: pending}
}

// New returns a roster of identities by cell.
func New(identities map[string]cells.Identity) *Roster {
	r := Empty()
	for name, i := range identities {
		r.inGit.addCell(name, i)
	}
	return r
}

// Empty returns a roster without cells.
func Empty() *Roster { return &Roster{inGit: newKeyIndex(), pending: newKeyIndex()} }
