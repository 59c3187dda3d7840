package tables

import (
	"context"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// RecordDecisions records decisions found in git, once for each commit, and returns those that are not announced yet,
// oldest first: new ones, and those that a crash kept from being announced (fault 3).
func (l Ledger) RecordDecisions(ctx context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error) {
	served := make([]rows.Sequence, 0, len(decisions))
	for _, d := range decisions {
		served = append(served, rows.Sequence{Channel: d.Channel, Number: d.Sequence})
	}
	err = l.db.WriteAsLeader(ctx, "record decisions", func(tx Tx) error {
		for _, d := range decisions {
			tx.Queue(`INSERT INTO decisions (commit_id, body) VALUES ($1, $2) ON CONFLICT (commit_id) DO NOTHING`,
				d.Commit, jsonBody{d})
		}
		if len(decisions) > 0 {
			if err := keepNewestDecisions(tx, decisions); err != nil {
				return err
			}
			raiseServed(tx, l.served.Unwritten(served))
			tx.Notify(engine.StoreUpdate{Known: true})
		}
		fresh, err = queryJSON[plan.Decided](tx, `SELECT body FROM decisions WHERE NOT announced ORDER BY id`)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.served.MarkWritten(served)
	return fresh, nil
}

// decidedFact begins the names of the facts that keep each channel's newest decision.
const decidedFact = "decided/"

// keepNewestDecisions stores those of the decisions that are newer than what is kept for their channels.
func keepNewestDecisions(tx Tx, decisions []plan.Decided) error {
	kept, err := newestDecisions(tx)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		if have, ok := kept[d.Channel]; !ok || d.Sequence > have.Sequence {
			kept[d.Channel] = d
			queueFact(tx, decidedFact+d.Channel, d)
		}
	}
	return nil
}

// newestDecisions reads the newest decision of each channel. A branch that lost it does not make it older (R51).
func newestDecisions(r Reader) (map[string]plan.Decided, error) {
	all, err := queryJSON[plan.Decided](r, `SELECT body FROM facts WHERE name LIKE '`+decidedFact+`%'`)
	newest := make(map[string]plan.Decided, len(all))
	for _, d := range all {
		newest[d.Channel] = d
	}
	return newest, err
}

// MarkAnnounced marks decisions as announced, by commit.
func (l Ledger) MarkAnnounced(ctx context.Context, commits []string) error {
	return l.writeKnown(ctx, "record announcements", func(tx Tx) {
		tx.Queue(`UPDATE decisions SET announced = true WHERE commit_id = ANY($1) AND NOT announced`, commits)
	})
}

// Decisions returns at most limit decisions after a cursor, in the order in which they were found, and the cursor of
// the last. A negative cursor asks for the newest ones.
func (o Observations) Decisions(ctx context.Context, after int64, limit int) (all []plan.Decided, next int64,
	err error) {
	query := `SELECT id, body FROM decisions WHERE id > $1 ORDER BY id LIMIT $2`
	if after < 0 {
		query = `SELECT id, body FROM (SELECT id, body FROM decisions
			WHERE id > $1 ORDER BY id DESC LIMIT $2) AS newest ORDER BY id`
	}
	err = o.db.Read(ctx, "read decisions", func(r Reader) error {
		all, next = nil, max(after, 0)
		var body string
		return r.Each(query, []any{after, limit}, []any{&next, &body}, func() error {
			var d plan.Decided
			err := rows.Decode(body, &d)
			all = append(all, d)
			return err
		})
	})
	return all, next, err
}
