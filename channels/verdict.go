package channels

import (
	"strings"
	"time"
)

// Verdict is a gate's answer about one release in one channel, or for one cell of it.
// Reason never counts down: the same state gives the same words at any time.
type Verdict struct {
	Channel string    `json:"channel"`
	Cell    string    `json:"cell,omitempty"`
	Release string    `json:"release,omitempty"`
	Gate    string    `json:"gate"`
	Holds   bool      `json:"-"`
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until,omitzero"` // holds: no longer than this; blocked: no earlier than this. Zero: not known
}

// String says it in a line, as in a promotion's Gate trailer: "window held until 2026-11-24T16:00:00+01:00".
func (v Verdict) String() string {
	if !v.Holds {
		s := v.Gate + " blocked: " + v.Reason
		if at := v.Until.Format(time.RFC3339); !v.Until.IsZero() && !strings.HasSuffix(s, at) {
			s += ", until " + at
		}
		return s
	}
	switch {
	case v.Reason == "" && v.Until.IsZero():
		return v.Gate + " held"
	case v.Reason == "":
		return v.Gate + " held until " + v.Until.Format(time.RFC3339)
	default:
		return v.Gate + " held, " + v.Reason
	}
}
