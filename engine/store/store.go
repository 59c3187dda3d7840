// Package store keeps what the engine observed in one SQLite file: cells' states and events, grants, answers to probes,
// what the engine learned, and which decisions were announced. It implements engine.Store; package storetest has the
// contract of every implementation.
//
// The store has no intent (invariant 3): if the file is deleted, the engine refills a new one from the cells' reports.
// Every write is durable when the call returns (WAL, synchronous=FULL) and whole, even after a crash or on a full disk.
// The store decides nothing and reads no policy.
//
// All methods may be called from many goroutines and, since every write begins IMMEDIATE, from several processes: one
// of them leads (see AcquireLease), and each follows what the others write (see Follow). One connection writes; reports
// of many callers share commits (see rows.Queue). SQLite's own files are beside the file, and an empty one whose name
// ends in -lead, which the leader locks. A backup needs none of these.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/rs/zerolog"
	"modernc.org/sqlite" // the driver "sqlite", too

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/store/rows"
	"github.com/sluice-cd/sluice/engine/store/tables"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrClosed is the error of calls after Close.
var ErrClosed = rows.ErrClosed

// pageSize is SQLite's default, in bytes; MaxBytes is counted in pages.
const pageSize = 4096

// Options may be left zero.
type Options struct {
	Log         zerolog.Logger
	MaxBytes    int64            // maximal size, then writes fail with plan.ErrFull; default: no limit
	History     int              // events kept for each cell; default 1000
	BusyTimeout time.Duration    // how long a write waits for other processes; default 5 s
	Poll        time.Duration    // interval at which Follow polls for other processes' writes; default 1 s
	Now         func() time.Time // the store's clock; default time.Now
}

// Store is an open database. Close it.
type Store struct {
	tables.Tables // what is stored as in PostgreSQL

	file    string
	log     zerolog.Logger
	history int
	poll    time.Duration
	now     func() time.Time
	writeDB *sql.DB                   // always the same connection, which no context interrupts: see dataVersionQuery
	readDB  *countingReader           // query_only
	queue   *rows.Queue[*rows.Report] // nil until the files are open
	lease   lease

	writeErr atomic.Pointer[error] // of the last write; nil: it succeeded
	served   rows.Sequences
}

var (
	_ engine.Store     = (*Store)(nil)
	_ engine.FlagStore = (*Store)(nil)
)

// Open opens the database in file with default options, and creates it if there is none.
func Open(ctx context.Context, file string, log zerolog.Logger) (*Store, error) {
	return OpenWith(ctx, file, Options{Log: log})
}

// OpenWith opens the database in file, creates it if there is none, and migrates its schema. It refuses a file that a
// newer version wrote.
func OpenWith(ctx context.Context, file string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{
		file: file, log: o.Log, history: cmp.Or(o.History, 1000), poll: cmp.Or(o.Poll, time.Second), now: o.Now,
		readDB: &countingReader{}, lease: newLease(file),
	}
	s.Tables = tables.New(database{s}, dialect, &s.served)
	if err := s.open(ctx, o); err != nil {
		s.CloseAudit()
		s.closeFiles()
		return nil, wrapError("open database "+file, err)
	}
	s.log.Debug().Str("file", file).Msg("store opened")
	s.queue = rows.NewQueue(s.newBatchWriter())
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	// A commit then waits for its bytes and the file's size, but not for the file's times, as SQLite in C does. Where
	// there is no such call, it syncs as before.
	_, _ = sqlite.Fdatasync(true)
	if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
		return err
	}
	// Create the file readable only by its owner; SQLite creates its other files with the same mode.
	f, err := os.OpenFile(s.file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.writeDB, err = connect(s.file, o, true); err != nil {
		return err
	}
	s.writeDB.SetMaxOpenConns(1)
	s.writeDB.SetMaxIdleConns(1)
	if err := migrate(ctx, s.writeDB); err != nil {
		return err
	}
	_, err = s.writeDB.ExecContext(ctx, `INSERT INTO facts (name, body) VALUES ('since', ?) ON CONFLICT DO NOTHING`,
		o.Now().UTC().Format(time.RFC3339Nano))
	if err != nil {
		return err
	}
	if s.readDB.DB, err = connect(s.file, o, false); err != nil {
		return err
	}
	s.readDB.SetMaxOpenConns(4)
	return nil
}

