package view

import (
	"github.com/sluice-cd/sluice/cells"
)

// Member is a cell, and under which key it comes.
type Member struct {
	CellStatus
	Access      Access `json:"access" doc:"whether it may come in"`
	PublicKey   string `json:"publicKey,omitempty"`
	Previous    string `json:"previous,omitempty" doc:"the key before, good until the new one was used"`
	Serial      int64  `json:"serial,omitempty" doc:"grows with every change of its identity"`
	Quarantined string `json:"quarantined,omitempty" doc:"why nobody is served under its key (R27)"`
}

// Access is whether a cell may come in.
type Access string

// A cell is one of these.
const (
	AccessNone        Access = "unregistered"
	AccessGood        Access = "registered"
	AccessRotating    Access = "rotating" // registered, and asked for a new key
	AccessRevoked     Access = "revoked"
	AccessQuarantined Access = "quarantined"
)

// AccessOf sums an identity up: pure.
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

// MemberOf is a cell with an identity.
func MemberOf(c CellStatus, id cells.Identity) Member {
	return Member{CellStatus: c, Access: AccessOf(id), PublicKey: id.PublicKey, Previous: id.Previous, Serial: id.Serial, Quarantined: id.Quarantined}
}

// MembersOf are a page's cells, with the identities that the view has: pure.
func MembersOf(v *View, page StatusPage) []Member {
	all := []Member{}
	for _, c := range StatusOf(v, page).Cells {
		all = append(all, MemberOf(c, v.Identity(c.Name)))
	}
	return all
}
