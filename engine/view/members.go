package view

import (
	"github.com/sluice-cd/sluice/cells"
)

// Member is a cell with its identity.
type Member struct {
	CellStatus
	Access      Access `json:"access" doc:"whether the cell is let in"`
	PublicKey   string `json:"publicKey,omitempty"`
	Previous    string `json:"previous,omitempty" doc:"the key before, valid until the new key is used"`
	Serial      int64  `json:"serial,omitempty" doc:"grows with every change of its identity"`
	Quarantined string `json:"quarantined,omitempty" doc:"why its key is shut out (R27)"`
}

// Access says whether a cell is let in.
type Access string

// Every cell has one of these.
const (
	AccessNone        Access = "unregistered"
	AccessGood        Access = "registered"
	AccessRotating    Access = "rotating" // registered, and asked to make a new key
	AccessRevoked     Access = "revoked"
	AccessQuarantined Access = "quarantined"
)

// AccessOf returns the access that an identity has. Pure.
func AccessOf(id cells.Identity) Access {
	switch {
	case id.Revoked:
		return AccessRevoked
	case id.Quarantined != "":
		return AccessQuarantined
	case id.PublicKey == "":
		return AccessNone
	case id.Rotate:
		return AccessRotating
	}
	return AccessGood
}

// MemberOf returns a cell with its identity.
func MemberOf(c CellStatus, id cells.Identity) Member {
	return Member{
		CellStatus: c, Access: AccessOf(id), PublicKey: id.PublicKey, Previous: id.Previous, Serial: id.Serial,
		Quarantined: id.Quarantined,
	}
}

// MembersOf returns the cells of a page, with their identities in the view. Pure.
func MembersOf(v *View, page StatusPage) []Member {
	all := []Member{}
	for _, c := range StatusOf(v, page).Cells {
		all = append(all, MemberOf(c, v.Identity(c.Name)))
	}
	return all
}
