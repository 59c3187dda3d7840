package tables

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/flags/announce"
)

// Names of single values.
const (
	flagsFact  = "flags"         // plan.FlagsMark
	memoryFact = "announcements" // announce.Memory
)

// killRetention is how long a kill is kept after it landed: until then a replica may not have that commit.
const killRetention = 7 * 24 * time.Hour

// Flags is kills, which any process may write, and what the announcer saw and told, which only who leads writes.
type Flags struct {
	db      Database
	dialect Dialect
}

// Kill keeps k in place of an earlier kill of the same flag, and tells the others.
func (f Flags) Kill(ctx context.Context, k plan.Kill) error {
	k.Landed = ""
	return f.db.Write(ctx, "keep the kill of "+k.Override.Flag, func(tx Tx) error {
		tx.Queue(`INSERT INTO kills (flag, id, landed, body) VALUES ($1, $2, 0, $3)
			ON CONFLICT (flag) DO UPDATE SET id = excluded.id, landed = 0, body = excluded.body`, k.Override.Flag, k.ID, jsonBody{k})
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// Kills gives the kills that are kept, by flag.
func (f Flags) Kills(ctx context.Context) ([]plan.Kill, error) {
	return readJSON[plan.Kill](ctx, f.db, "read kills", `SELECT body FROM kills ORDER BY flag`)
}

// MarkKillLanded says in which commit a kill is, and forgets those that landed long ago.
func (f Flags) MarkKillLanded(ctx context.Context, id, commit string) error {
	return f.db.WriteAsLeader(ctx, "keep that a kill landed", func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		tx.Queue(`UPDATE kills SET landed = $1, body = `+f.dialect.SetLanded+` WHERE id = $3`, rows.Millis(now), commit, id)
		tx.Queue(`DELETE FROM kills WHERE landed <> 0 AND landed < $1`, rows.Millis(now.Add(-killRetention)))
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// FlagsMark gives the newest commit of the flags repository that was acted upon.
func (f Flags) FlagsMark(ctx context.Context) (plan.FlagsMark, error) {
	return readFact[plan.FlagsMark](ctx, f.db, flagsFact)
}

// SetFlagsMark keeps it, and tells the others.
func (f Flags) SetFlagsMark(ctx context.Context, m plan.FlagsMark) error {
	return f.db.WriteAsLeader(ctx, "keep the flags repository's mark", func(tx Tx) error {
		queueFact(tx, flagsFact, m)
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// FlagsMemory gives what the newest plan for announcements told the next.
func (f Flags) FlagsMemory(ctx context.Context) (announce.Memory, error) {
	return readFact[announce.Memory](ctx, f.db, memoryFact)
}

// SetFlagsMemory keeps it.
func (f Flags) SetFlagsMemory(ctx context.Context, m announce.Memory) error {
	return f.db.WriteAsLeader(ctx, "keep what announcements remember", func(tx Tx) error {
		queueFact(tx, memoryFact, m)
		return nil
	})
}
