package rows

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Report holds the rows of one caller's reports, which are stored together or not at all.
type Report struct {
	Cells    []Cell
	Events   []Event
	Material bool // at least one report says something new
}

// Cell is the row of a cell's state. Version and Body, the whole state, are used; the other columns are for people.
type Cell struct {
	Name, Channel, Release, State string
	LastReport                    int64 // Unix milliseconds
	Version                       int64
	Body                          string
}

// Event is the row of an event in a cell's history.
type Event struct {
	Cell, Boot string
	Number     int64
	Body       string
}

// Sequence is a sequence of a channel that was decided or granted (R2).
type Sequence struct {
	Channel string
	Number  int64
}

// EncodeReports encodes reports as rows in the caller's goroutine, so that the writer only writes.
func EncodeReports(batch []plan.Reported) (*Report, error) {
	r := &Report{Cells: make([]Cell, 0, len(batch))}
	for _, b := range batch {
		if b.State == nil || b.State.Name == "" {
			return nil, errors.New("store a report: the report names no cell")
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
		return fmt.Errorf("store the report of %s: %w", s.Name, err)
	}
	r.Material = r.Material || b.Material
	r.Cells = append(r.Cells, Cell{
		Name: s.Name, Channel: s.Channel, Release: s.Release, State: string(s.State),
		LastReport: Millis(s.LastReport), Version: s.Version, Body: body,
	})
	for _, e := range b.Events {
		body, err := Encode(e)
		if err != nil {
			return fmt.Errorf("store event %d of %s: %w", e.Number, s.Name, err)
		}
		r.Events = append(r.Events, Event{s.Name, b.Boot, e.Number, body})
	}
	return nil
}

// Empty reports whether there is nothing to store.
func (r *Report) Empty() bool { return len(r.Cells) == 0 }

// Millis returns t in Unix milliseconds; 0 for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMillis is the inverse of Millis.
func FromMillis(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}
