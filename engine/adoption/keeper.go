package adoption

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// Engine is what is counted: an engine.Engine.
type Engine interface {
	View() *view.View
	Leads() bool
	Now() time.Time
}

// Keeper counts, and keeps the counts.
type Keeper struct {
	engine Engine
	store  records.Store
	log    zerolog.Logger

	// The fields below belong to Run's goroutine.
	today  time.Time // the day that days is of
	days   map[string]*keptDay
	rolled time.Time // the day on which older days were last rolled up
}

// keptDay is a channel's day as the store has it, with what was counted since.
type keptDay struct {
	Day
	version int64
	written int // Until as the store has it
}

// NewKeeper returns a Keeper and starts nothing.
func NewKeeper(e Engine, s records.Store, log zerolog.Logger) *Keeper {
	return &Keeper{engine: e, store: s, log: log}
}

// Run counts once a minute until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := k.Sample(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn().Err(err).Msg("which cells run what was not kept for a minute")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sample counts once, if this process leads. It must not be called while Run runs.
func (k *Keeper) Sample(ctx context.Context) error {
	v := k.engine.View()
	if v == nil || v.Desired == nil || v.Observed == nil || !k.engine.Leads() {
		k.days = nil // another process may write meanwhile
		return nil
	}
	now := k.engine.Now().UTC()
	if today := now.Truncate(24 * time.Hour); k.days == nil || !today.Equal(k.today) {
		k.today, k.days = today, map[string]*keptDay{}
	}
	minute := int(now.Sub(k.today) / time.Minute)
	for channel, counts := range Count(v) {
		if err := k.add(ctx, channel, minute, counts); err != nil {
			k.days = nil
			return err
		}
	}
	if k.rolled.Equal(k.today) {
		return nil
	}
	if err := k.rollUp(ctx); err != nil {
		return err
	}
	k.rolled = k.today
	return nil
}

// add adds a count to a channel's day, and writes the day if that is due.
func (k *Keeper) add(ctx context.Context, channel string, minute int, counts map[Kind]int) error {
	name := key(channel, k.today)
	d := k.days[name]
	if d == nil {
		d = &keptDay{}
		switch r, err := k.store.Get(ctx, recordKind, name); {
		case errors.Is(err, records.ErrNotFound):
		case err != nil:
			return fmt.Errorf("read the counts of %s: %w", name, err)
		case d.UnmarshalJSON(r.Body) != nil: // of another version: it is begun anew
			d.Day, d.version = Day{}, r.Version
		default:
			d.version, d.written = r.Version, d.Until
		}
		k.days[name] = d
	}
	if !d.Add(minute, counts) && d.version != 0 && minute-d.written < touchAfter {
		return nil
	}
	return k.write(ctx, name, d)
}

func (k *Keeper) write(ctx context.Context, name string, d *keptDay) error {
	body, err := d.encode()
	if err == nil {
		var r records.Record
		r, err = k.store.Put(ctx, records.Record{Kind: recordKind, Key: name, Version: d.version, Body: body})
		d.version = r.Version
	}
	if err != nil {
		return fmt.Errorf("keep the counts of %s: %w", name, err)
	}
	d.written = d.Until
	return nil
}

// rollUp rolls the days before yesterday up to hours, and deletes those that are too old.
func (k *Keeper) rollUp(ctx context.Context) error {
	for r, err := range records.All(ctx, k.store, recordKind, records.Page{}) {
		if err != nil {
			return fmt.Errorf("list the counts: %w", err)
		}
		if err := k.rollUpOne(ctx, r); err != nil && !errors.Is(err, records.ErrConflict) {
			return err
		}
	}
	return nil
}

func (k *Keeper) rollUpOne(ctx context.Context, r records.Record) error {
	date, ok := dayOf(r.Key)
	switch age := k.today.Sub(date); {
	case !ok || age > Days*24*time.Hour:
		if err := k.store.Delete(ctx, recordKind, r.Key, r.Version); err != nil {
			return fmt.Errorf("delete the counts of %s: %w", r.Key, err)
		}
		return nil
	case age < 2*24*time.Hour:
		return nil
	}
	d := keptDay{version: r.Version}
	if err := d.UnmarshalJSON(r.Body); err != nil || d.Step >= rolledUp {
		return nil // of another version: it ends with its age
	}
	d.RollUp(rolledUp)
	return k.write(ctx, r.Key, &d)
}

// Read returns a channel's last 30 days; with an empty name, those of all cells. Nothing is known: no samples.
func Read(ctx context.Context, from records.Store, channel string, now time.Time) (*Series, error) {
	since := now.UTC().Truncate(24 * time.Hour).Add(-Days * 24 * time.Hour)
	page, err := from.List(ctx, recordKind, records.Page{Prefix: channel + "/", After: key(channel, since),
		Limit: Days + 1})
	if err != nil {
		return nil, fmt.Errorf("read the counts of %q: %w", channel, err)
	}
	days, points := make([]Day, len(page)), 0
	for i, r := range page {
		if days[i].UnmarshalJSON(r.Body) != nil {
			days[i] = Day{} // of another version
		}
		points += len(days[i].Points)
	}
	s := Series{Samples: make([]Sample, 0, points+len(days))}
	for i, r := range page {
		if date, ok := dayOf(r.Key); ok && len(days[i].Points) > 0 {
			s.add(date, &days[i])
		}
	}
	return &s, nil
}
