package exports

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	maxValues = 48 << 10 // bytes of the last values that are kept of a cell
	maxAge    = 2 * export.MaxEvery
	maxAhead  = time.Minute // of a point's time: what is later is of a clock that was wrong
)

// Last is what a cell exported last.
type Last struct {
	Values []LastValue `json:"values,omitempty"`
	Left   int         `json:"left,omitempty"` // series whose values there was no room for
}

// LastValue is the last point of a series, or the last event of a kind with the same fields.
type LastValue struct {
	telemetry.Line
	// Recent is what the series did of late: the value of a gauge, the increase of a counter in a second and the mean
	// of a histogram, both between its last two points; nil: it is not known, or it is an event.
	Recent *float64 `json:"recent,omitempty"`
	// From is when the time began that Recent is of; the zero time: it is not known.
	From time.Time `json:"from,omitzero"`
}

// Lines returns the values as they were exported.
func (v *Last) Lines() []telemetry.Line {
	lines := make([]telemetry.Line, len(v.Values))
	for i, one := range v.Values {
		lines[i] = one.Line
	}
	return lines
}

// add makes the points of a batch the last ones. Where there is no room for all, the oldest go: those of users who are
// long gone, say.
func (v *Last) add(b *Batch) {
	newest := map[string]LastValue{}
	for _, old := range v.Values {
		newest[seriesKey(old.Line)] = old
	}
	for _, l := range b.lines {
		key := seriesKey(l)
		before, known := newest[key]
		l.Buckets, l.Bounds = nil, nil // a page shows the count and the sum
		next := LastValue{Line: l}
		switch {
		case known && l.At.Equal(before.At) && l.Since.Equal(before.Since): // the batch comes again
			next.Recent, next.From = before.Recent, before.From
		case known:
			next.Recent, next.From = recent(l, before.Line)
		default:
			next.Recent, next.From = recent(l, telemetry.Line{At: l.Since, Since: l.Since})
		}
		newest[key] = next
	}
	keys := slices.SortedFunc(maps.Keys(newest), func(a, b string) int {
		return cmp.Or(newest[b].At.Compare(newest[a].At), strings.Compare(a, b))
	})
	v.Values, v.Left = nil, 0
	size := 0
	for _, key := range keys {
		if age := b.At.Sub(newest[key].At); age > maxAge || age < -maxAhead { // ahead: the cell's clock was wrong
			continue
		}
		text, err := json.Marshal(newest[key])
		if size += len(text) + 1; err != nil || size > maxValues {
			v.Left++
			continue
		}
		v.Values = append(v.Values, newest[key])
	}
	slices.SortFunc(v.Values, func(a, b LastValue) int { return strings.Compare(seriesKey(a.Line), seriesKey(b.Line)) })
}

// recent returns what a series did between two points, and since when; nil: it is not known. A counter that began anew
// since the point before began at zero.
func recent(l, before telemetry.Line) (*float64, time.Time) {
	var value float64
	switch l.Type {
	case export.Gauge:
		return l.Value, l.At
	case export.Counter:
		last := 0.0
		if before.Value != nil && l.Since.Equal(before.Since) {
			last = *before.Value
		} else {
			before.At = l.Since
		}
		seconds := l.At.Sub(before.At).Seconds()
		if l.Value == nil || before.At.IsZero() || seconds <= 0 || *l.Value < last {
			return nil, time.Time{}
		}
		value = (*l.Value - last) / seconds
	case export.Histogram:
		count, sum := l.Count, l.Sum
		if l.Since.Equal(before.Since) && before.Count <= count {
			count, sum = count-before.Count, sum-before.Sum
		} else {
			before.At = l.Since
		}
		if count == 0 {
			return nil, time.Time{}
		}
		value = sum / float64(count)
	default:
		return nil, time.Time{}
	}
	return &value, before.At
}

func seriesKey(l telemetry.Line) string {
	var key strings.Builder
	key.WriteString(l.Metric + "\x00" + l.Event)
	for _, name := range slices.Sorted(maps.Keys(l.Labels)) {
		key.WriteString("\x00" + name + "\x00" + l.Labels[name])
	}
	return key.String()
}
