package maintenance

import (
	"maps"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// Totals count a cell's maintenances for updates, for as long as its state folder lasts. Immutable.
type Totals struct {
	Begun   int64            `json:"begun,omitempty"`   // operations began to be refused
	PutOff  int64            `json:"putOff,omitempty"`  // drains that took too long
	Overran int64            `json:"overran,omitempty"` // ended before their update was through
	Unasked int64            `json:"unasked,omitempty"` // no program had asked when the update began
	Ignored int64            `json:"ignored,omitempty"` // operations that ran although they were refused
	Seconds int64            `json:"seconds,omitempty"` // in which operations were refused
	Refused map[string]int64 `json:"refused,omitempty"` // operations by kind
	Last    *Lasted          `json:"last,omitempty"`    // the newest whose update was through; nil: none
}

// Lasted says how long operations were refused for an update that was applied.
type Lasted struct {
	Release string `json:"release"`
	Seconds int64  `json:"seconds"`
}

const (
	// MaxRefusedKinds is how many kinds of operation Totals tell apart; OtherKinds has the rest.
	MaxRefusedKinds = 16
	OtherKinds      = "other"
)

// After returns the totals after an event of Advance, which was given the record and the operations under way.
func (t Totals) After(r *Record, e Event, ops Busy, now time.Time) Totals {
	switch e.Kind {
	case EventEntered:
		t.Begun++
		return t
	case EventUnasked:
		t.Unasked++
		return t
	case EventIgnored:
		t.Ignored += ops.Ignored.Count
		return t
	case EventPutOff:
		t.PutOff++
	case EventOverran:
		t.Overran++
		now = r.Until
	case EventLeft:
	default:
		return t
	}
	seconds := int64(max(0, now.Sub(r.Begins)).Round(time.Second) / time.Second)
	t.Seconds += seconds
	if e.Kind == EventLeft && r.Phase == Drained {
		t.Last = &Lasted{Release: r.Release, Seconds: seconds}
	}
	refused := maps.Clone(t.Refused)
	if refused == nil {
		refused = map[string]int64{}
	}
	for kind, n := range ops.Refused {
		if _, known := refused[kind]; !known && len(refused) >= MaxRefusedKinds {
			kind = OtherKinds
		}
		refused[kind] += n
	}
	t.Refused = refused
	return t
}

// Valid reports whether totals from outside may be taken.
func (t Totals) Valid() bool {
	ok := min(t.Begun, t.PutOff, t.Overran, t.Unasked, t.Ignored, t.Seconds) >= 0 && len(t.Refused) <= MaxRefusedKinds+1
	if t.Last != nil {
		_, err := releases.ParseVersion(t.Last.Release)
		ok = ok && err == nil && t.Last.Seconds >= 0
	}
	for kind, n := range t.Refused {
		ok = ok && n >= 0 && validKind(kind)
	}
	return ok
}
