package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
)

// submission is one caller's reports, encoded, on the way to the writer.
type submission struct {
	cells  []cellRow
	events []eventRow
	served []servedRow
	answer chan error // buffered: the caller may have gone
}

func (b *submission) rows() int { return len(b.cells) + len(b.events) }

type cellRow struct {
	name, channel, release, state string
	lastReport                    int64
	body                          string
}

type eventRow struct {
	cell, boot string
	number     int64
	body       string
}

type servedRow struct {
	channel  string
	sequence int64
}

// Report keeps cells' states and events, all or none of the batch, durable when it returns. Reports of
// one cell that are under way at the same time are kept in no particular order: the caller keeps them apart.
// If ctx ends first, whether they were kept is not known.
func (s *Store) Report(ctx context.Context, batch []engine.Reported) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sub, err := submit(batch)
	if err != nil || sub.rows() == 0 {
		return err
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return ErrClosed
	}
	select {
	case s.queue <- sub:
		s.mu.RUnlock()
	case <-ctx.Done():
		s.mu.RUnlock()
		return ctx.Err()
	}
	select {
	case err := <-sub.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// submit encodes in the caller's goroutine, so that the one writer only writes.
func submit(batch []engine.Reported) (*submission, error) {
	sub := &submission{answer: make(chan error, 1)}
	for _, r := range batch {
		if r.State == nil || r.State.Name == "" {
			return nil, errors.New("keep a report: it names no cell")
		}
		body, err := encode(r.State)
		if err != nil {
			return nil, fmt.Errorf("keep the report of %s: %w", r.State.Name, err)
		}
		sub.cells = append(sub.cells, cellRow{
			name: r.State.Name, channel: r.State.Channel, release: r.State.Release, state: string(r.State.State),
			lastReport: millis(r.State.LastReport), body: body,
		})
		sub.served = append(sub.served, servedRow{r.State.Channel, r.State.Sequence})
		for _, a := range []*cells.Assignment{r.State.Running, r.State.Applying, r.State.Granted} {
			if a != nil {
				sub.served = append(sub.served, servedRow{cmp.Or(a.Channel, r.State.Channel), a.Sequence})
			}
		}
		for _, e := range r.Events {
			body, err := encode(e)
			if err != nil {
				return nil, fmt.Errorf("keep event %d of %s: %w", e.Number, r.State.Name, err)
			}
			sub.events = append(sub.events, eventRow{r.State.Name, r.Boot, e.Number, body})
		}
	}
	return sub, nil
}
