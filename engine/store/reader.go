package store

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// countingReader is the side of the database that only reads. It counts, so that what is to read nothing can be held to it.
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

// Reads is how often the database was read since it was opened; what a write reads on its way is not counted.
func (s *Store) Reads() int64 { return s.readDB.reads.Load() }
