package tables

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	// postedRetention is how long posted events are remembered. An event may have happened OutboxMemory before it was
	// posted, and is not posted again after that.
	postedRetention = 2 * plan.OutboxMemory
	maxMessages     = 20_000 // the oldest are deleted beyond, sent or not
	maxOfTarget     = 100    // due messages of one target that are read at once
)

// Outbox stores messages to webhooks and sinks. Only the leader posts them; any process may record the outcome of
// sending.
type Outbox struct{ db Database }

// PostMessages stores messages of events that were never posted before, and returns those events' IDs. If the answer to
// a commit was lost, Post returns no IDs, for the events may have been told already.
func (o Outbox) PostMessages(ctx context.Context, messages []plan.Message) (fresh []string, err error) {
	events, of := groupByEvent(messages)
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	err = o.db.WriteAsLeader(ctx, "post events", func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		posted, err := queryMap[int64](tx, `SELECT event, at FROM posted WHERE event = ANY($1)`, events)
		if err != nil {
			return err
		}
		var added [][]any
		fresh = nil
		for _, id := range events {
			if _, known := posted[id]; known {
				continue
			}
			fresh, added = append(fresh, id), append(added, []any{id, rows.Millis(now)})
			for _, m := range of[id] {
				tx.Queue(`INSERT INTO outbox (event, webhook, posted, next, body) VALUES ($1, $2, $3, $4, $5)
					ON CONFLICT DO NOTHING`,
					m.Event.ID, m.Webhook, rows.Millis(m.Posted), rows.Millis(m.Next), jsonBody{m})
			}
		}
		tx.Insert(`INSERT INTO posted (event, at)`, added, ``)
		tx.Queue(`DELETE FROM posted WHERE at < $1`, rows.Millis(now.Add(-postedRetention)))
		tx.Queue(`DELETE FROM outbox WHERE posted < $1`, rows.Millis(now.Add(-plan.OutboxMemory)))
		tx.Queue(`DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - $1`, maxMessages)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

// groupByEvent returns the messages by event, and the events in order. Messages without a webhook are left out.
func groupByEvent(all []plan.Message) (events []string, messages map[string][]plan.Message) {
	messages = map[string][]plan.Message{}
	for _, m := range all {
		id := m.Event.ID
		if _, known := messages[id]; !known {
			events = append(events, id)
			messages[id] = nil
		}
		if m.Webhook != "" {
			messages[id] = append(messages[id], m)
		}
	}
	return events, messages
}

// DueMessages returns due messages: the oldest of each target first, then the second of each, and so on.
func (o Outbox) DueMessages(ctx context.Context, now time.Time, limit int) ([]plan.Message, error) {
	return readJSON[plan.Message](ctx, o.db, "read due messages",
		`SELECT outbox.body FROM outbox JOIN (
			SELECT id, row_number() OVER (PARTITION BY webhook ORDER BY next, id) AS place
			FROM outbox WHERE next <> 0 AND next <= $1) AS due ON due.id = outbox.id
		WHERE due.place <= $2 ORDER BY due.place, outbox.next, outbox.id LIMIT $3`, rows.Millis(now), maxOfTarget, limit)
}

// EventMessages returns the messages of one event, by target.
func (o Outbox) EventMessages(ctx context.Context, event string) ([]plan.Message, error) {
	return readJSON[plan.Message](ctx, o.db, "read the messages of an event",
		`SELECT body FROM outbox WHERE event = $1 ORDER BY webhook`, event)
}

// Messages returns the newest messages, newest first.
func (o Outbox) Messages(ctx context.Context, limit int) ([]plan.Message, error) {
	return readJSON[plan.Message](ctx, o.db, "read messages", `SELECT body FROM outbox ORDER BY id DESC LIMIT $1`,
		limit)
}

// MarkSent records that a message arrived.
func (o Outbox) MarkSent(ctx context.Context, m plan.Message) error {
	return o.recordAttempt(ctx, m, func(tx Tx) error {
		now, err := tx.Now()
		m.Next, m.Sent, m.Why = time.Time{}, now.UTC(), ""
		queueMessageUpdate(tx, m)
		return err
	})
}

// Postpone records a failed attempt.
func (o Outbox) Postpone(ctx context.Context, m plan.Message, until time.Time, why string) error {
	m.Attempts++
	m.Next, m.Why = until, why
	return o.recordAttempt(ctx, m, func(tx Tx) error {
		queueMessageUpdate(tx, m)
		return nil
	})
}

func (o Outbox) recordAttempt(ctx context.Context, m plan.Message, write func(Tx) error) error {
	return o.db.Write(ctx, "record the delivery to "+m.Webhook, write)
}

func queueMessageUpdate(tx Tx, m plan.Message) {
	tx.Queue(`UPDATE outbox SET next = $1, body = $2 WHERE event = $3 AND webhook = $4`, rows.Millis(m.Next),
		jsonBody{m}, m.Event.ID, m.Webhook)
}
