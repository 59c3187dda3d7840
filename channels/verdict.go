package channels

import (
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/reason"
)

// Verdict is a gate's answer about one release in one channel, or for one cell of it.
// Reason never counts down: the same state gives the same words at any time.
type Verdict struct {
	Channel string      `json:"channel"`
	Cell    string      `json:"cell,omitempty"`
	Release string      `json:"release,omitempty"`
	Gate    string      `json:"gate"`
	Holds   bool        `json:"-"`
	Code    reason.Code `json:"code,omitempty" doc:"what reason says, as a name: see docs/gates.md"`
	Reason  string      `json:"reason"`
	Until   time.Time   `json:"until,omitzero"` // holds: no longer than this; blocked: no earlier than this. Zero: not known
}

// Held is the verdict of a gate that holds, with what let the release pass.
func Held(gate string, code reason.Code, args ...any) Verdict {
	return Verdict{Gate: gate, Holds: true, Code: code, Reason: code.Words(args...)}
}

// Blocked is the verdict of a gate that does not hold, and why.
func Blocked(gate string, code reason.Code, args ...any) Verdict {
	return Verdict{Gate: gate, Code: code, Reason: code.Words(args...)}
}

// Before sets the instant from which on the verdict may be another.
func (v Verdict) Before(until time.Time) Verdict {
	v.Until = until
	return v
}

// About says which channel and release the verdict is about.
func (v Verdict) About(channel, release string) Verdict {
	v.Channel, v.Release = channel, release
	return v
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
