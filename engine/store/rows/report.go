package rows

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Report is one caller's reports as rows: all of them are kept, or none.
type Report struct {
	Cells    []Cell
	Events   []Event
	Served   []Sequence
	Material bool // one of them says something new

	result chan error // buffered: the caller may have gone
}

// Cell is a cell's state as a row. Body is the whole of it; the rest is for people who look inside, and Version decides.
type Cell struct {
	Name, Channel, Release, State string
	LastReport                    int64 // Unix milliseconds
	Version                       int64
	Body                          string
}

// Event is one line of a cell's history.
type Event struct {
	Cell, Boot string
	Number     int64
	Body       string
}

// Sequence is one that a cell was served, or told of (R2).
type Sequence struct {
	Channel string
	Number  int64
}

// EncodeReports spells reports out as rows, in the caller's goroutine: who writes them only writes.
func EncodeReports(batch []plan.Reported) (*Report, error) {
	r := &Report{Cells: make([]Cell, 0, len(batch)), result: make(chan error, 1)}
	for _, b := range batch {
		if b.State == nil || b.State.Name == "" {
			return nil, errors.New("keep a report: it names no cell")
		}
		if err := r.addReported(b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Report) addReported(b plan.Reported) error {
	s := b.State
	body, err := encodeState(s)
	if err != nil {
		return fmt.Errorf("keep the report of %s: %w", s.Name, err)
	}
	r.Material = r.Material || b.Material
	r.Cells = append(r.Cells, Cell{
		Name: s.Name, Channel: s.Channel, Release: s.Release, State: string(s.State),
		LastReport: Millis(s.LastReport), Version: s.Version, Body: body,
	})
	serve := func(channel string, sequence int64) {
		if !slices.Contains(b.Strange, channel) {
			r.Served = append(r.Served, Sequence{channel, sequence})
		}
	}
	serve(s.Channel, s.Sequence)
	for _, a := range []*cells.Assignment{s.Running, s.Applying, s.Granted} {
		if a != nil {
			serve(cmp.Or(a.Channel, s.Channel), a.Sequence)
		}
	}
	for _, e := range b.Events {
		body, err := Encode(e)
		if err != nil {
			return fmt.Errorf("keep event %d of %s: %w", e.Number, s.Name, err)
		}
		r.Events = append(r.Events, Event{s.Name, b.Boot, e.Number, body})
	}
	return nil
}

// Empty tells whether there is nothing to keep.
func (r *Report) Empty() bool { return len(r.Cells) == 0 }

// Millis gives Unix milliseconds; 0 for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMillis reads what Millis gives.
func FromMillis(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}
