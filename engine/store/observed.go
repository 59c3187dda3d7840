package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
)

// Known gives everything that was kept but the cells and Clock, as of one instant.
func (s *Store) Known(ctx context.Context) (engine.Observed, error) {
	o, err := s.Observed(ctx)
	o.Cells = nil
	return o, err
}

// Cells gives what is known of the named cells; without a name, of all.
func (s *Store) Cells(ctx context.Context, names ...string) (map[string]*engine.CellState, error) {
	o, err := s.Observed(ctx)
	if len(names) > 0 {
		maps.DeleteFunc(o.Cells, func(name string, _ *engine.CellState) bool { return !slices.Contains(names, name) })
	}
	return o.Cells, err
}

// Observed gives everything that was kept, as of one instant, but the Clock.
func (s *Store) Observed(ctx context.Context) (engine.Observed, error) {
	o := engine.Observed{Cells: map[string]*engine.CellState{}, Served: map[string]int64{}, Refused: map[string]engine.Refusal{}}
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return o, wrap("read the store", err)
	}
	defer tx.Rollback()
	for _, step := range []func(context.Context, *sql.Tx, *engine.Observed) error{readCells, readGrants, readLearned, readFacts, readMaps} {
		if err := step(ctx, tx, &o); err != nil {
			return engine.Observed{}, wrap("read the store", err)
		}
	}
	return o, nil
}

func readCells(ctx context.Context, tx *sql.Tx, o *engine.Observed) error {
	bodies, err := column[string](ctx, tx, `SELECT body FROM cells`)
	if err != nil {
		return err
	}
	states := make([]engine.CellState, len(bodies))
	if err := decodeAll(bodies, states); err != nil {
		return fmt.Errorf("a cell's state: %w", err)
	}
	for i := range states {
		o.Cells[states[i].Name] = &states[i]
	}
	return nil
}

// readGrants lays the grants over the cells' states, which may have been written by one who had not
// seen the newest. A cell that was granted something and never reported has a state of nothing else.
func readGrants(ctx context.Context, tx *sql.Tx, o *engine.Observed) error {
	rows, err := tx.QueryContext(ctx, `SELECT cell, assignment, granted_at FROM grants`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var cell, body, granted string
		if err := rows.Scan(&cell, &body, &granted); err != nil {
			return err
		}
		a := &cells.Assignment{}
		if err := decode(body, a); err != nil {
			return fmt.Errorf("the grant of %s: %w", cell, err)
		}
		at, err := time.Parse(time.RFC3339Nano, granted)
		if err != nil {
			return fmt.Errorf("the grant of %s: %w", cell, err)
		}
		c := o.Cells[cell]
		if c == nil {
			c = &engine.CellState{Name: cell}
			o.Cells[cell] = c
		}
		if c.Granted == nil || !cells.Newer(*c.Granted, *a) {
			c.Granted, c.GrantedAt = a, at
		}
	}
	return rows.Err()
}

func readLearned(ctx context.Context, tx *sql.Tx, o *engine.Observed) (err error) {
	if o.Observations, err = list[engine.Observation](ctx, tx, `SELECT body FROM observations ORDER BY channel, gate, subject, policy`); err != nil {
		return err
	}
	if o.Learned.Accepted, err = list[engine.Acceptance](ctx, tx, `SELECT body FROM acceptances ORDER BY upstream, downstream, digest`); err != nil {
		return err
	}
	if o.Learned.Finished, err = list[engine.Finish](ctx, tx, `SELECT body FROM finishes ORDER BY channel, sequence`); err != nil {
		return err
	}
	o.Learned.Rollouts, err = list[engine.Rollout](ctx, tx, `SELECT body FROM rollouts ORDER BY channel, sequence`)
	return err
}