// Check returns an error unless file is a whole database that Open has made.
func Check(ctx context.Context, file string) error {
	db, err := connect(file, Options{}, false)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing was written
	found := ""
	err = db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found)
	if err == nil && found != "ok" {
		err = fmt.Errorf("%w: %s", ErrDamaged, found)
	}
	if err == nil {
		err = db.QueryRowContext(ctx, `SELECT body FROM facts WHERE name = 'since'`).Scan(&found)
	}
	return wrapError("check database "+file, err)
}

func connect(file string, o Options, writes bool) (*sql.DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	q := url.Values{}
	pragma := func(format string, a ...any) { q.Add("_pragma", fmt.Sprintf(format, a...)) }
	pragma("busy_timeout(%d)", cmp.Or(o.BusyTimeout, 5*time.Second).Milliseconds())
	if writes {
		// A deferred upgrade to a write would fail at once instead of waiting (fault 10).
		q.Set("_txlock", "immediate")
		pragma("journal_mode(WAL)")
		pragma("synchronous(FULL)")
		pragma("wal_autocheckpoint(8000)") // about 32 MB: random upserts then share checkpoint writes
		pragma("journal_size_limit(67108864)")
		pragma("cache_size(-65536)") // 64 MiB at most: in SQLite's 2 MiB most reports had to read their pages again
		pragma("foreign_keys(1)")
		if o.MaxBytes > 0 {
			pragma("max_page_count(%d)", max(1, o.MaxBytes/pageSize))
		}
	} else {
		pragma("query_only(1)")
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	return sql.Open("sqlite", dsn.String())
}

func migrate(ctx context.Context, db *sql.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	// If another process migrates the same file at the same time, the loser retries.
	for attempt := 0; ; attempt++ {
		if _, err = p.Up(ctx); err == nil {
			break
		}
		if attempt == 3 || ctx.Err() != nil {
			return fmt.Errorf("bring the schema up to date: %w", err)
		}
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; version > newest {
		return fmt.Errorf("its schema has version %d, and this version of sluice knows %d: "+
			"use a newer sluice, or another data folder", version, newest)
	}
	return nil
}

// Close writes all queued reports, then closes the database. Later calls return ErrClosed.
func (s *Store) Close() error {
	s.CloseAudit()
	s.queue.Close()
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.readDB.DB, s.writeDB} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	s.lease.lock.close()
	return errors.Join(errs...)
}

// Ready returns an error if the store does not work. After a failed write it tries a write, so that the store recovers
// by itself.
func (s *Store) Ready(ctx context.Context) error {
	var one int
	if err := s.readDB.QueryRowContext(ctx, `SELECT 1 FROM facts LIMIT 1`).Scan(&one); err != nil {
		return wrapError("read the store", err)
	}
	if s.writeErr.Load() == nil {
		return nil
	}
	// The write adds a few pages, since a change in place would succeed on a full disk too.
	err := s.writeTx(ctx, "test the store", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO facts (name, body) VALUES ('probe', hex(zeroblob(32768)))
			ON CONFLICT (name) DO UPDATE SET body = excluded.body`)
		return err
	})
	if err != nil {
		return err
	}
	return s.writeTx(ctx, "test the store", func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM facts WHERE name = 'probe'`)
		return err
	})
}

// Backup writes a consistent copy to a new file, without blocking other calls.
func (s *Store) Backup(ctx context.Context, file string) error {
	op := "back up the store to " + file
	db, err := connect(s.file, Options{}, true)
	if err != nil {
		return wrapError(op, err)
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, file)
	return wrapError(op, err)
}

// Integrity runs SQLite's own check of the whole file.
func (s *Store) Integrity(ctx context.Context) error {
	var answer string
	if err := s.readDB.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&answer); err != nil {
		return wrapError("check the store", err)
	}
	if answer != "ok" {
		return fmt.Errorf("check the store: %s: restore a backup, or delete %s and let the cells' reports refill it",
			answer, s.file)
	}
	return nil
}
