package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/releases/export"
)

// Line is one line of what leaves a cell, as JSON: a point of a metric, or an event.
type Line struct {
	At     time.Time         `json:"at"`               // by the cell's clock
	Metric string            `json:"metric,omitempty"` // name of the metric; empty: an event
	Type   export.Type       `json:"type,omitempty"`   // of the metric
	Event  string            `json:"event,omitempty"`  // kind of the event
	Labels map[string]string `json:"labels,omitempty"`
	Fields map[string]Scalar `json:"fields,omitempty"` // of an event

	Value *float64  `json:"value,omitempty"` // of a gauge or a counter
	Since time.Time `json:"since,omitzero"`  // when a counter or a histogram began at zero

	Count   uint64    `json:"count,omitempty"` // of a histogram, as is what follows
	Sum     float64   `json:"sum,omitempty"`
	Bounds  []float64 `json:"bounds,omitempty"`  // upper bounds of all buckets but the last
	Buckets []uint64  `json:"buckets,omitempty"` // how many are in each, not in those before
}

// Scalar is a string or a float64.
type Scalar struct{ Value any }

func (s Scalar) MarshalJSON() ([]byte, error) { return json.Marshal(s.Value) }

// UnmarshalJSON refuses what is nested before it is decoded: a small batch can't become much memory.
func (s *Scalar) UnmarshalJSON(text []byte) error {
	if text[0] == '{' || text[0] == '[' {
		return errors.New("a field is a string or a number")
	}
	if err := json.Unmarshal(text, &s.Value); err != nil {
		return err
	}
	switch s.Value.(type) {
	case string, float64:
		return nil
	}
	return errors.New("a field is a string or a number")
}

// Append appends the line as JSON, as json.Marshal encodes it, which is ten times as slow for the points of metrics.
func (l *Line) Append(b []byte) ([]byte, error) {
	if l.Event != "" || l.Type == export.Histogram || l.Value == nil || l.Count != 0 || len(l.Fields) > 0 ||
		l.At.Year() > 9999 || l.Since.Year() > 9999 {
		text, err := json.Marshal(l)
		return append(b, text...), err
	}
	b = append(l.At.AppendFormat(append(b, `{"at":"`...), time.RFC3339Nano), `","metric":`...)
	b = append(appendText(b, l.Metric), `,"type":`...)
	b = appendText(b, string(l.Type))
	if len(l.Labels) > 0 {
		b = append(b, `,"labels":`...)
		next := byte('{')
		for _, name := range slices.Sorted(maps.Keys(l.Labels)) {
			b = append(appendText(append(b, next), name), ':')
			b, next = appendText(b, l.Labels[name]), ','
		}
		b = append(b, '}')
	}
	value, err := json.Marshal(*l.Value) // the only one of its kind that is exact and the same everywhere
	if err != nil {
		return b, err
	}
	b = append(append(b, `,"value":`...), value...)
	if !l.Since.IsZero() {
		b = append(l.Since.AppendFormat(append(b, `,"since":"`...), time.RFC3339Nano), '"')
	}
	return append(b, '}'), nil
}

// appendText appends a text as JSON.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, _ := json.Marshal(text) // a string never fails
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// MaxLine bounds a line, in bytes.
const MaxLine = 16 << 10

// maxBuckets bounds the buckets of a histogram.
const maxBuckets = 128

// ParseLine reads a line, and checks what a receiver relies on.
func ParseLine(text []byte) (l Line, err error) {
	if len(text) > MaxLine {
		return l, fmt.Errorf("a line has %d bytes, and %d are allowed", len(text), MaxLine)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, fmt.Errorf("a line is malformed: %w", err)
	}
	switch {
	case l.At.IsZero():
		return l, errors.New("a line has no time")
	case (l.Metric == "") == (l.Event == ""):
		return l, errors.New("a line is either a metric or an event")
	case l.Event != "":
		return l, nil
	case l.Type == export.Histogram && !validHistogram(l.Bounds, l.Buckets):
		return l, fmt.Errorf("%.80q: its buckets don't match their bounds", l.Metric)
	case l.Type != export.Histogram && (l.Value == nil || l.Type != export.Gauge && l.Type != export.Counter):
		return l, fmt.Errorf("%.80q: it has no value, or no type", l.Metric)
	}
	return l, nil
}

func validHistogram(bounds []float64, buckets []uint64) bool {
	if len(buckets) != len(bounds)+1 || len(buckets) > maxBuckets {
		return false
	}
	for i, b := range bounds {
		if math.IsNaN(b) || math.IsInf(b, 0) || i > 0 && b <= bounds[i-1] {
			return false
		}
	}
	return true
}
