package tables

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Records stores small documents that need no table of their own. Any process may write it.
type Records struct{ db Database }

var _ records.Store = Records{}

// Records returns the table of records.
func (t Tables) Records() records.Store { return t.records }

// Get returns a record, or records.ErrNotFound.
func (t Records) Get(ctx context.Context, kind, key string) (records.Record, error) {
	if err := records.ValidateName(kind, key); err != nil {
		return records.Record{}, fmt.Errorf("read a record: %w", err)
	}
	found, err := t.query(ctx, `SELECT kind, key, version, updated, body FROM records WHERE kind = $1 AND key = $2`,
		kind, key)
	if err != nil {
		return records.Record{}, err
	}
	if len(found) == 0 {
		return records.Record{}, fmt.Errorf("read %s %.80q: %w", kind, key, records.ErrNotFound)
	}
	return found[0], nil
}

// List returns a page of a kind's records.
func (t Records) List(ctx context.Context, kind string, p records.Page) ([]records.Record, error) {
	p, err := p.Normalise(kind)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	found, err := t.query(ctx, `SELECT kind, key, version, updated, body FROM records
		WHERE kind = $1 AND key >= $2 AND key > $3 ORDER BY key LIMIT $4`,
		kind, p.Prefix, p.After, p.Limit)
	return p.FilterPrefix(found), err
}

func (t Records) query(ctx context.Context, query string, args ...any) ([]records.Record, error) {
	return readTx(ctx, t.db, "read records", func(r Reader) (all []records.Record, err error) {
		var v records.Record
		var body string
		return all, r.Each(query, args, []any{&v.Kind, &v.Key, &v.Version, millisColumn{&v.Updated}, &body},
			func() error {
				v.Body = json.RawMessage(body)
				all = append(all, v)
				return nil
			})
	})
}

// Put stores r in place of the record with r.Version; 0: as a new one. Else records.ErrConflict.
func (t Records) Put(ctx context.Context, r records.Record) (records.Record, error) {
	op := fmt.Sprintf("store %.80q of %.80q", r.Key, r.Kind)
	if err := r.Validate(); err != nil {
		return records.Record{}, fmt.Errorf("%s: %w", op, err)
	}
	before := r.Version
	for r.Version == before {
		r.Version = 1 + rand.Int64N(1<<53-1) // a floating-point number can hold the version exactly
	}
	err := t.db.Write(ctx, op, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		r.Updated = now.UTC().Truncate(time.Millisecond)
		statement, args := `UPDATE records SET version = $3, updated = $4, body = $5
			WHERE kind = $1 AND key = $2 AND version = $6`,
			[]any{r.Kind, r.Key, r.Version, rows.Millis(r.Updated), string(r.Body), before}
		if before == 0 {
			statement, args = `INSERT INTO records (kind, key, version, updated, body) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT DO NOTHING`, args[:5]
		}
		tx.Notify(changedRecord(r.Kind, r.Key))
		written, err := tx.Exec(statement, args...)
		if err != nil || written > 0 {
			return err
		}
		if tx.MaybeCommitted() {
			if made, err := rowExists(tx, `SELECT 1 FROM records WHERE kind = $1 AND key = $2 AND version = $3`, r.Kind,
				r.Key, r.Version); err != nil || made {
				return err
			}
		}
		return records.ErrConflict
	})
	if err != nil {
		return records.Record{}, err
	}
	return r, nil
}

// changedRecord is what other processes are notified of. After an error nothing is committed, and nobody is notified.
func changedRecord(kind, key string) engine.StoreUpdate {
	return engine.StoreUpdate{Records: []string{kind + "/" + key}}
}

// Delete deletes the record with that version. Else records.ErrConflict.
func (t Records) Delete(ctx context.Context, kind, key string, version int64) error {
	op := fmt.Sprintf("delete %.80q of %.80q", key, kind)
	if err := records.ValidateName(kind, key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return t.db.Write(ctx, op, func(tx Tx) error {
		tx.Notify(changedRecord(kind, key))
		deleted, err := tx.Exec(`DELETE FROM records WHERE kind = $1 AND key = $2 AND version = $3`, kind, key, version)
		if err != nil || deleted > 0 {
			return err
		}
		if tx.MaybeCommitted() { // deleted, most likely by an earlier attempt
			if there, err := rowExists(tx, `SELECT 1 FROM records WHERE kind = $1 AND key = $2`, kind,
				key); err != nil || !there {
				return err
			}
		}
		return records.ErrConflict
	})
}
