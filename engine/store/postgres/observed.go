package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Known gives everything that was kept but the cells and Clock, as of one instant. It reads no cell.
func (s *Store) Known(ctx context.Context) (o plan.Observed, err error) {
	err = s.read(ctx, "read the store", func(ctx context.Context, tx pgx.Tx) error {
		o, err = readKnown(ctx, tx)
		return err
	})
	return o, err
}

// Cells gives what is known of the named cells; without a name, of all. Other cells' rows are not read.
func (s *Store) Cells(ctx context.Context, names ...string) (all map[string]*plan.CellState, err error) {
	err = s.read(ctx, "read cells", func(ctx context.Context, tx pgx.Tx) error {
		all, err = readCells(ctx, tx, names)
		return err
	})
	return all, err
}

// Observed gives Known and all Cells as of one instant.
func (s *Store) Observed(ctx context.Context) (o plan.Observed, err error) {
	err = s.read(ctx, "read the store", func(ctx context.Context, tx pgx.Tx) error {
		if o, err = readKnown(ctx, tx); err == nil {
			o.Cells, err = readCells(ctx, tx, nil)
		}
		return err
	})
	return o, err
}

func readKnown(ctx context.Context, tx pgx.Tx) (plan.Observed, error) {
	o := plan.Observed{Served: map[string]int64{}, Refused: map[string]plan.Refusal{}}
	for _, step := range []func(context.Context, pgx.Tx, *plan.Observed) error{readLearned, readFacts, readMaps, readFleet} {
		if err := step(ctx, tx, &o); err != nil {
			return plan.Observed{}, err
		}
	}
	return o, nil
}

// readCells reads the named cells, or all, with their grants.
func readCells(ctx context.Context, tx pgx.Tx, names []string) (map[string]*plan.CellState, error) {
	cellsOf, grantsOf := `SELECT body, version FROM cells`, `SELECT cell, assignment, granted_at FROM grants`
	var args []any
	if len(names) > 0 {
		cellsOf, grantsOf, args = cellsOf+` WHERE name = ANY($1)`, grantsOf+` WHERE cell = ANY($1)`, []any{names}
	}
	found, err := tx.Query(ctx, cellsOf, args...)
	if err != nil {
		return nil, err
	}
	var bodies []string
	var versions []int64
	var body string
	var version int64
	_, err = pgx.ForEachRow(found, []any{&body, &version}, func() error {
		bodies, versions = append(bodies, body), append(versions, version)
		return nil
	})
	if err != nil {
		return nil, err
	}
	states, err := rows.States(bodies, versions)
	if err != nil {
		return nil, err
	}
	return states, layGrants(ctx, tx, states, grantsOf, args)
}

func layGrants(ctx context.Context, tx pgx.Tx, states map[string]*plan.CellState, query string, args []any) error {
	found, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var cell, assignment, granted string
	_, err = pgx.ForEachRow(found, []any{&cell, &assignment, &granted}, func() error {
		return rows.Lay(states, cell, assignment, granted)
	})
	return err
}

func readLearned(ctx context.Context, tx pgx.Tx, o *plan.Observed) (err error) {
	if o.Observations, err = list[plan.Observation](ctx, tx, `SELECT body FROM observations ORDER BY channel, gate, subject, policy`); err != nil {
		return err
	}
	if o.Learned.Accepted, err = list[plan.Acceptance](ctx, tx, `SELECT body FROM acceptances ORDER BY upstream, downstream, digest`); err != nil {
		return err
	}
	if o.Learned.Finished, err = list[plan.Finish](ctx, tx, `SELECT body FROM finishes ORDER BY channel, sequence`); err != nil {
		return err
	}
	if o.Learned.Waves, err = list[plan.Through](ctx, tx, `SELECT body FROM waves ORDER BY channel, sequence, wave`); err != nil {
		return err
	}
	o.Learned.Rollouts, err = list[plan.Rollout](ctx, tx, `SELECT body FROM rollouts ORDER BY channel, sequence`)
	return err
}

func readFacts(ctx context.Context, tx pgx.Tx, o *plan.Observed) error {
	facts, err := pairs[string](ctx, tx, `SELECT name, body FROM facts`)
	if err != nil {
		return err
	}
	return rows.LayFacts(o, facts)
}

func readMaps(ctx context.Context, tx pgx.Tx, o *plan.Observed) (err error) {
	if o.Served, err = pairs[int64](ctx, tx, `SELECT channel, sequence FROM served`); err != nil {
		return err
	}
	refused, err := pairs[string](ctx, tx, `SELECT channel, body FROM refusals`)
	if err != nil {
		return err
	}
	return rows.LayRefused(o, refused)
}

// readFleet reads who has slots, and who registered.
func readFleet(ctx context.Context, tx pgx.Tx, o *plan.Observed) error {
	slots, err := slotsOf(ctx, tx)
	if err != nil {
		return err
	}
	registered, err := list[plan.Registration](ctx, tx, `SELECT body FROM registrations ORDER BY cell`)
	if err != nil {
		return fmt.Errorf("registrations: %w", err)
	}
	rows.LayFleet(o, slots, registered)
	return nil
}

// Events gives a cell's newest events, oldest first; at most limit.
func (s *Store) Events(ctx context.Context, cell string, limit int) (events []cells.Event, err error) {
	err = s.read(ctx, "read the events of "+cell, func(ctx context.Context, tx pgx.Tx) error {
		events, err = list[cells.Event](ctx, tx, `SELECT body FROM (SELECT id, body FROM events WHERE cell = $1 ORDER BY id DESC LIMIT $2) AS newest ORDER BY id`, cell, limit)
		return err
	})
	return events, err
}

// Decisions gives decisions after a cursor in the order in which they were found, at most limit, and
// the cursor of the last. A negative cursor asks for the last limit of them.
func (s *Store) Decisions(ctx context.Context, after int64, limit int) (all []plan.Decided, next int64, err error) {
	query := `SELECT id, body FROM decisions WHERE id > $1 ORDER BY id LIMIT $2`
	if after < 0 {
		query = `SELECT id, body FROM (SELECT id, body FROM decisions WHERE id > $1 ORDER BY id DESC LIMIT $2) AS newest ORDER BY id`
	}
	err = s.read(ctx, "read decisions", func(ctx context.Context, tx pgx.Tx) error {
		found, err := tx.Query(ctx, query, after, limit)
		if err != nil {
			return err
		}
		all, next = nil, max(after, 0)
		var id int64
		var body string
		_, err = pgx.ForEachRow(found, []any{&id, &body}, func() error {
			var d plan.Decided
			if err := rows.Decode(body, &d); err != nil {
				return err
			}
			all, next = append(all, d), id
			return nil
		})
		return err
	})
	return all, next, err
}
