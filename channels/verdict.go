package channels

import (
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/reason"
)

// Verdict is a gate's answer about one release in one channel, or about one cell of the channel. Reason never counts
// down: the same state has the same words at any time.
type Verdict struct {
	Channel string      `json:"channel"`
	Cell    string      `json:"cell,omitempty"`
	Release string      `json:"release,omitempty"`
	Gate    string      `json:"gate"`
	Holds   bool        `json:"-"`
	Code    reason.Code `json:"code,omitempty" doc:"what reason says, as a name: see docs/gates.md"`
	Reason  string      `json:"reason"`
	// held: not beyond this instant; blocked: not before it. Zero: not known
	Until time.Time `json:"until,omitzero"`
}

// Held returns the verdict of a gate that lets a release pass, and why.
func Held(gate string, code reason.Code, args ...any) Verdict {
	return Verdict{Gate: gate, Holds: true, Code: code, Reason: code.Words(args...)}
}

// Blocked returns the verdict of a gate that stops a release, and why.
func Blocked(gate string, code reason.Code, args ...any) Verdict {
	return Verdict{Gate: gate, Code: code, Reason: code.Words(args...)}
}

// WithUntil sets Until, before which time alone does not change the verdict.
func (v Verdict) WithUntil(until time.Time) Verdict {
	v.Until = until
	return v
}

// WithSubject sets the channel and release of the verdict.
func (v Verdict) WithSubject(channel, release string) Verdict {
	v.Channel, v.Release = channel, release
	return v
}

// String formats the verdict in one line, as in a promotion's Gate trailer: "window held until
// 2026-11-24T16:00:00+01:00".
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