func readFacts(ctx context.Context, tx *sql.Tx, o *engine.Observed) error {
	facts, err := pairs[string](ctx, tx, `SELECT name, body FROM facts`)
	if err != nil {
		return err
	}
	if o.Since, err = time.Parse(time.RFC3339Nano, facts["since"]); err != nil {
		return fmt.Errorf("since when it observes: %w", err)
	}
	if body, ok := facts["seen"]; ok {
		if err := decode(body, &o.Seen); err != nil {
			return err
		}
	}
	if body, ok := facts["diverged"]; ok {
		o.Diverged = &engine.Divergence{}
		return decode(body, o.Diverged)
	}
	return nil
}

func readMaps(ctx context.Context, tx *sql.Tx, o *engine.Observed) (err error) {
	if o.Served, err = pairs[int64](ctx, tx, `SELECT channel, sequence FROM served`); err != nil {
		return err
	}
	refused, err := pairs[string](ctx, tx, `SELECT channel, body FROM refusals`)
	if err != nil {
		return err
	}
	for channel, body := range refused {
		var r engine.Refusal
		if err := decode(body, &r); err != nil {
			return fmt.Errorf("the refused push to %s: %w", channel, err)
		}
		o.Refused[channel] = r
	}
	return nil
}

// queryer is what *sql.DB and *sql.Tx have in common here.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// column gives the one column of a query.
func column[T any](ctx context.Context, q queryer, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// pairs gives a query's two columns as a map.
func pairs[T any](ctx context.Context, q queryer, query string) (map[string]T, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]T{}
	for rows.Next() {
		var key string
		var v T
		if err := rows.Scan(&key, &v); err != nil {
			return nil, err
		}
		all[key] = v
	}
	return all, rows.Err()
}

// list decodes the one column of a query.
func list[T any](ctx context.Context, q queryer, query string, args ...any) ([]T, error) {
	bodies, err := column[string](ctx, q, query, args...)
	if err != nil || len(bodies) == 0 {
		return nil, err
	}
	all := make([]T, len(bodies))
	return all, decodeAll(bodies, all)
}

// decodeAll decodes bodies[i] into all[i], on all processors: ten thousand cells should not hold up a start.
func decodeAll[T any](bodies []string, all []T) error {
	var g errgroup.Group
	part := max(64, (len(bodies)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for from := 0; from < len(bodies); from += part {
		g.Go(func() error {
			for i := from; i < min(from+part, len(bodies)); i++ {
				if err := decode(bodies[i], &all[i]); err != nil {
					return fmt.Errorf("%w in %.80s", err, bodies[i])
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// Events gives a cell's newest events, oldest first; at most limit.
func (s *Store) Events(ctx context.Context, cell string, limit int) ([]cells.Event, error) {
	events, err := list[cells.Event](ctx, s.read, `SELECT body FROM (SELECT id, body FROM events WHERE cell = ? ORDER BY id DESC LIMIT ?) ORDER BY id`, cell, limit)
	return events, wrap("read the events of "+cell, err)
}

// Decisions gives decisions after a cursor in the order in which they were found, at most limit, and
// the cursor of the last. A negative cursor asks for the last limit of them.
func (s *Store) Decisions(ctx context.Context, after int64, limit int) ([]engine.Decided, int64, error) {
	query := `SELECT id, body FROM decisions WHERE id > ?1 ORDER BY id LIMIT ?2`
	if after < 0 {
		query = `SELECT id, body FROM (SELECT id, body FROM decisions WHERE id > ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id`
	}
	rows, err := s.read.QueryContext(ctx, query, after, limit)
	if err != nil {
		return nil, 0, wrap("read decisions", err)
	}
	defer rows.Close()
	next := max(after, 0)
	var found []engine.Decided
	for rows.Next() {
		var body sql.RawBytes
		if err := rows.Scan(&next, &body); err != nil {
			return nil, 0, wrap("read decisions", err)
		}
		var d engine.Decided
		if err := json.Unmarshal(body, &d); err != nil {
			return nil, 0, fmt.Errorf("read decisions: %w", err)
		}
		found = append(found, d)
	}
	return found, next, wrap("read decisions", rows.Err())
}
