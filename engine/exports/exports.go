// Package exports takes what cells export: batches of metrics and events of their programs, each of which the cell's
// owner agreed to. It checks that the batches of a cell are a chain without a silent gap, passes them on to an OTLP
// endpoint of the vendor's, if there is one, and keeps the last value of each series, but no series.
//
// A batch is acknowledged after the endpoint has it and the cell's position is durable. So an endpoint that is down for
// a day costs nothing: cells keep what they could not send. After a crash between the two the endpoint gets the same
// points again, with the same times.
//
// A Keeper may be used by many goroutines and replicas at once: of two batches with one sequence one is taken.
package exports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	recordKind = "export"
	maxGaps    = 10
	maxValues  = 48 << 10 // bytes of the last values that are kept of a cell
	maxLines   = 20_000   // of a batch
	maxAge     = 2 * export.MaxEvery
)

// ErrInvalid means that a batch can't be taken as it is. Nothing was stored; its error says what is wrong.
var ErrInvalid = errors.New("not a batch of exports")

// State is what is kept of a cell.
type State struct {
	cells.ExportReceipt
	At       time.Time         `json:"at"`             // end of the minute of the last batch, by the cell's clock
	Received time.Time         `json:"received"`       // of the last batch
	Gaps     []cells.ExportGap `json:"gaps,omitempty"` // the newest last
	Values   []telemetry.Line  `json:"values,omitempty"`
	Left     int               `json:"left,omitempty"` // series whose values there was no room for
}

// Sink passes a batch on. An error means that it should be tried again.
type Sink interface {
	Send(ctx context.Context, cell string, lines []telemetry.Line) error
}

// Keeper takes batches.
type Keeper struct {
	records records.Store
	sink    Sink // nil: nothing is passed on
}

// New returns a keeper. A nil sink passes nothing on.
func New(r records.Store, sink Sink) *Keeper { return &Keeper{r, sink} }

// Batch is what a cell sent, read and checked on its own.
type Batch struct {
	cells.ExportHeader
	hash  string
	lines []telemetry.Line
}

// Parse reads a batch from its compressed body. Its errors wrap ErrInvalid.
func Parse(body []byte) (*Batch, error) {
	decoder, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(cells.MaxExportedText))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer decoder.Close()
	text, err := io.ReadAll(io.LimitReader(decoder, cells.MaxExportedText+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: its zstd is damaged: %w", ErrInvalid, err)
	case len(text) > cells.MaxExportedText:
		return nil, fmt.Errorf("%w: it unpacks to more than %d bytes", ErrInvalid, cells.MaxExportedText)
	}
	header, content, _ := bytes.Cut(text, []byte("\n"))
	b := &Batch{hash: string(releases.DigestBytes(header))}
	if len(header) > telemetry.MaxLine {
		return nil, fmt.Errorf("%w: its header has more than %d bytes", ErrInvalid, telemetry.MaxLine)
	}
	d := json.NewDecoder(bytes.NewReader(header))
	d.DisallowUnknownFields()
	if err := d.Decode(&b.ExportHeader); err != nil {
		return nil, fmt.Errorf("%w: its header is malformed: %w", ErrInvalid, err)
	}
	if got := string(releases.DigestBytes(content)); got != b.Content {
		return nil, fmt.Errorf("%w: its lines have the hash %s, and its header says %.80s", ErrInvalid, got, b.Content)
	}
	if b.Sequence < 1 || b.At.IsZero() {
		return nil, fmt.Errorf("%w: its header lacks a sequence or a time", ErrInvalid)
	}
	for line := range bytes.Lines(content) {
		l, err := telemetry.ParseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, len(b.lines)+2, err)
		}
		if b.lines = append(b.lines, l); len(b.lines) > maxLines {
			return nil, fmt.Errorf("%w: it has more than %d lines", ErrInvalid, maxLines)
		}
	}
	return b, nil
}

// Take stores a batch of a cell, if it is the next one, and says which batch of the cell is the last now.
func (k *Keeper) Take(ctx context.Context, b *Batch, now time.Time) (cells.ExportReceipt, error) {
	state, version, err := k.load(ctx, b.Cell)
	if err != nil {
		return cells.ExportReceipt{}, err
	}
	if b.Sequence != state.Sequence+1 || b.Previous != state.Hash {
		return state.ExportReceipt, nil // the cell goes on from there
	}
	if k.sink != nil {
		if err := k.sink.Send(ctx, b.Cell, b.lines); err != nil {
			return cells.ExportReceipt{}, fmt.Errorf("pass on the exports of %s: %w", b.Cell, err)
		}
	}
	state.add(b, now)
	body, err := json.Marshal(state)
	if err != nil {
		return cells.ExportReceipt{}, fmt.Errorf("exports of %s: %w", b.Cell, err)
	}
	// The endpoint has it: a cell that went away meanwhile must not send it again.
	if _, err := k.records.Put(context.WithoutCancel(ctx), records.Record{Kind: recordKind, Key: b.Cell,
		Version: version,
		Body:    body}); err != nil {
		return cells.ExportReceipt{}, fmt.Errorf("exports of %s: %w", b.Cell, err)
	}
	return state.ExportReceipt, nil
}

// Load returns what is kept of a cell; the zero State: nothing.
func (k *Keeper) Load(ctx context.Context, cell string) (State, error) {
	s, _, err := k.load(ctx, cell)
	return s, err
}

func (k *Keeper) load(ctx context.Context, cell string) (s State, version int64, err error) {
	r, err := k.records.Get(ctx, recordKind, cell)
	if errors.Is(err, records.ErrNotFound) {
		return s, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(r.Body, &s)
	}
	if err != nil {
		return s, 0, fmt.Errorf("exports of %s: %w", cell, err)
	}
	return s, r.Version, nil
}

// add takes note of a batch that was passed on.
func (s *State) add(b *Batch, now time.Time) {
	s.ExportReceipt = cells.ExportReceipt{Sequence: b.Sequence, Hash: b.hash}
	s.At, s.Received = b.At, now
	if b.Gap != nil {
		s.Gaps = append(s.Gaps, *b.Gap)
		s.Gaps = s.Gaps[max(0, len(s.Gaps)-maxGaps):]
	}
	newest := map[string]telemetry.Line{}
	for _, l := range append(slices.Clone(s.Values), b.lines...) {
		if b.At.Sub(l.At) > maxAge {
			continue
		}
		l.Buckets, l.Bounds = nil, nil // a page shows the count and the sum
		newest[seriesKey(l)] = l
	}
	s.Values, s.Left = nil, 0
	size := 0
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		text, err := json.Marshal(newest[key])
		if size += len(text) + 1; err != nil || size > maxValues {
			s.Left++
			continue
		}
		s.Values = append(s.Values, newest[key])
	}
}

func seriesKey(l telemetry.Line) string {
	var key strings.Builder
	key.WriteString(l.Metric + "\x00" + l.Event)
	for _, name := range slices.Sorted(maps.Keys(l.Labels)) {
		key.WriteString("\x00" + name + "\x00" + l.Labels[name])
	}
	return key.String()
}
