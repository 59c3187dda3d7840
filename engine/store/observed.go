package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Known gives everything that was kept but the cells and Clock, as of one instant. It reads no cell.
func (s *Store) Known(ctx context.Context) (plan.Observed, error) {
	var o plan.Observed
	err := s.look(ctx, func(tx *sql.Tx) (err error) {
		o, err = readKnown(ctx, tx)
		return err
	})
	return o, err
}

// Cells gives what is known of the named cells; without a name, of all. Other cells' rows are not read.
func (s *Store) Cells(ctx context.Context, names ...string) (map[string]*plan.CellState, error) {
	var all map[string]*plan.CellState
	err := s.look(ctx, func(tx *sql.Tx) (err error) {
		all, err = readCells(ctx, tx, names)
		return err
	})
	return all, err
}

// Observed gives Known and all Cells as of one instant.
func (s *Store) Observed(ctx context.Context) (plan.Observed, error) {
	var o plan.Observed
	err := s.look(ctx, func(tx *sql.Tx) (err error) {
		if o, err = readKnown(ctx, tx); err == nil {
			o.Cells, err = readCells(ctx, tx, nil)
		}
		return err
	})
	return o, err
}

// look reads as of one instant.
func (s *Store) look(ctx context.Context, read func(*sql.Tx) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return wrap("read the store", err)
	}
	defer tx.Rollback()
	return wrap("read the store", read(tx))
}

func readKnown(ctx context.Context, tx *sql.Tx) (plan.Observed, error) {
	o := plan.Observed{Served: map[string]int64{}, Refused: map[string]plan.Refusal{}}
	for _, step := range []func(context.Context, *sql.Tx, *plan.Observed) error{readLearned, readFacts, readMaps, readFleet} {
		if err := step(ctx, tx, &o); err != nil {
			return plan.Observed{}, err
		}
	}
	return o, nil
}

// readCells reads the named cells, or all, with their grants.
func readCells(ctx context.Context, tx *sql.Tx, names []string) (map[string]*plan.CellState, error) {
	only := func(column string) string { return "" }
	var args []any
	if len(names) > 0 {
		list, err := rows.Encode(names)
		if err != nil {
			return nil, err
		}
		only, args = func(column string) string { return ` WHERE ` + column + ` IN (SELECT value FROM json_each(?))` }, []any{list}
	}
	found, err := tx.QueryContext(ctx, `SELECT body, version FROM cells`+only("name"), args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var bodies []string
	var versions []int64
	for found.Next() {
		var body string
		var version int64
		if err := found.Scan(&body, &version); err != nil {
			return nil, err
		}
		bodies, versions = append(bodies, body), append(versions, version)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	states, err := rows.States(bodies, versions)
	if err != nil {
		return nil, err
	}
	return states, layGrants(ctx, tx, states, only("cell"), args)
}

func layGrants(ctx context.Context, tx *sql.Tx, states map[string]*plan.CellState, only string, args []any) error {
	found, err := tx.QueryContext(ctx, `SELECT cell, assignment, granted_at FROM grants`+only, args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var cell, assignment, granted string
		if err := found.Scan(&cell, &assignment, &granted); err != nil {
			return err
		}
		if err := rows.Lay(states, cell, assignment, granted); err != nil {
			return err
		}
	}
	return found.Err()
}

func readLearned(ctx context.Context, tx *sql.Tx, o *plan.Observed) (err error) {
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

func readFacts(ctx context.Context, tx *sql.Tx, o *plan.Observed) error {
	facts, err := pairs[string](ctx, tx, `SELECT name, body FROM facts`)
	if err != nil {
		return err
	}
	return rows.LayFacts(o, facts)
}

func readMaps(ctx context.Context, tx *sql.Tx, o *plan.Observed) (err error) {
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
func readFleet(ctx context.Context, tx *sql.Tx, o *plan.Observed) error {
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
