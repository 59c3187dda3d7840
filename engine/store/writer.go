package store

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"time"
)

const (
	maxBatch   = 512                 // submissions that share a commit
	batchDelay = time.Millisecond    // the longest that one waits for others
	perInsert  = 32                  // rows a statement
	compactBy  = 100                 // a cell's events are cut back after so many new ones
	keptLonger = 30 * 24 * time.Hour // an answer to a probe that is out of date is shown for so long
	rollouts   = 4                   // kept for each channel: only the newest is looked at
)

// writer is the one goroutine that writes reports. It commits as soon as the batch is as large as the
// one before, for then all who were waiting have come again, or after batchDelay: a lone caller does
// not wait, and many share one fsync.
func (s *Store) writer() {
	defer close(s.done)
	fresh := map[string]int{} // events by cell since they were last cut back
	previous := 1
	for first := range s.queue {
		batch := s.gather(first, previous)
		err := s.commit(context.Background(), "keep reports", func(tx *sql.Tx) error { return s.keep(tx, batch, fresh) })
		if err == nil {
			for _, sub := range batch {
				s.served.raise(sub.served)
			}
		}
		for _, sub := range batch {
			sub.answer <- err
		}
		previous = len(batch)
	}
}

// gather takes what is waiting, up to maxBatch, and waits for more up to batchDelay while there are fewer than enough.
func (s *Store) gather(first *submission, enough int) []*submission {
	batch := []*submission{first}
	var late <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case sub, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, sub)
			continue
		default:
		}
		if len(batch) >= enough {
			return batch
		}
		if late == nil {
			t := time.NewTimer(batchDelay)
			defer t.Stop()
			late = t.C
		}
		select {
		case sub, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, sub)
		case <-late:
			return batch
		}
	}
	return batch
}

func (s *Store) keep(tx *sql.Tx, batch []*submission, fresh map[string]int) error {
	rows := make([][]any, 0, len(batch))
	at := make(map[string]int, len(batch)) // of a cell's row: the last one counts
	var events [][]any
	var served []servedRow
	for _, sub := range batch {
		for _, c := range sub.cells {
			row := []any{c.name, c.channel, c.release, c.state, c.lastReport, c.body}
			if i, twice := at[c.name]; twice {
				rows[i] = row
				continue
			}
			at[c.name] = len(rows)
			rows = append(rows, row)
		}
		for _, e := range sub.events {
			events = append(events, []any{e.cell, e.boot, e.number, e.body})
		}
	}
	err := insert(tx, `INSERT INTO cells (name, channel, release, state, last_report, body) VALUES `, rows,
		` ON CONFLICT (name) DO UPDATE SET channel = excluded.channel, release = excluded.release, state = excluded.state,
		  last_report = excluded.last_report, body = excluded.body`)
	if err != nil {
		return err
	}
	if err := insert(tx, `INSERT INTO events (cell, boot, number, body) VALUES `, events, ` ON CONFLICT (cell, boot, number) DO NOTHING`); err != nil {
		return err
	}
	if err := s.compact(tx, batch, fresh); err != nil {
		return err
	}
	for _, sub := range batch {
		served = append(served, sub.served...)
	}
	return s.raiseServed(tx, served)
}

// compact cuts the history of cells that wrote much since the last time, or for the first time since the start.
func (s *Store) compact(tx *sql.Tx, batch []*submission, fresh map[string]int) error {
	for _, sub := range batch {
		for _, e := range sub.events {
			n, known := fresh[e.cell]
			fresh[e.cell] = n + 1
			if known && n+1 < compactBy {
				continue
			}
			fresh[e.cell] = 0
			_, err := tx.Exec(`DELETE FROM events WHERE cell = ?1 AND id <= (SELECT id FROM events WHERE cell = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`, e.cell, s.history)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// insert writes rows with few statements, perInsert rows each while there are so many.
func insert(tx *sql.Tx, head string, rows [][]any, tail string) error {
	var many *sql.Stmt
	for len(rows) > 0 {
		n := min(len(rows), perInsert)
		args := make([]any, 0, n*len(rows[0]))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		var err error
		switch {
		case n < perInsert:
			_, err = tx.Exec(head+tuples(n, len(rows[0]))+tail, args...)
		default:
			if many == nil {
				if many, err = tx.Prepare(head + tuples(n, len(rows[0])) + tail); err != nil {
					return err
				}
				defer many.Close()
			}
			_, err = many.Exec(args...)
		}
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func tuples(rows, columns int) string {
	tuple := "(?" + strings.Repeat(",?", columns-1) + ")"
	return tuple + strings.Repeat(","+tuple, rows-1)
}

// servedCache remembers what this process wrote to served, so that an ordinary report writes nothing there.
// It may be behind other processes: the statement itself never lowers a sequence.
type servedCache struct {
	mu      sync.Mutex
	highest map[string]int64 // by channel
}

func (c *servedCache) news(r servedRow) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.channel != "" && r.sequence > c.highest[r.channel]
}

func (c *servedCache) raise(rows []servedRow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range rows {
		if c.highest == nil {
			c.highest = map[string]int64{}
		}
		c.highest[r.channel] = max(c.highest[r.channel], r.sequence)
	}
}

// raiseServed keeps the highest sequence ever served or reported (R2). After the commit the caller tells the cache.
func (s *Store) raiseServed(tx *sql.Tx, rows []servedRow) error {
	highest := map[string]int64{}
	for _, r := range rows {
		if s.served.news(r) {
			highest[r.channel] = max(highest[r.channel], r.sequence)
		}
	}
	for channel, sequence := range highest {
		_, err := tx.Exec(`INSERT INTO served (channel, sequence) VALUES (?, ?) ON CONFLICT (channel) DO UPDATE SET sequence = max(sequence, excluded.sequence)`, channel, sequence)
		if err != nil {
			return err
		}
	}
	return nil
}
