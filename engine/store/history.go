package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Events gives a cell's newest events, oldest first; at most limit.
func (s *Store) Events(ctx context.Context, cell string, limit int) ([]cells.Event, error) {
	events, err := list[cells.Event](ctx, s.read, `SELECT body FROM (SELECT id, body FROM events WHERE cell = ? ORDER BY id DESC LIMIT ?) ORDER BY id`, cell, limit)
	return events, wrap("read the events of "+cell, err)
}

// Decisions gives decisions after a cursor in the order in which they were found, at most limit, and
// the cursor of the last. A negative cursor asks for the last limit of them.
func (s *Store) Decisions(ctx context.Context, after int64, limit int) ([]plan.Decided, int64, error) {
	query := `SELECT id, body FROM decisions WHERE id > ?1 ORDER BY id LIMIT ?2`
	if after < 0 {
		query = `SELECT id, body FROM (SELECT id, body FROM decisions WHERE id > ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id`
	}
	found, err := s.read.QueryContext(ctx, query, after, limit)
	if err != nil {
		return nil, 0, wrap("read decisions", err)
	}
	defer found.Close()
	next := max(after, 0)
	var all []plan.Decided
	for found.Next() {
		var body sql.RawBytes
		if err := found.Scan(&next, &body); err != nil {
			return nil, 0, wrap("read decisions", err)
		}
		var d plan.Decided
		if err := json.Unmarshal(body, &d); err != nil {
			return nil, 0, fmt.Errorf("read decisions: %w", err)
		}
		all = append(all, d)
	}
	return all, next, wrap("read decisions", found.Err())
}
