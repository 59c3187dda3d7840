// Package postgres keeps what the engine observed in a PostgreSQL database that several control planes share: any of
// them writes reports, one of them leads (see AcquireLease), and each follows what the others write (see Follow). It
// implements engine.Store; package storetest has the contract of every implementation.
//
// The store has no intent (invariant 3). Every write is whole, and durable when the call returns, as far as the
// server's fsync is. A transaction of a leader's write locks the row of the lease: a deposed leader's write changes 0
// rows (fault 11). The store decides nothing and reads no policy.
//
// All methods may be called from many goroutines. Reports of many callers share commits (see rows.Queue), on a
// connection of their own. A write that lost its connection is retried, and made only once: if the commit's answer was
// lost, the store first reads whether the commit was made. Every statement has a time limit.
//
// The store needs PostgreSQL 13 or newer, a database (or, by search_path, a schema) of its own, and sessions: a pooler
// that shares sessions between clients by transaction loses NOTIFY.
package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

// ErrClosed is the error of calls after Close.
var ErrClosed = rows.ErrClosed

// Options may be left zero.
type Options struct {
	Log     zerolog.Logger
	History int // events kept for each cell; default 1000
	// Timeout limits connecting, and a write with all its attempts; default 5 s. Reads may take six times as long.
	Timeout     time.Duration
	Connections int           // maximum, besides one that writes reports and one that listens; default 8
	Compare     time.Duration // interval at which Follow compares versions; default 30 s

	Now func() time.Time // the clock for leases and tokens; default: the database's
}

// Store is an open database. Close it.
type Store struct {
	tables.Tables // what is stored as in SQLite

	log     zerolog.Logger
	name    string // random; distinguishes the open stores that share the database
	history int
	timeout time.Duration
	compare time.Duration
	clock   func() time.Time // nil: the database's
	config  *pgx.ConnConfig  // for connections outside of the pools; copy it
	pool    *pgxpool.Pool
	reports *pgxpool.Pool             // one connection, for the queue's writer
	queue   *rows.Queue[*rows.Report] // nil until the pools are open

	lifetime    context.Context // ended by Close
	endLifetime context.CancelFunc
	versions    *versionTracker
	background  sync.WaitGroup // the goroutine that sends notifications

	writeErr       atomic.Pointer[error] // of the last write; nil: it succeeded
	reads          atomic.Int64
	served         rows.Sequences
	leaseRequested atomic.Bool  // AcquireLease was called
	term           atomic.Int64 // the newest term that this store led; 0: none
}

var (
	_ engine.Store     = (*Store)(nil)
	_ engine.FlagStore = (*Store)(nil)
)

// Open opens the database at url, postgres://USER@HOST:PORT/DATABASE, and migrates its schema. The password should be
// in PGPASSWORD or a password file. Open refuses a database that a newer version wrote.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o.History, o.Timeout = cmp.Or(o.History, 1000), cmp.Or(o.Timeout, 5*time.Second)
	o.Connections = cmp.Or(o.Connections, 8)
	config, err := configure(url, o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log: o.Log, name: rand.Text(), history: o.History, timeout: o.Timeout, clock: o.Now,
		config:  config.ConnConfig.Copy(),
		compare: cmp.Or(o.Compare, 30*time.Second),
	}
	s.Tables, s.versions = tables.New(database{s}, dialect, &s.served), newVersionTracker(s.name)
	s.lifetime, s.endLifetime = context.WithCancel(context.Background())
	where := fmt.Sprintf("open database %s at %s", s.config.Database, s.config.Host)
	if err := s.open(ctx, config); err != nil {
		s.CloseAudit()
		s.closePools()
		return nil, wrapError(where, err)
	}
	s.log.Debug().Str("host", s.config.Host).Str("database", s.config.Database).Msg("store opened")
	s.queue = rows.NewQueue(s.newBatchWriter())
	s.background.Go(s.sendUnchanged)
	return s, nil
}

func (s *Store) open(ctx context.Context, config *pgxpool.Config) (err error) {
	if err = migrate(ctx, s.config); err != nil {
		return err
	}
	if s.pool, err = pgxpool.NewWithConfig(s.lifetime, config); err != nil {
		return err
	}
	if s.reports, err = pgxpool.NewWithConfig(s.lifetime, reportPoolConfig(config)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	now, err := s.readClock(ctx, s.pool)
	if err != nil {
		return err
	}
	var fsync string
	if err := s.pool.QueryRow(ctx, `SELECT current_setting('fsync')`).Scan(&fsync); err != nil {
		return err
	}
	if fsync != "on" {
		s.log.Warn().Msg("the database runs with fsync off: what it acknowledges may be lost when its machine fails")
	}
	_, err = s.pool.Exec(ctx, `INSERT INTO facts (name, body) VALUES ('since', $1) ON CONFLICT DO NOTHING`,
		now.UTC().Format(time.RFC3339Nano))
	return err
}

// Close writes all queued reports, sends notifications, then closes the connections. Later calls return ErrClosed.
func (s *Store) Close() error {
	s.CloseAudit()
	s.queue.Close()
	s.endLifetime()
	s.background.Wait()
	s.closePools()
	return nil
}

func (s *Store) closePools() {
	s.endLifetime()
	for _, p := range []*pgxpool.Pool{s.pool, s.reports} {
		if p != nil {
			p.Close()
		}
	}
}

// Ready returns an error if the store does not work. After a failed write it tries a write, so that the store recovers
// by itself.
func (s *Store) Ready(ctx context.Context) error {
	var readonly bool
	err := s.readTx(ctx, "read the store", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT pg_is_in_recovery() FROM lease`).Scan(&readonly)
	})
	if err != nil {
		return err
	}
	if readonly {
		return fmt.Errorf("test the store: %w: %w: the server is a standby", plan.ErrBusy, plan.ErrReadOnly)
	}
	if s.writeErr.Load() == nil {
		return nil
	}
	// The write adds a few pages, since a change in place would succeed on a full disk too.
	return s.writeTx(ctx, "test the store", func(ctx context.Context, tx pgx.Tx, _ bool) error {
		_, err := tx.Exec(ctx, `INSERT INTO facts (name, body) SELECT 'probe', string_agg(md5(random()::text), '')
			FROM generate_series(1, 2000)
			ON CONFLICT (name) DO UPDATE SET body = excluded.body`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM facts WHERE name = 'probe'`)
		return err
	})
}

// errNoURL does not quote the URL, which may hold a password.
var errNoURL = errors.New("open PostgreSQL: the address is invalid: " +
	"use postgres://USER@HOST:PORT/DATABASE, with the password in PGPASSWORD or a password file")
