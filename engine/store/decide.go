package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Decided records decisions found in git, once each by commit, and returns those that are not announced
// yet, oldest first: the new ones, and any that a crash kept from being announced (fault 3).
func (s *Store) Decided(ctx context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error) {
	served := make([]rows.Sequence, 0, len(decisions))
	err = s.ledger(ctx, "keep decisions", func(tx *sql.Tx) error {
		for _, d := range decisions {
			if err := latch(tx, `INSERT INTO decisions (commit_id, body) VALUES (?, ?) ON CONFLICT DO NOTHING`, d, d.Commit); err != nil {
				return err
			}
			served = append(served, rows.Sequence{Channel: d.Channel, Number: d.Sequence})
		}
		if err := s.raiseServed(tx, served); err != nil {
			return err
		}
		fresh, err = list[plan.Decided](ctx, tx, `SELECT body FROM decisions WHERE announced = 0 ORDER BY id`)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.served.Wrote(served)
	return fresh, nil
}

// Announced marks decisions as announced, by commit.
func (s *Store) Announced(ctx context.Context, commits []string) error {
	return s.ledger(ctx, "keep announcements", func(tx *sql.Tx) error {
		for _, c := range commits {
			if _, err := tx.Exec(`UPDATE decisions SET announced = 1 WHERE commit_id = ? AND announced = 0`, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// Seen records the newest commit that was acted upon, and any divergence from it; nil clears it.
func (s *Store) Seen(ctx context.Context, commit string, d *plan.Divergence) error {
	return s.ledger(ctx, "keep the commit that was seen", func(tx *sql.Tx) error {
		if err := fact(tx, "seen", commit); err != nil {
			return err
		}
		if d == nil {
			_, err := tx.Exec(`DELETE FROM facts WHERE name = 'diverged'`)
			return err
		}
		return fact(tx, "diverged", d)
	})
}

func fact(tx *sql.Tx, name string, value any) error {
	return latch(tx, `INSERT INTO facts (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body`, value, name)
}

// Refused records that pushes for a channel are not tried again for a while; nil clears it.
func (s *Store) Refused(ctx context.Context, channel string, r *plan.Refusal) error {
	return s.ledger(ctx, "keep a refused push to "+channel, func(tx *sql.Tx) error {
		if r == nil {
			_, err := tx.Exec(`DELETE FROM refusals WHERE channel = ?`, channel)
			return err
		}
		return latch(tx, `INSERT INTO refusals (channel, body) VALUES (?, ?) ON CONFLICT (channel) DO UPDATE SET body = excluded.body`, r, channel)
	})
}
