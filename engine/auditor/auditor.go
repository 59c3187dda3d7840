// Package auditor keeps rows in the audit of what is found out, rather than asked for: the decisions of cells' owners
// and what became of debug access, as their cells report them, and the commits that actions of people led to. It
// watches the engine's views beside the engine's own loop; nothing in the engine waits for it.
//
// What has a row is remembered in the store's records, so that it has one row, also after a restart or with another
// leader: a row is remembered before it is stored, and after a crash in between it is looked for. Only the leader
// writes. What is due is decided by pure functions (find.go).
//
// Run must be called once.
package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// Engine is what is watched: an engine.Engine.
type Engine interface {
	View() *view.View
	Changed() <-chan struct{} // closed when View returns another
	Leads() bool
	Now() time.Time
}

// Store has the audit and the kills.
type Store interface {
	RecordAudit(ctx context.Context, e access.Entry) error
	AuditEntries(ctx context.Context, limit int) ([]access.Entry, error) // newest first
	Kills(ctx context.Context) ([]plan.Kill, error)
	Records() records.Store
}

const (
	recordKind = "audit"
	restFactor = 20               // after a look, the next one waits for so many times its duration, up to lookAgain
	lookAgain  = time.Minute      // at the latest: a kill is committed without a view that says so
	recentRows = 1000             // in which a row is looked for after a crash
	retryAfter = 10 * time.Second // after an error
)

// Auditor is the loop.
type Auditor struct {
	engine Engine
	store  Store
	log    zerolog.Logger
	gap    time.Duration // the least time between two looks at the views
	began  time.Time     // without a memory, commits up to then have no rows

	// The fields below belong to Run's goroutine.
	known    map[string]memo // nil: it is to be read from the store
	versions map[string]int64
	leads    bool
}

// New returns an auditor. gap is the least time between two looks at the views; 0: 5 s.
func New(e Engine, s Store, log zerolog.Logger, gap time.Duration) *Auditor {
	if gap <= 0 {
		gap = 5 * time.Second
	}
	return &Auditor{engine: e, store: s, log: log, gap: gap, began: e.Now().UTC()}
}

// Run runs until ctx ends.
func (a *Auditor) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := a.engine.Changed()
		began := time.Now()
		wait := a.look(ctx)
		timer.Reset(max(a.gap, min(lookAgain, restFactor*time.Since(began))))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-changed:
		}
	}
}

// look stores what is due by the newest view, and returns how long to wait for another.
func (a *Auditor) look(ctx context.Context) (wait time.Duration) {
	v, leads := a.engine.View(), a.engine.Leads()
	if leads != a.leads {
		a.leads, a.known = leads, nil // another process may have written meanwhile
	}
	if v == nil || v.Observed == nil || !leads {
		return lookAgain
	}
	next, err := a.storeRows(ctx, v)
	if err != nil {
		a.known = nil
		if ctx.Err() == nil && !errors.Is(err, records.ErrConflict) {
			a.log.Warn().Err(err).Msg("what was found out is not in the audit yet: trying again")
		}
		return retryAfter
	}
	if next.IsZero() {
		return lookAgain
	}
	return min(lookAgain, max(next.Sub(a.engine.Now()), a.gap))
}

func (a *Auditor) storeRows(ctx context.Context, v *view.View) (next time.Time, err error) {
	now := a.engine.Now().UTC().Truncate(time.Millisecond)
	if a.known == nil {
		if err := a.readMemory(ctx); err != nil {
			return next, err
		}
	}
	found, next := findOwners(v.Desired, v.Observed.Cells, a.known, now)
	found = append(found, findDebug(v.Desired, v.Observed.Cells, a.known, now)...)
	found = append(found, findCommits(v.Desired, a.known[commitsKey], now)...)
	if v.Flags != nil {
		kills, err := a.store.Kills(ctx)
		if err != nil {
			return next, fmt.Errorf("read kills: %w", err)
		}
		found = append(found, findKills(kills, a.known, now)...)
	}
	for _, f := range found {
		if err := a.remember(ctx, f.key, f.memo); err != nil {
			return next, err
		}
		if err := a.finish(ctx, f.key); err != nil {
			return next, err
		}
	}
	return next, nil
}

// finish stores the row that is remembered of a subject, and remembers that it is stored.
func (a *Auditor) finish(ctx context.Context, key string) error {
	m := a.known[key]
	if err := a.store.RecordAudit(ctx, m.Entry); err != nil {
		return fmt.Errorf("store a row about %s: %w", key, err)
	}
	m.Stored = true
	return a.remember(ctx, key, m)
}

// remember stores a memo. Of two processes that remember the same, one succeeds.
func (a *Auditor) remember(ctx context.Context, key string, m memo) error {
	body, err := json.Marshal(m)
	if err == nil {
		var r records.Record
		r, err = a.store.Records().Put(ctx,
			records.Record{Kind: recordKind, Key: key, Version: a.versions[key], Body: body})
		a.versions[key] = r.Version
	}
	if err != nil {
		return fmt.Errorf("remember the row about %s: %w", key, err)
	}
	a.known[key] = m
	return nil
}

// readMemory reads which rows there are, and stores rows that a crash left out.
func (a *Auditor) readMemory(ctx context.Context) error {
	known, versions := map[string]memo{}, map[string]int64{}
	var open []string
	for r, err := range records.All(ctx, a.store.Records(), recordKind, records.Page{}) {
		if err != nil {
			return fmt.Errorf("read what is in the audit: %w", err)
		}
		var m memo
		if err := json.Unmarshal(r.Body, &m); err != nil {
			return fmt.Errorf("read what is in the audit of %q: %w", r.Key, err)
		}
		known[r.Key], versions[r.Key] = m, r.Version
		if !m.Stored {
			open = append(open, r.Key)
		}
	}
	a.known, a.versions = known, versions
	if _, ok := known[commitsKey]; !ok {
		if err := a.remember(ctx, commitsKey, memo{Stored: true, Since: a.began}); err != nil {
			return err
		}
	}
	return a.finishOpen(ctx, open)
}

func (a *Auditor) finishOpen(ctx context.Context, open []string) error {
	if len(open) == 0 {
		return nil
	}
	newest, err := a.store.AuditEntries(ctx, recentRows)
	if err != nil {
		return fmt.Errorf("look for rows: %w", err)
	}
	for _, key := range open {
		m := a.known[key]
		there := slices.ContainsFunc(newest, func(e access.Entry) bool {
			return e.At.Equal(m.Entry.At) && e.Who == m.Entry.Who && e.What == m.Entry.What
		})
		if m.Stored = there; there {
			err = a.remember(ctx, key, m)
		} else {
			err = a.finish(ctx, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
