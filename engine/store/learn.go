package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine"
)

// Learn adds to what was learned. What is there already stays as it was: these facts latch.
func (s *Store) Learn(ctx context.Context, l engine.Learned) error {
	return s.tx(ctx, "keep what was learned", func(tx *sql.Tx) error {
		for _, a := range l.Accepted {
			if err := latch(tx, `INSERT INTO acceptances (upstream, downstream, digest, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, a, a.Upstream, a.Downstream, string(a.Digest)); err != nil {
				return err
			}
		}
		for _, f := range l.Finished {
			if err := latch(tx, `INSERT INTO finishes (channel, sequence, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, f, f.Channel, f.Sequence); err != nil {
				return err
			}
		}
		for _, r := range l.Rollouts {
			if err := latch(tx, `INSERT INTO rollouts (channel, sequence, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, r, r.Channel, r.Sequence); err != nil {
				return err
			}
			_, err := tx.Exec(`DELETE FROM rollouts WHERE channel = ?1 AND sequence <= (SELECT sequence FROM rollouts WHERE channel = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)`, r.Channel, rollouts)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func latch(tx *sql.Tx, statement string, value any, keys ...any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	_, err = tx.Exec(statement, append(keys, body)...)
	return err
}

// Grant records offers, all or none. A cell's offer is replaced by one of the same or a newer
// (epoch, sequence) only: the same with other values is an offer too (R13).
func (s *Store) Grant(ctx context.Context, offers []engine.Offer) ([]engine.Granted, error) {
	grants := make([]engine.Granted, len(offers))
	for i, o := range offers {
		grants[i] = o.Granted
	}
	return grants, s.grant(ctx, grants)
}

func (s *Store) grant(ctx context.Context, grants []engine.Granted) error {
	served := make([]servedRow, 0, len(grants))
	rows := make([][]any, 0, len(grants))
	for _, g := range grants {
		body, err := encode(g.Assignment)
		if err != nil {
			return fmt.Errorf("grant %s to %s: %w", g.Assignment.Release, g.Cell, err)
		}
		rows = append(rows, []any{g.Cell, g.Assignment.Epoch, g.Assignment.Sequence, body, g.At.Format(time.RFC3339Nano)})
		served = append(served, servedRow{g.Assignment.Channel, g.Assignment.Sequence})
	}
	err := s.tx(ctx, "keep grants", func(tx *sql.Tx) error {
		err := insert(tx, `INSERT INTO grants (cell, epoch, sequence, assignment, granted_at) VALUES `, rows,
			` ON CONFLICT (cell) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, assignment = excluded.assignment, granted_at = excluded.granted_at
			  WHERE (excluded.epoch, excluded.sequence) >= (grants.epoch, grants.sequence)`)
		if err != nil {
			return err
		}
		return s.raiseServed(tx, served)
	})
	if err == nil {
		s.served.raise(served)
	}
	return err
}

// Observe records answers to probes; the newest of a (channel, gate, subject, policy) wins. Answers
// that were out of date for a month are dropped.
func (s *Store) Observe(ctx context.Context, observations []engine.Observation) error {
	return s.tx(ctx, "keep observations", func(tx *sql.Tx) error {
		var newest int64
		for _, o := range observations {
			body, err := encode(o)
			if err != nil {
				return err
			}
			_, err = tx.Exec(`INSERT INTO observations (channel, gate, subject, policy, observed_at, valid_until, body) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (channel, gate, subject, policy) DO UPDATE SET observed_at = excluded.observed_at, valid_until = excluded.valid_until, body = excluded.body
				WHERE excluded.observed_at >= observations.observed_at`,
				o.Channel, o.Gate, o.Subject, o.Policy, millis(o.ObservedAt), millis(o.ValidUntil), body)
			if err != nil {
				return err
			}
			newest = max(newest, millis(o.ObservedAt))
		}
		_, err := tx.Exec(`DELETE FROM observations WHERE valid_until <> 0 AND valid_until < ?`, newest-keptLonger.Milliseconds())
		return err
	})
}
