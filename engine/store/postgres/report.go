package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

const (
	trimEvery     = 100 // a cell's events are trimmed after so many new ones
	maxTextLength = 200 // bytes of a text column for people; the body has the whole text
)

// RecordReports stores cells' states and events, all or none of the batch, durably. Each state's version must be one
// above the stored one's, else the error is plan.ErrStale. If ctx ends first, or after plan.ErrBusy, the batch may have
// been stored: a caller that reports again then gets ErrStale, reads and folds again.
func (s *Store) RecordReports(ctx context.Context, batch []plan.Reported) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := rows.EncodeReports(batch)
	if err != nil || r.Empty() {
		return err
	}
	for _, c := range r.Cells {
		if cleanText(c.Name) != c.Name {
			return fmt.Errorf("store a report: %.80q is not a cell's name", c.Name)
		}
	}
	return s.queue.Submit(ctx, r)
}

// cleanText makes a cell's text valid for PostgreSQL: what one cell reports must not fail the commit of others.
func cleanText(text string) string {
	if len(text) <= maxTextLength && utf8.ValidString(text) && !strings.ContainsRune(text, 0) {
		return text
	}
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= maxTextLength {
		return text
	}
	return strings.ToValidUTF8(text[:maxTextLength], "") // drop a rune that was cut in two
}

// batchWriter writes reports in batches, in the queue's goroutine.
type batchWriter struct {
	*Store
	newEvents map[string]int // number of events by cell since the last trim
}

// newBatchWriter returns the function by which the queue writes a batch.
func (s *Store) newBatchWriter() func([]*rows.Report) (map[*rows.Report]error, error) {
	w := &batchWriter{Store: s, newEvents: map[string]int{}}
	return w.writeBatch
}

// writeBatch writes a batch in one transaction; if the data of one report can't be stored, each report in its own.
func (w *batchWriter) writeBatch(batch []*rows.Report) (refused map[*rows.Report]error, err error) {
	refused, err = w.writeTogether(batch)
	if len(batch) == 1 || !isDataError(err) {
		return refused, err
	}
	refused = map[*rows.Report]error{}
	for _, r := range batch {
		alone, err := w.writeTogether([]*rows.Report{r})
		if refused[r] = alone[r]; err != nil {
			refused[r] = err
		}
	}
	return refused, nil
}

