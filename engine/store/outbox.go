package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Post keeps messages of events that were never posted before, and gives those events' IDs.
func (s *Store) Post(ctx context.Context, messages []plan.Message) (fresh []string, err error) {
	events, of := rows.ByEvent(messages)
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	err = s.ledger(ctx, "post events", func(tx *sql.Tx) error {
		now := s.now()
		for _, id := range events {
			added, err := affected(tx.Exec(`INSERT INTO posted (event, at) VALUES (?, ?) ON CONFLICT DO NOTHING`, id, rows.Millis(now)))
			if err != nil {
				return err
			}
			if added == 0 {
				continue
			}
			fresh = append(fresh, id)
			for _, m := range of[id] {
				if err := post(tx, m); err != nil {
					return err
				}
			}
		}
		return trimOutbox(tx, now)
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

func post(tx *sql.Tx, m plan.Message) error {
	body, err := rows.Encode(m)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO outbox (event, webhook, posted, next, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		m.Event.ID, m.Webhook, rows.Millis(m.Posted), rows.Millis(m.Next), body)
	return err
}

func trimOutbox(tx *sql.Tx, now time.Time) error {
	if _, err := tx.Exec(`DELETE FROM posted WHERE at < ?`, rows.Millis(now.Add(-rows.KeepPosted))); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM outbox WHERE posted < ?`, rows.Millis(now.Add(-plan.OutboxMemory))); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - ?`, rows.KeepMessages)
	return err
}

// Due gives messages whose time has come, oldest first.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]plan.Message, error) {
	all, err := list[plan.Message](ctx, s.read, `SELECT body FROM outbox WHERE next <> 0 AND next <= ? ORDER BY next, id LIMIT ?`, rows.Millis(now), limit)
	return all, wrap("read due messages", err)
}

// Messages gives the newest messages, newest first.
func (s *Store) Messages(ctx context.Context, limit int) ([]plan.Message, error) {
	all, err := list[plan.Message](ctx, s.read, `SELECT body FROM outbox ORDER BY id DESC LIMIT ?`, limit)
	return all, wrap("read messages", err)
}

// Sent says that a message arrived.
func (s *Store) Sent(ctx context.Context, m plan.Message) error {
	return s.message(ctx, rows.Arrived(m, s.now().UTC()))
}

// Postpone counts an attempt that failed.
func (s *Store) Postpone(ctx context.Context, m plan.Message, until time.Time, why string) error {
	return s.message(ctx, rows.Attempted(m, until, why))
}

func (s *Store) message(ctx context.Context, m plan.Message) error {
	return s.tx(ctx, "keep how a message to "+m.Webhook+" went", func(tx *sql.Tx) error {
		body, err := rows.Encode(m)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE outbox SET next = ?, body = ? WHERE event = ? AND webhook = ?`, rows.Millis(m.Next), body, m.Event.ID, m.Webhook)
		return err
	})
}
