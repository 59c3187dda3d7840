package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Audit stores who did what, as a chain. Any process may write it: the row of the head is locked until the commit, so
// that rows follow each other, even those of several processes. Entries of many callers share commits.
type Audit struct {
	db    Database
	queue *rows.Queue[*access.Entry]
}

func newAudit(db Database) Audit {
	a := Audit{db: db}
	a.queue = rows.NewQueue(func(batch []*access.Entry) (map[*access.Entry]error, error) {
		entries := make([]access.Entry, len(batch))
		for i, e := range batch {
			entries[i] = *e
		}
		return nil, a.append(context.Background(), entries)
	})
	return a
}

// CloseAudit writes all entries that wait. It may be called again.
func (a Audit) CloseAudit() { a.queue.Close() }

// RecordAudit stores an entry of who did what, durably. After a lost answer of the database it may be stored twice.
func (a Audit) RecordAudit(ctx context.Context, e access.Entry) error { return a.queue.Submit(ctx, &e) }

// AuditEntries returns at most limit of the audit's newest entries, newest first.
func (a Audit) AuditEntries(ctx context.Context, limit int) ([]access.Entry, error) {
	return readJSON[access.Entry](ctx, a.db, "read the audit", `SELECT body FROM audit ORDER BY id DESC LIMIT $1`,
		limit)
}

// AuditChain returns how far the audit is. Of its rows after the one with that number, the first is the oldest that is
// open.
func (a Audit) AuditChain(ctx context.Context, after int64) (c audithead.Chain, err error) {
	err = a.db.Read(ctx, "read how far the audit is", func(r Reader) error {
		h, err := readAuditHead(r)
		c = audithead.Chain{Row: h.head.Number, Hash: h.head.Hash}
		if err != nil || h.head.Number <= after {
			return err
		}
		first, err := queryJSON[audit.Row](r, `SELECT body FROM audit WHERE number > $1 ORDER BY number LIMIT 1`, after)
		if len(first) > 0 {
			c.Open = first[0].At
		}
		return err
	})
	return c, err
}

type auditHead struct{ head, cut audit.Head }

func readAuditHead(r Reader) (auditHead, error) {
	found, err := queryRows(r, func(h *auditHead) []any {
		return []any{&h.head.Number, &h.head.Hash, &h.cut.Number, &h.cut.Hash}
	}, `SELECT number, hash, cut_number, cut_hash FROM audit_head`)
	if err == nil && len(found) != 1 {
		err = errors.New("the audit has no head")
	}
	if err != nil {
		return auditHead{}, err
	}
	return found[0], nil
}

func (a Audit) append(ctx context.Context, entries []access.Entry) error {
	return a.db.Write(ctx, "store audit entries", func(tx Tx) error {
		if _, err := tx.Exec(`UPDATE audit_head SET number = number`); err != nil { // locks it
			return err
		}
		h, err := readAuditHead(tx)
		if err == nil && h.head.Number == 0 {
			h.head, err = chainOlder(tx)
		}
		if err != nil {
			return err
		}
		sealed, head, err := audit.Chain(h.head, entries)
		if err != nil {
			return err
		}
		for _, s := range sealed {
			tx.Queue(`INSERT INTO audit (body, number, hash) VALUES ($1, $2, $3)`, s.Body, s.Number, s.Hash)
		}
		if head.Number-h.cut.Number > audit.MaxRows+audit.MaxRows/10 {
			if h.cut, err = cutAudit(tx, head.Number-audit.MaxRows); err != nil {
				return err
			}
		}
		tx.Queue(`UPDATE audit_head SET number = $1, hash = $2, cut_number = $3, cut_hash = $4`, head.Number, head.Hash,
			h.cut.Number, h.cut.Hash)
		return nil
	})
}

// chainOlder makes a chain of the rows from before there was one, once.
func chainOlder(tx Tx) (head audit.Head, err error) {
	type older struct {
		id   int64
		body string
	}
	found, err := queryRows(tx, func(o *older) []any { return []any{&o.id, &o.body} },
		`SELECT id, body FROM audit ORDER BY id`)
	for _, o := range found {
		var e access.Entry
		if err := json.Unmarshal([]byte(o.body), &e); err != nil {
			return head, fmt.Errorf("read a line of the audit: %w", err)
		}
		var sealed []audit.Sealed
		if sealed, head, err = audit.Chain(head, []access.Entry{e}); err != nil {
			return head, err
		}
		tx.Queue(`UPDATE audit SET body = $1, number = $2, hash = $3 WHERE id = $4`, sealed[0].Body, sealed[0].Number,
			sealed[0].Hash, o.id)
	}
	return head, err
}

// cutAudit deletes the rows up to a number, and returns the last of them.
func cutAudit(tx Tx, upTo int64) (cut audit.Head, err error) {
	found, err := queryColumn[string](tx, `SELECT hash FROM audit WHERE number = $1`, upTo)
	if err != nil || len(found) == 0 {
		return cut, errors.Join(err, fmt.Errorf("the audit has no row %d", upTo))
	}
	tx.Queue(`DELETE FROM audit WHERE number <= $1`, upTo)
	return audit.Head{Number: upTo, Hash: found[0]}, nil
}

// CutAudit deletes all but the newest keep rows, and keeps the hash of the last row that it deletes.
func (a Audit) CutAudit(ctx context.Context, keep int64) error {
	return a.db.Write(ctx, "cut the audit", func(tx Tx) error {
		if _, err := tx.Exec(`UPDATE audit_head SET number = number`); err != nil { // locks it
			return err
		}
		h, err := readAuditHead(tx)
		if err != nil || h.head.Number-h.cut.Number <= keep {
			return err
		}
		cut, err := cutAudit(tx, h.head.Number-keep)
		if err == nil {
			tx.Queue(`UPDATE audit_head SET cut_number = $1, cut_hash = $2`, cut.Number, cut.Hash)
		}
		return err
	})
}

// ExportAudit calls begin with the header of an export and then write with each row, oldest first, all as of one
// instant. Rows from before there was a chain are not in it until the first entry after that.
func (a Audit) ExportAudit(ctx context.Context, begin func(audit.Header) error, write func(audit.Sealed) error) error {
	return a.db.Read(ctx, "export the audit", func(r Reader) error {
		h, err := readAuditHead(r)
		if err == nil {
			err = begin(audit.Header{Head: h.head, Cut: h.cut})
		}
		if err != nil {
			return err
		}
		var s audit.Sealed
		return r.Each(`SELECT number, body, hash FROM audit WHERE number > 0 ORDER BY number`, nil,
			[]any{&s.Number, &s.Body, &s.Hash}, func() error { return write(s) })
	})
}
