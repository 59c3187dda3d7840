package store

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// countingReader is the read-only side of the database. It counts reads for tests of what must not read.
type countingReader struct {
	*sql.DB
	reads atomic.Int64
}

func (r *countingReader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.reads.Add(1)
	return r.DB.QueryRowContext(ctx, query, args...)
}

func (r *countingReader) BeginTx(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error) {
	r.reads.Add(1)
	return r.DB.BeginTx(ctx, o)
}

// Reads returns how often the database was read since it was opened, without reads by writes.
func (s *Store) Reads() int64 { return s.readDB.reads.Load() }
