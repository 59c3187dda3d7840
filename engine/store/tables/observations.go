package tables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Observations reads what was observed.
type Observations struct{ db Database }

// Known returns everything but the cells and Clock, as of one instant. It reads no cell.
func (o Observations) Known(ctx context.Context) (plan.Observed, error) {
	return readTx(ctx, o.db, "read the store", readKnown)
}

// Cells returns the states of the named cells; without a name, of all. It reads no other cells' rows.
func (o Observations) Cells(ctx context.Context, names ...string) (map[string]*plan.CellState, error) {
	return readTx(ctx, o.db, "read cells", func(r Reader) (map[string]*plan.CellState,
		error) {
		return readCells(r, names)
	})
}

// Observed returns Known with all Cells, as of one instant.
func (o Observations) Observed(ctx context.Context) (plan.Observed, error) {
	return readTx(ctx, o.db, "read the store", func(r Reader) (plan.Observed, error) {
		known, err := readKnown(r)
		if err == nil {
			known.Cells, err = readCells(r, nil)
		}
		return known, err
	})
}

// Events returns at most limit of a cell's newest events, oldest first.
func (o Observations) Events(ctx context.Context, cell string, limit int) ([]cells.Event, error) {
	return readJSON[cells.Event](ctx, o.db, "read the events of "+cell,
		`SELECT body FROM (SELECT id, body FROM events
			WHERE cell = $1 ORDER BY id DESC LIMIT $2) AS newest ORDER BY id`, cell, limit)
}

func readKnown(r Reader) (plan.Observed, error) {
	o := plan.Observed{Served: map[string]int64{}, Refused: map[string]plan.Refusal{}}
	for _, step := range []func(Reader, *plan.Observed) error{readLearned, readFacts, readMaps, readFleet} {
		if err := step(r, &o); err != nil {
			return plan.Observed{}, err
		}
	}
	return o, nil
}

func readCells(r Reader, names []string) (map[string]*plan.CellState, error) {
	cellsOf, grantsOf := `SELECT body, version FROM cells`, `SELECT cell, assignment, granted_at FROM grants`
	var args []any
	if len(names) > 0 {
		cellsOf, grantsOf, args = cellsOf+` WHERE name = ANY($1)`, grantsOf+` WHERE cell = ANY($1)`, []any{names}
	}
	var bodies []string
	var versions []int64
	var body string
	var version int64
	err := r.Each(cellsOf, args, []any{&body, &version}, func() error {
		bodies, versions = append(bodies, body), append(versions, version)
		return nil
	})
	if err != nil {
		return nil, err
	}
	states, err := rows.DecodeStates(bodies, versions)
	if err != nil {
		return nil, err
	}
	var cell, assignment, granted string
	return states, r.Each(grantsOf, args, []any{&cell, &assignment, &granted}, func() error {
		return rows.ApplyGrant(states, cell, assignment, granted)
	})
}

func readLearned(r Reader, o *plan.Observed) (err error) {
	if o.Observations, err = queryJSON[plan.Observation](r,
		`SELECT body FROM observations ORDER BY channel, gate, subject, policy`); err != nil {
		return err
	}
	if o.Learned.Accepted, err = queryJSON[plan.Acceptance](r,
		`SELECT body FROM acceptances ORDER BY upstream, downstream, digest`); err != nil {
		return err
	}
	if o.Learned.Finished, err = queryJSON[plan.Finish](r,
		`SELECT body FROM finishes ORDER BY channel, sequence`); err != nil {
		return err
	}
	if o.Learned.Waves, err = queryJSON[plan.Through](r,
		`SELECT body FROM waves ORDER BY channel, sequence, wave`); err != nil {
		return err
	}
	o.Learned.Cohorts, err = queryJSON[plan.Cohort](r, `SELECT body FROM rollouts ORDER BY channel, sequence`)
	return err
}

func readFacts(r Reader, o *plan.Observed) error {
	facts, err := queryMap[string](r, `SELECT name, body FROM facts`)
	if err != nil {
		return err
	}
	if o.Since, err = time.Parse(time.RFC3339Nano, facts["since"]); err != nil {
		return fmt.Errorf("the start of observing: %w", err)
	}
	if body, ok := facts["seen"]; ok {
		if err := rows.Decode(body, &o.Seen); err != nil {
			return err
		}
	}
	if body, ok := facts["diverged"]; ok {
		o.Diverged = &plan.Divergence{}
		return rows.Decode(body, o.Diverged)
	}
	return nil
}

func readMaps(r Reader, o *plan.Observed) (err error) {
	if o.Served, err = queryMap[int64](r, `SELECT channel, sequence FROM served`); err != nil {
		return err
	}
	if o.Decided, err = newestDecisions(r); err != nil {
		return err
	}
	refused, err := queryMap[string](r, `SELECT channel, body FROM refusals`)
	if err != nil {
		return err
	}
	for channel, body := range refused {
		var refusal plan.Refusal
		if err := rows.Decode(body, &refusal); err != nil {
			return fmt.Errorf("the refused push to %s: %w", channel, err)
		}
		o.Refused[channel] = refusal
	}
	return nil
}

// readFleet reads slots and registrations.
func readFleet(r Reader, o *plan.Observed) error {
	slots, err := slotsInUse(r)
	if err != nil {
		return err
	}
	registered, err := queryJSON[plan.Registration](r, `SELECT body FROM registrations ORDER BY cell`)
	if err != nil {
		return fmt.Errorf("registrations: %w", err)
	}
	o.Slots = make(map[string][]string, len(slots))
	for channel, cells := range slots {
		o.Slots[channel] = slices.Sorted(maps.Keys(cells))
	}
	o.Registered = make(map[string]plan.Registration, len(registered))
	for _, r := range registered {
		o.Registered[r.Cell] = r
	}
	return nil
}
