package view

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// SignatureStatus says whether a cell verifies what release signers signed.
type SignatureStatus struct {
	Verifies bool      `json:"verifies" doc:"it begins only what signers signed for its channel"`
	Root     int64     `json:"root,omitempty" doc:"number of the newest root of trust that it has"`
	Verified time.Time `json:"verified,omitzero" doc:"when a verification passed last"`
	Until    time.Time `json:"until,omitzero" doc:"what it verified then expires then"`
	Flags    bool      `json:"flags,omitempty" doc:"its flags have to be signed too"`
	Damaged  bool      `json:"damaged,omitempty" doc:"what it knew of signers can't be read, so nothing new begins"`

	root string // digest of the newest root, for who has to pin it
}

// VerifiesNothing reports whether a cell's channel needs signatures, and the cell reports and verifies none.
func (v *View) VerifiesNothing(cell *plan.Cell, s *plan.CellState) bool {
	return s != nil && s.Signatures == nil && !s.LastReport.IsZero() && v.Desired.Trust.Binds(cell.Channel)
}

// cellSignatures returns whether a cell verifies signatures; nil: its channel needs none, and it verifies none.
func (v *View) cellSignatures(cell *plan.Cell, s *plan.CellState) *SignatureStatus {
	switch {
	case v.VerifiesNothing(cell, s):
		status := &SignatureStatus{}
		if root := v.Desired.Trust.Root(); root != nil {
			status.root = string(root.Digest)
		}
		return status
	case s == nil || s.Signatures == nil:
		return nil
	}
	r := s.Signatures
	return &SignatureStatus{Verifies: true, Root: r.Root, Verified: r.Verified, Until: r.Until, Flags: r.Flags,
		Damaged: r.Damaged}
}

// signatureLines say the same to people, and of a channel that needs no signatures that it is unsigned. status says
// that once for all channels; a column would have the same word in every row.
func (v *View) signatureLines(cell *plan.Cell, s *plan.CellState) []string {
	status := v.cellSignatures(cell, s)
	if status == nil && !v.Desired.Trust.Binds(cell.Channel) {
		return []string{"unsigned: channel " + cell.Channel + " needs no signatures, so the control plane decides what it runs"}
	}
	return status.lines()
}

func (s *SignatureStatus) lines() []string {
	switch {
	case s == nil:
		return nil
	case !s.Verifies:
		return []string{"it verifies no signatures: it has no root of trust, so the control plane decides what it runs; " +
			"its owner starts the agent with --trust-root " + s.root}
	case s.Damaged:
		return []string{"what it knows of release signers can't be read, so nothing new begins: its agent's log says what to do"}
	case s.Verified.IsZero():
		return []string{"it has a root of trust, and has verified nothing yet"}
	}
	what := "releases"
	if s.Flags {
		what = "releases and flags"
	}
	return []string{fmt.Sprintf("it verifies %s by root %d: last at %s, against files that are good until %s", what, s.Root,
		words.FormatTime(s.Verified), words.FormatTime(s.Until))}
}
