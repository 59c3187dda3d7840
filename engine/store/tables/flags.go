package tables

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/flags/announce"
)

// Names of facts.
const (
	flagsFact  = "flags"         // plan.FlagsMark
	memoryFact = "announcements" // announce.Memory
)

// killRetention is how long a landed kill is kept, since a replica may not have its commit yet.
const killRetention = 7 * 24 * time.Hour

// Flags stores kills, which any process may write, and the announcer's progress, which only the leader writes.
type Flags struct {
	db      Database
	dialect Dialect
}

// Kill stores k in place of an earlier kill of the same flag, and notifies the followers.
func (f Flags) Kill(ctx context.Context, k plan.Kill) error {
	k.Landed = ""
	return f.db.Write(ctx, "store the kill of "+k.Override.Flag, func(tx Tx) error {
		tx.Queue(`INSERT INTO kills (flag, id, landed, body) VALUES ($1, $2, 0, $3)
			ON CONFLICT (flag) DO UPDATE SET id = excluded.id, landed = 0, body = excluded.body`,
			k.Override.Flag, k.ID, jsonBody{k})
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// Kills returns the stored kills, by flag.
func (f Flags) Kills(ctx context.Context) ([]plan.Kill, error) {
	return readJSON[plan.Kill](ctx, f.db, "read kills", `SELECT body FROM kills ORDER BY flag`)
}

// MarkKillLanded records a kill's commit, and deletes kills that landed long ago.
func (f Flags) MarkKillLanded(ctx context.Context, id, commit string) error {
	return f.db.WriteAsLeader(ctx, "record that a kill landed", func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		tx.Queue(`UPDATE kills SET landed = $1, body = `+f.dialect.SetLanded+` WHERE id = $3`, rows.Millis(now), commit,
			id)
		tx.Queue(`DELETE FROM kills WHERE landed <> 0 AND landed < $1`, rows.Millis(now.Add(-killRetention)))
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// FlagsMark returns the newest commit of the flags repository that was acted upon.
func (f Flags) FlagsMark(ctx context.Context) (plan.FlagsMark, error) {
	return readFact[plan.FlagsMark](ctx, f.db, flagsFact)
}

// SetFlagsMark stores the mark, and notifies the followers.
func (f Flags) SetFlagsMark(ctx context.Context, m plan.FlagsMark) error {
	return f.db.WriteAsLeader(ctx, "store the flags repository's mark", func(tx Tx) error {
		queueFact(tx, flagsFact, m)
		tx.Notify(engine.StoreUpdate{Flags: true})
		return nil
	})
}

// FlagsMemory returns what the newest plan for announcements left for the next one.
func (f Flags) FlagsMemory(ctx context.Context) (announce.Memory, error) {
	return readFact[announce.Memory](ctx, f.db, memoryFact)
}

// SetFlagsMemory stores the memory.
func (f Flags) SetFlagsMemory(ctx context.Context, m announce.Memory) error {
	return f.db.WriteAsLeader(ctx, "store the announcements' memory", func(tx Tx) error {
		queueFact(tx, memoryFact, m)
		return nil
	})
}
