package store

import (
	"context"
	"database/sql"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/flags/announce"
)

// Kill keeps k in place of an earlier kill of the same flag.
func (s *Store) Kill(ctx context.Context, k plan.Kill) error {
	k.Landed = ""
	return s.tx(ctx, "keep the kill of "+k.Override.Flag, func(tx *sql.Tx) error {
		body, err := rows.Encode(k)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO kills (flag, id, landed, body) VALUES (?, ?, 0, ?)
			ON CONFLICT (flag) DO UPDATE SET id = excluded.id, landed = 0, body = excluded.body`, k.Override.Flag, k.ID, body)
		return err
	})
}

// Kills gives the kills that are kept, by flag.
func (s *Store) Kills(ctx context.Context) ([]plan.Kill, error) {
	all, err := list[plan.Kill](ctx, s.read, `SELECT body FROM kills ORDER BY flag`)
	return all, wrap("read kills", err)
}

// Landed says in which commit a kill is, and forgets those that landed long ago.
func (s *Store) Landed(ctx context.Context, id, commit string) error {
	return s.ledger(ctx, "keep that a kill landed", func(tx *sql.Tx) error {
		now := s.now()
		_, err := tx.Exec(`UPDATE kills SET landed = ?, body = json_set(body, '$.landed', ?) WHERE id = ?`, rows.Millis(now), commit, id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM kills WHERE landed <> 0 AND landed < ?`, rows.Millis(now.Add(-rows.KeepLanded)))
		return err
	})
}

// FlagsMark gives the newest commit of the flags repository that was acted upon.
func (s *Store) FlagsMark(ctx context.Context) (m plan.FlagsMark, err error) {
	return m, s.decodeFact(ctx, rows.FlagsFact, &m)
}

// MarkFlags keeps it.
func (s *Store) MarkFlags(ctx context.Context, m plan.FlagsMark) error {
	return s.ledger(ctx, "keep the flags repository's mark", func(tx *sql.Tx) error { return fact(tx, rows.FlagsFact, m) })
}

// FlagsMemory gives what the newest plan for announcements told the next.
func (s *Store) FlagsMemory(ctx context.Context) (m announce.Memory, err error) {
	return m, s.decodeFact(ctx, rows.MemoryFact, &m)
}

// RememberFlags keeps it.
func (s *Store) RememberFlags(ctx context.Context, m announce.Memory) error {
	return s.ledger(ctx, "keep what announcements remember", func(tx *sql.Tx) error { return fact(tx, rows.MemoryFact, m) })
}

func (s *Store) decodeFact(ctx context.Context, name string, v any) error {
	body, err := s.Fact(ctx, name)
	if err != nil || body == "" {
		return err
	}
	return wrap("read "+name, rows.Decode(body, v))
}
