package tables

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	observationRetention = 30 * 24 * time.Hour // for showing an outdated answer to a probe
	keptRollouts         = 4                   // for each channel; only the newest is used
)

// Ledger stores what the engine does and finds out. Only the leader writes it.
type Ledger struct {
	db     Database
	served *rows.Sequences
}

func (l Ledger) writeKnown(ctx context.Context, op string, queue func(tx Tx)) error {
	return l.db.WriteAsLeader(ctx, op, func(tx Tx) error {
		queue(tx)
		tx.Notify(engine.StoreUpdate{Known: true})
		return nil
	})
}

// RecordLearned adds to what was learned. A later acceptance replaces an earlier one; other entries never change.
func (l Ledger) RecordLearned(ctx context.Context, learned plan.Learned) error {
	return l.writeKnown(ctx, "record what was learned", func(tx Tx) {
		for _, a := range learned.Accepted {
			tx.Queue(`INSERT INTO acceptances (upstream, downstream, digest, body) VALUES ($1, $2, $3, $4)
				ON CONFLICT (upstream, downstream, digest) DO UPDATE SET body = excluded.body`,
				a.Upstream, a.Downstream, string(a.Digest), jsonBody{a})
		}
		for _, f := range learned.Finished {
			tx.Queue(`INSERT INTO finishes (channel, sequence, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				f.Channel, f.Sequence, jsonBody{f})
		}
		for _, r := range learned.Cohorts {
			tx.Queue(`INSERT INTO rollouts (channel, sequence, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				r.Channel, r.Sequence, jsonBody{r})
			tx.Queue(`DELETE FROM rollouts WHERE channel = $1 AND sequence <= (SELECT sequence FROM rollouts
				WHERE channel = $1 ORDER BY sequence DESC LIMIT 1 OFFSET $2)`, r.Channel, keptRollouts)
		}
		for _, w := range learned.Waves {
			tx.Queue(`INSERT INTO waves (channel, sequence, wave, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
				w.Channel, w.Sequence, w.Wave, jsonBody{w})
			// These are of past heads.
			tx.Queue(`DELETE FROM waves WHERE channel = $1 AND sequence < $2`, w.Channel, w.Sequence)
		}
	})
}

// RecordObservations stores answers to probes; the newest answer for a (channel, gate, subject, policy) replaces older
// ones. Answers that are outdated for a month are deleted.
func (l Ledger) RecordObservations(ctx context.Context, observations []plan.Observation) error {
	return l.writeKnown(ctx, "record observations", func(tx Tx) {
		var newest int64
		for _, o := range observations {
			at := rows.Millis(o.ObservedAt)
			tx.Queue(`INSERT INTO observations (channel, gate, subject, policy, observed_at, valid_until, body)
				VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (channel, gate, subject, policy)
				DO UPDATE SET observed_at = excluded.observed_at,
				valid_until = excluded.valid_until, body = excluded.body
				WHERE excluded.observed_at >= observations.observed_at`,
				o.Channel, o.Gate, o.Subject, o.Policy, at, rows.Millis(o.ValidUntil), jsonBody{o})
			newest = max(newest, at)
		}
		tx.Queue(`DELETE FROM observations WHERE valid_until <> 0 AND valid_until < $1`,
			newest-observationRetention.Milliseconds())
	})
}

// RecordSeen stores the newest commit that was acted upon, and the branch's divergence from it; nil clears that.
func (l Ledger) RecordSeen(ctx context.Context, commit string, d *plan.Divergence) error {
	return l.writeKnown(ctx, "record the commit that was seen", func(tx Tx) {
		queueFact(tx, "seen", commit)
		if d == nil {
			tx.Queue(`DELETE FROM facts WHERE name = 'diverged'`)
			return
		}
		queueFact(tx, "diverged", d)
	})
}

// RecordRefusal stores that pushes for a channel are not tried again for a while; nil clears that.
func (l Ledger) RecordRefusal(ctx context.Context, channel string, r *plan.Refusal) error {
	return l.writeKnown(ctx, "record a refused push to "+channel, func(tx Tx) {
		if r == nil {
			tx.Queue(`DELETE FROM refusals WHERE channel = $1`, channel)
			return
		}
		tx.Queue(`INSERT INTO refusals (channel, body) VALUES ($1, $2)
			ON CONFLICT (channel) DO UPDATE SET body = excluded.body`, channel, jsonBody{r})
	})
}
