package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	keptLonger = 30 * 24 * time.Hour // an answer to a probe that is out of date is shown for so long
	rollouts   = 4                   // kept for each channel: only the newest is looked at
)

// Learn adds to what was learned. What is there already stays as it was: these facts latch.
func (s *Store) Learn(ctx context.Context, l plan.Learned) error {
	return s.ledger(ctx, "keep what was learned", func(tx *sql.Tx) error {
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
		for _, w := range l.Waves {
			if err := latch(tx, `INSERT INTO waves (channel, sequence, wave, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, w, w.Channel, w.Sequence, w.Wave); err != nil {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM waves WHERE channel = ? AND sequence < ?`, w.Channel, w.Sequence); err != nil { // of heads that are past
				return err
			}
		}
		return nil
	})
}

func latch(tx *sql.Tx, statement string, value any, keys ...any) error {
	body, err := rows.Encode(value)
	if err != nil {
		return err
	}
	_, err = tx.Exec(statement, append(keys, body)...)
	return err
}

// Observe records answers to probes; the newest of a (channel, gate, subject, policy) wins. Answers
// that were out of date for a month are dropped.
func (s *Store) Observe(ctx context.Context, observations []plan.Observation) error {
	return s.ledger(ctx, "keep observations", func(tx *sql.Tx) error {
		var newest int64
		for _, o := range observations {
			body, err := rows.Encode(o)
			if err != nil {
				return err
			}
			_, err = tx.Exec(`INSERT INTO observations (channel, gate, subject, policy, observed_at, valid_until, body) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (channel, gate, subject, policy) DO UPDATE SET observed_at = excluded.observed_at, valid_until = excluded.valid_until, body = excluded.body
				WHERE excluded.observed_at >= observations.observed_at`,
				o.Channel, o.Gate, o.Subject, o.Policy, rows.Millis(o.ObservedAt), rows.Millis(o.ValidUntil), body)
			if err != nil {
				return err
			}
			newest = max(newest, rows.Millis(o.ObservedAt))
		}
		_, err := tx.Exec(`DELETE FROM observations WHERE valid_until <> 0 AND valid_until < ?`, newest-keptLonger.Milliseconds())
		return err
	})
}
