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
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/releases"
)

const (
	positionKind = "export"
	valuesKind   = "export-values"
	maxGaps      = 10
	maxLines     = 20_000 // of a batch
	maxWhy       = 200    // characters of why something is missing
	quiet        = maxAge // after the last batch
)

// ErrInvalid means that a batch can't be taken as it is. Nothing was stored; its error says what is wrong.
var ErrInvalid = errors.New("not a batch of exports")

// State is what is kept of a cell.
type State struct {
	Position
	Last
}

// Position is how far a cell's exports are.
type Position struct {
	cells.ExportReceipt
	Epoch    int64             `json:"epoch,omitempty" doc:"of the identity that the cell had"`
	Began    time.Time         `json:"began"`          // when the first batch came after the last long pause
	At       time.Time         `json:"at"`             // end of the minute of the last batch, by the cell's clock
	Received time.Time         `json:"received"`       // of the last batch
	Gaps     []cells.ExportGap `json:"gaps,omitempty"` // the newest last
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
	if b.Gap != nil && utf8.RuneCountInString(b.Gap.Why) > maxWhy { // the position keeps several of them
		return nil, fmt.Errorf("%w: why something is missing has more than %d characters", ErrInvalid, maxWhy)
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

// Take stores a batch of a cell, if it is the next one, and says which batch of the cell is the last now. epoch is that
// of the cell's identity: with another one it is another cell under the name, and nothing of the former is left.
func (k *Keeper) Take(ctx context.Context, b *Batch, epoch int64, now time.Time) (cells.ExportReceipt, error) {
	position, version, err := load[Position](ctx, k, positionKind, b.Cell)
	if err == nil && position.isOfAnother(epoch) {
		position, version = Position{}, 0
		err = k.forget(ctx, b.Cell)
	}
	if err != nil {
		return cells.ExportReceipt{}, err
	}
	position.Epoch = epoch
	if b.Sequence != position.Sequence+1 || b.Previous != position.Hash {
		return position.ExportReceipt, nil // the cell goes on from there
	}
	if k.sink != nil {
		if err := k.sink.Send(ctx, b.Cell, b.lines); err != nil {
			return cells.ExportReceipt{}, fmt.Errorf("pass on the exports of %s: %w", b.Cell, err)
		}
	}
	ctx = context.WithoutCancel(ctx) // the endpoint has it: a cell that went away meanwhile must not send it again
	if len(b.lines) > 0 {
		last, version, err := load[Last](ctx, k, valuesKind, b.Cell)
		if err != nil {
			return cells.ExportReceipt{}, err
		}
		last.add(b)
		if err := k.put(ctx, valuesKind, b.Cell, version, last); err != nil {
			return cells.ExportReceipt{}, err
		}
	}
	position.add(b, now) // last: it acknowledges
	if err := k.put(ctx, positionKind, b.Cell, version, position); err != nil {
		return cells.ExportReceipt{}, err
	}
	return position.ExportReceipt, nil
}

// Load returns what is kept of a cell; the zero State: nothing.
func (k *Keeper) Load(ctx context.Context, cell string) (s State, err error) {
	if s.Position, _, err = load[Position](ctx, k, positionKind, cell); err == nil {
		s.Last, _, err = load[Last](ctx, k, valuesKind, cell)
	}
	return s, err
}

// load returns a record of a cell; the zero value: there is none.
func load[T any](ctx context.Context, k *Keeper, kind, cell string) (v T, version int64, err error) {
	r, err := k.records.Get(ctx, kind, cell)
	if errors.Is(err, records.ErrNotFound) {
		return v, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(r.Body, &v)
	}
	if err != nil {
		return v, 0, fmt.Errorf("exports of %s: %w", cell, err)
	}
	return v, r.Version, nil
}

func (k *Keeper) put(ctx context.Context, kind, cell string, version int64, v any) error {
	body, err := json.Marshal(v)
	if err == nil {
		_, err = k.records.Put(ctx, records.Record{Kind: kind, Key: cell, Version: version, Body: body})
	}
	if err != nil {
		return fmt.Errorf("exports of %s: %w", cell, err)
	}
	return nil
}

// add takes note of a batch that was passed on.
func (p *Position) add(b *Batch, now time.Time) {
	if p.Began.IsZero() || now.Sub(p.Received) > quiet {
		p.Began = now
	}
	p.ExportReceipt = cells.ExportReceipt{Sequence: b.Sequence, Hash: b.hash}
	p.At, p.Received = b.At, now
	if b.Gap != nil {
		p.Gaps = append(p.Gaps, *b.Gap)
		p.Gaps = p.Gaps[max(0, len(p.Gaps)-maxGaps):]
	}
}
