package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	readFactor    = 6 // the timeout of reads is so many times that of writes, since all cells may be many
	migrateWithin = 5 * time.Minute
	migrationLock = 7261933405771 // an advisory lock's number, the same for all processes
)

// configure returns the configuration of all connections.
func configure(url string, o Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errNoURL
	}
	config.MaxConns = int32(min(o.Connections, 1000))
	c := config.ConnConfig
	c.ConnectTimeout = o.Timeout
	c.ValidateConnect = requireWritable(c.ValidateConnect)
	millis := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	ours := map[string]string{
		"application_name":  "sluice",
		"statement_timeout": millis(readFactor * o.Timeout), // contexts end writes sooner
		"lock_timeout":      millis(o.Timeout),
		// A process that is cut off must not hold locks for longer, above all that of the lease (fault 12).
		"idle_in_transaction_session_timeout": millis(o.Timeout),
		"jit":                                 "off", // statements are short
	}
	maps.Copy(ours, c.RuntimeParams)
	c.RuntimeParams = ours
	return config, nil
}

// requireWritable refuses a standby, and makes commits wait for the disk.
func requireWritable(given pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if given != nil {
			if err := given(ctx, c); err != nil {
				return err
			}
		}
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, c); err != nil {
			return fmt.Errorf("%w: %w", plan.ErrReadOnly, err)
		}
		return c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
			WHERE current_setting('synchronous_commit') = 'off'`).Close()
	}
}

// reportPoolConfig configures a pool of one connection for writing reports. Its few statements must find rows by key,
// in the given order: a plan made for empty tables must not scan them later.
func reportPoolConfig(config *pgxpool.Config) *pgxpool.Config {
	config = config.Copy()
	config.MaxConns = 1
	for _, way := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
		config.ConnConfig.RuntimeParams[way] = "off"
	}
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	return config
}

// migrate brings the schema up to date, one process after the other.
func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, migrateWithin)
	defer cancel()
	config = config.Copy()
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(migrateWithin.Milliseconds(), 10)
	config.RuntimeParams["lock_timeout"] = config.RuntimeParams["statement_timeout"]
	lock, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(ctx, lock) // releases the lock
	if _, err := lock.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	p, err := newMigrator(db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; version > newest {
		return fmt.Errorf("its schema has version %d, and this version of sluice knows %d: "+
			"use a newer sluice, or another database", version, newest)
	}
	return nil
}

func newMigrator(db *sql.DB) (*goose.Provider, error) {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, folder, goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
}

// retryDelay returns how long to wait after n failed attempts: doubled up to most, half of it by chance.
func retryDelay(n int, first, most time.Duration, chance float64) time.Duration {
	d := backoff.Exponential(first, most, n)
	return d/2 + time.Duration(chance*float64(d/2))
}
