package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/flags/announce"
)

// Kill keeps k in place of an earlier kill of the same flag, and tells the others.
func (s *Store) Kill(ctx context.Context, k plan.Kill) error {
	k.Landed = ""
	body, err := rows.Encode(k)
	if err != nil {
		return err
	}
	return s.write(ctx, "keep the kill of "+k.Override.Flag, func(ctx context.Context, tx pgx.Tx, _ bool) error {
		_, err := tx.Exec(ctx, `INSERT INTO kills (flag, id, landed, body) VALUES ($1, $2, 0, $3)
			ON CONFLICT (flag) DO UPDATE SET id = excluded.id, landed = 0, body = excluded.body`, k.Override.Flag, k.ID, body)
		if err != nil {
			return err
		}
		return s.tell(ctx, tx, note{Flags: true})
	})
}

// Kills gives the kills that are kept, by flag.
func (s *Store) Kills(ctx context.Context) (all []plan.Kill, err error) {
	err = s.read(ctx, "read kills", func(ctx context.Context, tx pgx.Tx) error {
		all, err = list[plan.Kill](ctx, tx, `SELECT body FROM kills ORDER BY flag`)
		return err
	})
	return all, err
}

// Landed says in which commit a kill is, and forgets those that landed long ago.
func (s *Store) Landed(ctx context.Context, id, commit string) error {
	return s.ledger(ctx, "keep that a kill landed", func(ctx context.Context, tx pgx.Tx) error {
		now, err := s.at(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(`UPDATE kills SET landed = $1, body = jsonb_set(body::jsonb, '{landed}', to_jsonb($2::text))::text WHERE id = $3`, rows.Millis(now), commit, id)
		b.Queue(`DELETE FROM kills WHERE landed <> 0 AND landed < $1`, rows.Millis(now.Add(-rows.KeepLanded)))
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return s.tell(ctx, tx, note{Flags: true})
	})
}

// FlagsMark gives the newest commit of the flags repository that was acted upon.
func (s *Store) FlagsMark(ctx context.Context) (m plan.FlagsMark, err error) {
	return m, s.decodeFact(ctx, rows.FlagsFact, &m)
}

// MarkFlags keeps it, and tells the others.
func (s *Store) MarkFlags(ctx context.Context, m plan.FlagsMark) error {
	return s.ledger(ctx, "keep the flags repository's mark", func(ctx context.Context, tx pgx.Tx) error {
		if err := keepFact(ctx, tx, rows.FlagsFact, m); err != nil {
			return err
		}
		return s.tell(ctx, tx, note{Flags: true})
	})
}

// FlagsMemory gives what the newest plan for announcements told the next.
func (s *Store) FlagsMemory(ctx context.Context) (m announce.Memory, err error) {
	return m, s.decodeFact(ctx, rows.MemoryFact, &m)
}

// RememberFlags keeps it.
func (s *Store) RememberFlags(ctx context.Context, m announce.Memory) error {
	return s.ledger(ctx, "keep what announcements remember", func(ctx context.Context, tx pgx.Tx) error {
		return keepFact(ctx, tx, rows.MemoryFact, m)
	})
}

func (s *Store) decodeFact(ctx context.Context, name string, v any) error {
	body, err := s.Fact(ctx, name)
	if err != nil || body == "" {
		return err
	}
	return wrap("read "+name, rows.Decode(body, v))
}

func keepFact(ctx context.Context, tx pgx.Tx, name string, value any) error {
	b := &pgx.Batch{}
	if err := fact(b, name, value); err != nil {
		return err
	}
	return tx.SendBatch(ctx, b).Close()
}
