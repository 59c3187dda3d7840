package debugging

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/words"
)

// States of requests that no cell reports.
const (
	Sent      = "sent"      // the cell has not said that it has the request
	Withdrawn = "withdrawn" // somebody took it back
)

// RequestStatus is a request as people see it.
type RequestStatus struct {
	ID      string    `json:"id"`
	State   string    `json:"state" enum:"sent,withdrawn,open,denied,permitted,live,ended,expired" doc:"sent: the cell has not said that it has it; open: it waits for the cell's owner; the rest as the cell says"`
	Cell    string    `json:"cell"`
	Case    string    `json:"case"`
	Reason  string    `json:"reason"`
	Person  string    `json:"person"`
	Key     string    `json:"key" doc:"fingerprint"`
	Scope   string    `json:"scope"`
	For     string    `json:"for" doc:"how long the session may last"`
	By      string    `json:"by" doc:"who sent it"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`

	Until    time.Time         `json:"until,omitzero" doc:"when a session that lasts has to end at the latest"`
	Why      string            `json:"why,omitempty" doc:"why it was denied, or why its session ended"`
	Hash     string            `json:"hash,omitempty" doc:"of the record"`
	Length   int64             `json:"length,omitempty" doc:"of the record, in bytes"`
	Withheld bool              `json:"withheld,omitempty" doc:"the owner keeps the record itself"`
	Stored   bool              `json:"stored,omitempty" doc:"the control plane has the record"`
	Vouched  bool              `json:"vouched,omitempty" doc:"the cell found the key among those that release signers vouch for"`
	Seal     *debug.SignedSeal `json:"seal,omitempty" doc:"signed by the cell"`
}

// NewStatus returns a request as people see it. reported is what its cell reported last. ourTime returns an instant of
// the cell's clock by ours.
func NewStatus(e *Entry, reported []cells.DebugState, ourTime func(time.Time) time.Time, now time.Time) RequestStatus {
	r := &e.Request
	s := RequestStatus{ID: e.ID, State: Sent, Cell: r.Cell, Case: r.Case, Reason: r.Reason, Person: r.Person,
		Key: r.Fingerprint(), Scope: string(r.Scope), For: r.For.String(), By: e.By, Made: r.Made, Expires: r.Expires,
		Seal: e.Seal, Stored: e.Stored}
	if !e.isOpen(r, now) {
		s.State = cells.DebugExpired
	}
	if i := slices.IndexFunc(reported, func(d cells.DebugState) bool { return d.ID == e.ID }); i >= 0 {
		d := reported[i]
		s.State, s.Until, s.Why, s.Vouched = d.State, ourTime(d.Until), d.Why, d.Vouched
		s.Hash, s.Length, s.Withheld = d.Hash, d.Length, d.Withheld
	}
	if !e.Withdrawn.IsZero() && (s.State == Sent || s.State == cells.DebugOpen || s.State == cells.DebugExpired) {
		s.State = Withdrawn
	}
	if e.Seal != nil {
		s.State = cells.DebugEnded
		if seal, err := e.Seal.Read(); err == nil { // checked when it came; a cell does not report it for ever
			s.Why, s.Hash, s.Length, s.Withheld = words.Clip(seal.Why, 400), seal.Hash, seal.Length, seal.Withheld
		}
	}
	return s
}
