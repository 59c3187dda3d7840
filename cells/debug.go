package cells

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Bounds of what a report says of debug access.
const (
	MaxDebugRequests = 16
	maxDebugText     = 512 // bytes
)

// DebugState is what a cell says of a request for debug access.
type DebugState struct {
	ID    string    `json:"id" doc:"of the request"`
	State string    `json:"state" enum:"open,denied,permitted,live,ended,expired"`
	Until time.Time `json:"until,omitzero" doc:"when the session has to end at the latest, by the cell's clock"`
	Why   string    `json:"why,omitempty" doc:"why it was denied, or why its session ended"`
	// Of the record, once the session has ended.
	Hash     string `json:"hash,omitempty" doc:"of the record, once the session has ended"`
	Length   int64  `json:"length,omitempty" doc:"of the record, in bytes"`
	Withheld bool   `json:"withheld,omitempty" doc:"the owner keeps the record itself"`
	Vouched  bool   `json:"vouched,omitempty" doc:"release signers vouch for the key"`
}

// DebugRefusal begins the reason of what a cell refused or ended by itself, and not by its owner's word.
const DebugRefusal = "the cell refused it: "

// States of requests for debug access, as cells report them.
const (
	DebugOpen      = "open"      // it waits for the owner
	DebugDenied    = "denied"    // the owner refused, or the cell by itself: see DebugRefusal
	DebugPermitted = "permitted" // a session may begin
	DebugLive      = "live"      // a session lasts
	DebugEnded     = "ended"     // a session was there, and is over
	DebugExpired   = "expired"   // no session began in time
)

func validateDebug(all []DebugState) error {
	if len(all) > MaxDebugRequests {
		return fmt.Errorf("more than %d requests", MaxDebugRequests)
	}
	states := []string{DebugOpen, DebugDenied, DebugPermitted, DebugLive, DebugEnded, DebugExpired}
	for _, d := range all {
		switch {
		case !slices.Contains(states, d.State):
			return fmt.Errorf("there is no state %.80q", d.State)
		case d.Length < 0:
			return fmt.Errorf("a record of %d bytes", d.Length)
		}
		for _, text := range []string{d.ID, d.Why, d.Hash} {
			if len(text) > maxDebugText || !utf8.ValidString(text) {
				return fmt.Errorf("a text must be UTF-8 of at most %d bytes", maxDebugText)
			}
		}
	}
	return nil
}
