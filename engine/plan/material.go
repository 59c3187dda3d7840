package plan

import (
	"maps"
	"reflect"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// UnknownChannels gives the channels that a cell names and the repository does not have: its word must not make rows.
func UnknownChannels(d *Desired, s *CellState) (names []string) {
	for _, a := range []*cells.Assignment{s.Running, s.Applying} {
		if a != nil && d.Channels[a.Channel] == nil {
			names = append(names, a.Channel)
		}
	}
	return names
}

// Material tells whether a report says anything new but that time went by.
func Material(a, b *CellState) bool {
	return a == nil || a.State != b.State || a.Digest != b.Digest || a.Sequence != b.Sequence || a.Epoch != b.Epoch ||
		a.Taken != b.Taken || a.Clone != b.Clone || a.Infrastructure != b.Infrastructure ||
		(a.Applying == nil) != (b.Applying == nil) || revised(a.Running, b.Running) || otherFailures(a.Failures, b.Failures) || !reflect.DeepEqual(a.Owner, b.Owner)
}

// FlagsDiffer tells whether a report says anything new of flags, or of what decides on them. It wakes no plan of releases.
func FlagsDiffer(a, b *CellState) bool {
	if a == nil {
		return true
	}
	f, g := a.Flags, b.Flags
	switch {
	case a.Digest != b.Digest || digestOf(a.Applying) != digestOf(b.Applying) || (f == nil) != (g == nil):
		return true
	case f == nil:
		return false
	}
	return f.Height != g.Height || f.Bundle != g.Bundle || f.Orders != g.Orders || f.Fault != g.Fault || !maps.Equal(f.States, g.States)
}

func digestOf(a *cells.Assignment) releases.Digest {
	if a == nil {
		return ""
	}
	return a.Digest
}

// otherFailures tells whether the newest failure is another: of many, the oldest are forgotten.
func otherFailures(a, b []Failure) bool {
	n := len(a)
	return n != len(b) || n > 0 && (!a[n-1].At.Equal(b[n-1].At) || a[n-1].Assignment.Key() != b[n-1].Assignment.Key())
}