// writeTogether writes a batch in one transaction. At first it presumes that each report was folded on its cell's
// current version, as nearly all are, and writes in one round trip, which the database refuses as a whole otherwise.
// Then it locks the rows and reads their versions.
func (w *batchWriter) writeTogether(batch []*rows.Report) (map[*rows.Report]error, error) {
	var a rows.Admitted
	looks := false
	err := w.retryWrite(context.Background(), w.reports, "store reports", func(ctx context.Context, t *attempt) error {
		if !looks && !t.maybeCommitted {
			before := presumedVersions(batch)
			a = rows.Admit(batch, maps.Clone(before))
			err := w.writeAdmitted(ctx, t, batch, a, before)
			if looks = sqlState(err) == versionMismatch; !looks {
				return err
			}
		}
		before, bodies, err := lockCells(ctx, t, rows.CellNames(batch))
		if err != nil {
			return err
		}
		if t.maybeCommitted && wasCommitted(a.Cells, before, bodies) {
			return rollback(ctx, t)
		}
		if a = rows.Admit(batch, maps.Clone(before)); len(a.Cells) == 0 {
			return rollback(ctx, t)
		}
		err = w.writeAdmitted(ctx, t, batch, a, before)
		// Another process has just made a new cell's row.
		if sqlState(err) == versionMismatch {
			return fmt.Errorf("%w: %w", errRetry, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	w.versions.recordWritten(admittedVersions(batch, a))
	return a.Refused, nil
}

// presumedVersions returns the versions that cells have if none of the reports is stale.
func presumedVersions(batch []*rows.Report) map[string]int64 {
	before := make(map[string]int64, len(batch))
	for _, r := range batch {
		for _, c := range r.Cells {
			if _, known := before[c.Name]; !known {
				before[c.Name] = c.Version - 1
			}
		}
	}
	return before
}

// lockCells begins the transaction and locks the rows of the named cells, always in the same order. It returns bodies
// only if an earlier attempt may have been committed.
func lockCells(ctx context.Context, t *attempt, names []string) (stored map[string]int64, bodies map[string]string,
	err error) {
	stored, bodies = make(map[string]int64, len(names)), map[string]string{}
	b := &pgx.Batch{}
	b.Queue(`BEGIN`)
	b.Queue(`SELECT name, version, CASE WHEN $2 THEN body ELSE '' END FROM cells
		WHERE name = ANY($1) ORDER BY name FOR UPDATE`, names, t.maybeCommitted).
		Query(func(found pgx.Rows) error {
			var name, body string
			var version int64
			_, err := pgx.ForEachRow(found, []any{&name, &version, &body}, func() error {
				if stored[name] = version; t.maybeCommitted {
					bodies[name] = body
				}
				return nil
			})
			return err
		})
	return stored, bodies, t.conn.SendBatch(ctx, b).Close()
}

func rollback(ctx context.Context, t *attempt) error {
	_, err := t.conn.Exec(ctx, `ROLLBACK`)
	return err
}

// wasCommitted reports whether an attempt whose answer was lost was committed; all of its rows are there, or none. A
// higher version of a row, which another process wrote on top, proves the attempt too.
func wasCommitted(attempt []rows.Cell, stored map[string]int64, bodies map[string]string) bool {
	if len(attempt) == 0 {
		return false
	}
	for _, c := range attempt {
		switch version := stored[c.Name]; {
		case version < c.Version:
			return false
		case version == c.Version:
			return bodies[c.Name] == c.Body
		}
	}
	return false // others have written every row since: ErrStale makes the caller read and fold again
}

// writeAdmitted writes what was admitted, and commits, in one round trip. If a cell does not have the version in
// before, the error's code is versionMismatch and nothing is written.
func (w *batchWriter) writeAdmitted(ctx context.Context, t *attempt, batch []*rows.Report, a rows.Admitted,
	before map[string]int64) error {
	b := &pgx.Batch{}
	queueCells(b, a.Cells, before)
	queueEvents(b, a.Events)
	if names := w.cellsToTrim(a.Events); len(names) > 0 {
		b.Queue(`DELETE FROM events e USING (SELECT cell, (SELECT id FROM events x
			WHERE x.cell = c.cell ORDER BY id DESC LIMIT 1 OFFSET $2) AS upto
			FROM unnest($1::text[]) AS c (cell)) AS old WHERE e.cell = old.cell AND e.id <= old.upto`, names, w.history)
	}
	if err := w.queueNotification(b, batch, a); err != nil {
		return err
	}
	// Outside of a transaction, a batch is one transaction, committed at its end.
	inside := t.conn.PgConn().TxStatus() == 'T'
	if inside {
		b.Queue(`COMMIT`)
	}
	t.committing = true
	err := t.conn.SendBatch(ctx, b).Close()
	if err != nil && inside && !t.conn.IsClosed() {
		err = errors.Join(err, rollback(ctx, t))
	}
	return err
}

// versionMismatch is the code of the error, a division by zero, that keeps a statement from being committed when a row
// does not have the expected version.
const versionMismatch = "22012"

// queueCells writes states over the versions in before, or as new rows, in the order of the cells' names, in which
// every process locks them.
func queueCells(b *pgx.Batch, cells []rows.Cell, before map[string]int64) {
	slices.SortFunc(cells, func(x, y rows.Cell) int { return cmp.Compare(x.Name, y.Name) })
	var updated, created cellColumns
	for _, c := range cells {
		if v := before[c.Name]; v != 0 {
			updated.add(c, v)
		} else {
			created.add(c, 0)
		}
	}
	if n := len(updated.names); n > 0 {
		b.Queue(`WITH new AS (
				SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
					$7::bigint[], $8::text[])
				AS new (name, before, version, channel, release, state, last_report, body)
			), written AS (
				UPDATE cells SET version = new.version, channel = new.channel, release = new.release, state = new.state,
					last_report = new.last_report, body = new.body
				FROM new WHERE cells.name = new.name AND cells.version = new.before RETURNING 1
			)
			SELECT 1 / (count(*) = $9::bigint)::integer FROM written`,
			updated.names, updated.before, updated.versions, updated.channels, updated.releases, updated.states,
			updated.reported, updated.bodies, n)
	}
	if n := len(created.names); n > 0 {
		b.Queue(`WITH written AS (
				INSERT INTO cells (name, version, channel, release, state, last_report, body)
				SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[],
					$6::bigint[], $7::text[])
				ON CONFLICT (name) DO NOTHING RETURNING 1
			)
			SELECT 1 / (count(*) = $8::bigint)::integer FROM written`,
			created.names, created.versions, created.channels, created.releases, created.states, created.reported,
			created.bodies, n)
	}
}

// cellColumns holds rows of cells by column.
type cellColumns struct {
	names, channels, releases, states, bodies []string
	before, versions, reported                []int64
}

func (l *cellColumns) add(c rows.Cell, before int64) {
	l.names, l.bodies, l.before = append(l.names, c.Name), append(l.bodies, c.Body), append(l.before, before)
	l.versions, l.reported = append(l.versions, c.Version), append(l.reported, c.LastReport)
	l.channels, l.releases, l.states = append(l.channels, cleanText(c.Channel)),
		append(l.releases, cleanText(c.Release)), append(l.states, cleanText(c.State))
}

func queueEvents(b *pgx.Batch, events []rows.Event) {
	if len(events) == 0 {
		return
	}
	n := len(events)
	cells, boots, bodies, numbers := make([]string, n), make([]string, n), make([]string, n), make([]int64, n)
	for i, e := range events {
		cells[i], boots[i], numbers[i], bodies[i] = e.Cell, cleanText(e.Boot), e.Number, e.Body
	}
	b.Queue(`INSERT INTO events (cell, boot, number, body) SELECT *
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
		ON CONFLICT (cell, boot, number) DO NOTHING`, cells, boots, numbers, bodies)
}

// cellsToTrim returns the cells that have many new events, or the first ones since the start.
func (w *batchWriter) cellsToTrim(events []rows.Event) []string {
	due := map[string]bool{}
	for _, e := range events {
		n, known := w.newEvents[e.Cell]
		if w.newEvents[e.Cell] = n + 1; !known || n+1 >= trimEvery {
			w.newEvents[e.Cell] = 0
			due[e.Cell] = true
		}
	}
	return slices.Sorted(maps.Keys(due))
}

// queueNotification notifies the other stores at once of reports that say something new.
func (w *batchWriter) queueNotification(b *pgx.Batch, batch []*rows.Report, a rows.Admitted) error {
	material, _ := admittedVersions(batch, a)
	if len(material) == 0 {
		return nil
	}
	n := notification{By: w.name, Cells: slices.Sorted(maps.Keys(material)), Versions: []int64{},
		Material: true}
	for _, name := range n.Cells {
		n.Versions = append(n.Versions, material[name])
	}
	payloads, err := n.payloads()
	if err != nil {
		return err
	}
	b.Queue(notifyStatement, payloads)
	return nil
}

// admittedVersions returns the versions of admitted reports, those that say something new apart.
func admittedVersions(batch []*rows.Report, a rows.Admitted) (material, unchanged map[string]int64) {
	material, unchanged = map[string]int64{}, make(map[string]int64, len(a.Cells))
	for _, c := range a.Cells {
		unchanged[c.Name] = c.Version
	}
	for _, r := range batch {
		if !r.Material || a.Refused[r] != nil {
			continue
		}
		for _, c := range r.Cells {
			if v, ok := unchanged[c.Name]; ok {
				material[c.Name] = v
				delete(unchanged, c.Name)
			}
		}
	}
	return material, unchanged
}
