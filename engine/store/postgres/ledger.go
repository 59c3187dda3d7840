package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	keptLonger = 30 * 24 * time.Hour // an answer to a probe that is out of date is shown for so long
	rollouts   = 4                   // kept for each channel: only the newest is looked at
)

// changed is a ledger write that others are told of as engine.News.Known. What it queues is sent at once.
func (s *Store) changed(ctx context.Context, op string, queue func(b *pgx.Batch) error) error {
	return s.ledger(ctx, op, func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		if err := queue(b); err != nil {
			return err
		}
		if b.Len() == 0 {
			return nil
		}
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return s.tell(ctx, tx, note{Known: true})
	})
}

// latch queues a statement whose last argument is a value, encoded.
func latch(b *pgx.Batch, statement string, value any, keys ...any) error {
	body, err := rows.Encode(value)
	if err != nil {
		return err
	}
	b.Queue(statement, append(keys, body)...)
	return nil
}

// Learn adds to what was learned. What is there already stays as it was: these facts latch.
func (s *Store) Learn(ctx context.Context, l plan.Learned) error {
	return s.changed(ctx, "keep what was learned", func(b *pgx.Batch) error {
		for _, a := range l.Accepted {
			if err := latch(b, `INSERT INTO acceptances (upstream, downstream, digest, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, a, a.Upstream, a.Downstream, string(a.Digest)); err != nil {
				return err
			}
		}
		for _, f := range l.Finished {
			if err := latch(b, `INSERT INTO finishes (channel, sequence, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, f, f.Channel, f.Sequence); err != nil {
				return err
			}
		}
		for _, r := range l.Rollouts {
			if err := latch(b, `INSERT INTO rollouts (channel, sequence, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r, r.Channel, r.Sequence); err != nil {
				return err
			}
			b.Queue(`DELETE FROM rollouts WHERE channel = $1 AND sequence <= (SELECT sequence FROM rollouts WHERE channel = $1 ORDER BY sequence DESC LIMIT 1 OFFSET $2)`, r.Channel, rollouts)
		}
		for _, w := range l.Waves {
			if err := latch(b, `INSERT INTO waves (channel, sequence, wave, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, w, w.Channel, w.Sequence, w.Wave); err != nil {
				return err
			}
			b.Queue(`DELETE FROM waves WHERE channel = $1 AND sequence < $2`, w.Channel, w.Sequence) // of heads that are past
		}
		return nil
	})
}

// Observe records answers to probes; the newest of a (channel, gate, subject, policy) wins. Answers
// that were out of date for a month are dropped.
func (s *Store) Observe(ctx context.Context, observations []plan.Observation) error {
	return s.changed(ctx, "keep observations", func(b *pgx.Batch) error {
		var newest int64
		for _, o := range observations {
			at := rows.Millis(o.ObservedAt)
			err := latch(b, `INSERT INTO observations (channel, gate, subject, policy, observed_at, valid_until, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (channel, gate, subject, policy) DO UPDATE SET observed_at = excluded.observed_at, valid_until = excluded.valid_until, body = excluded.body
				WHERE excluded.observed_at >= observations.observed_at`, o, o.Channel, o.Gate, o.Subject, o.Policy, at, rows.Millis(o.ValidUntil))
			if err != nil {
				return err
			}
			newest = max(newest, at)
		}
		b.Queue(`DELETE FROM observations WHERE valid_until <> 0 AND valid_until < $1`, newest-keptLonger.Milliseconds())
		return nil
	})
}

// Decided records decisions found in git, once each by commit, and returns those that are not announced
// yet, oldest first: the new ones, and any that a crash kept from being announced (fault 3).
func (s *Store) Decided(ctx context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error) {
	served := make([]rows.Sequence, 0, len(decisions))
	for _, d := range decisions {
		served = append(served, rows.Sequence{Channel: d.Channel, Number: d.Sequence})
	}
	err = s.ledger(ctx, "keep decisions", func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		for _, d := range decisions {
			if err := latch(b, `INSERT INTO decisions (commit_id, body) VALUES ($1, $2) ON CONFLICT (commit_id) DO NOTHING`, d, d.Commit); err != nil {
				return err
			}
		}
		queueServed(b, s.served.News(served))
		if b.Len() > 0 {
			if err := tx.SendBatch(ctx, b).Close(); err != nil {
				return err
			}
			if err := s.tell(ctx, tx, note{Known: true}); err != nil {
				return err
			}
		}
		fresh, err = list[plan.Decided](ctx, tx, `SELECT body FROM decisions WHERE NOT announced ORDER BY id`)
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
	return s.changed(ctx, "keep announcements", func(b *pgx.Batch) error {
		b.Queue(`UPDATE decisions SET announced = true WHERE commit_id = ANY($1) AND NOT announced`, commits)
		return nil
	})
}

// Seen records the newest commit that was acted upon, and any divergence from it; nil clears it.
func (s *Store) Seen(ctx context.Context, commit string, d *plan.Divergence) error {
	return s.changed(ctx, "keep the commit that was seen", func(b *pgx.Batch) error {
		if err := fact(b, "seen", commit); err != nil {
			return err
		}
		if d == nil {
			b.Queue(`DELETE FROM facts WHERE name = 'diverged'`)
			return nil
		}
		return fact(b, "diverged", d)
	})
}

func fact(b *pgx.Batch, name string, value any) error {
	return latch(b, `INSERT INTO facts (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET body = excluded.body`, value, name)
}

// Refused records that pushes for a channel are not tried again for a while; nil clears it.
func (s *Store) Refused(ctx context.Context, channel string, r *plan.Refusal) error {
	return s.changed(ctx, "keep a refused push to "+channel, func(b *pgx.Batch) error {
		if r == nil {
			b.Queue(`DELETE FROM refusals WHERE channel = $1`, channel)
			return nil
		}
		return latch(b, `INSERT INTO refusals (channel, body) VALUES ($1, $2) ON CONFLICT (channel) DO UPDATE SET body = excluded.body`, r, channel)
	})
}
