package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Post keeps messages of events that were never posted before, and gives those events' IDs. Where the answer to a commit was
// lost, none of what it posted is given: it may have been told before.
func (s *Store) Post(ctx context.Context, messages []plan.Message) (fresh []string, err error) {
	events, of := rows.ByEvent(messages)
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	err = s.ledger(ctx, "post events", func(ctx context.Context, tx pgx.Tx) error {
		now, err := s.at(ctx, tx)
		if err != nil {
			return err
		}
		fresh, err = column[string](ctx, tx, `INSERT INTO posted (event, at) SELECT event, $2 FROM unnest($1::text[]) AS event ON CONFLICT DO NOTHING RETURNING event`, events, rows.Millis(now))
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		for _, id := range fresh {
			for _, m := range of[id] {
				if err := queueMessage(b, m); err != nil {
					return err
				}
			}
		}
		b.Queue(`DELETE FROM posted WHERE at < $1`, rows.Millis(now.Add(-rows.KeepPosted)))
		b.Queue(`DELETE FROM outbox WHERE posted < $1`, rows.Millis(now.Add(-plan.OutboxMemory)))
		b.Queue(`DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - $1::bigint`, rows.KeepMessages)
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

func queueMessage(b *pgx.Batch, m plan.Message) error {
	body, err := rows.Encode(m)
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO outbox (event, webhook, posted, next, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		m.Event.ID, m.Webhook, rows.Millis(m.Posted), rows.Millis(m.Next), body)
	return nil
}

// Due gives messages whose time has come, oldest first.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]plan.Message, error) {
	return s.messages(ctx, `SELECT body FROM outbox WHERE next <> 0 AND next <= $1 ORDER BY next, id LIMIT $2`, rows.Millis(now), limit)
}

// Messages gives the newest messages, newest first.
func (s *Store) Messages(ctx context.Context, limit int) ([]plan.Message, error) {
	return s.messages(ctx, `SELECT body FROM outbox ORDER BY id DESC LIMIT $1`, limit)
}

func (s *Store) messages(ctx context.Context, query string, args ...any) (all []plan.Message, err error) {
	err = s.read(ctx, "read messages", func(ctx context.Context, tx pgx.Tx) error {
		all, err = list[plan.Message](ctx, tx, query, args...)
		return err
	})
	return all, err
}

// Sent says that a message arrived.
func (s *Store) Sent(ctx context.Context, m plan.Message) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	return s.message(ctx, rows.Arrived(m, now.UTC()))
}

// Postpone counts an attempt that failed.
func (s *Store) Postpone(ctx context.Context, m plan.Message, until time.Time, why string) error {
	return s.message(ctx, rows.Attempted(m, until, why))
}

func (s *Store) message(ctx context.Context, m plan.Message) error {
	body, err := rows.Encode(m)
	if err != nil {
		return err
	}
	return s.write(ctx, "keep how a message to "+m.Webhook+" went", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		_, err := tx.Exec(ctx, `UPDATE outbox SET next = $1, body = $2 WHERE event = $3 AND webhook = $4`, rows.Millis(m.Next), body, m.Event.ID, m.Webhook)
		return err
	})
}
