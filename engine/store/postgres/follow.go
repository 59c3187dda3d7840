package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	pingInterval = 500 * time.Millisecond // so that each second has at least one
	pingTimeout  = 2 * time.Second
)

// Follow calls notify with what other stores write, as the database notifies it over a connection of its own, with All
// after every connect, and with the zero update at least each second while the database answers. It compares versions
// every Options.Compare, since a notification may be lost. Follow ends with ctx or with the store.
func (s *Store) Follow(ctx context.Context, notify func(engine.StoreUpdate)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.lifetime, cancel)()
	for failed := 0; ; failed++ {
		err := s.listenOnce(ctx, func(n engine.StoreUpdate) { failed = 0; notify(n) })
		if s.lifetime.Err() != nil {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn().Err(err).Msg("the connection for notifications was lost: connecting again")
		_ = backoff.Sleep(ctx, retryDelay(failed, 50*time.Millisecond, 2*time.Second, rand.Float64()))
	}
}

// listenOnce calls notify with what arrives over one connection, until that connection fails.
func (s *Store) listenOnce(ctx context.Context, notify func(engine.StoreUpdate)) error {
	conn, err := s.connectListener(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	notify(engine.StoreUpdate{All: true})
	nextPing, compare := time.Now().Add(pingInterval), time.Now().Add(s.compare)
	for {
		until, cancel := context.WithDeadline(ctx, nextPing)
		n, err := conn.WaitForNotification(until)
		timedOut := until.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			if update, ok := s.decodeNotification(n.Payload); ok {
				notify(update)
			}
		case !timedOut || conn.IsClosed():
			return err
		}
		if time.Now().Before(nextPing) {
			continue
		}
		update := engine.StoreUpdate{}
		if time.Now().After(compare) {
			missed, err := s.missedCells(ctx, conn)
			if err != nil {
				return err
			}
			update = engine.StoreUpdate{Cells: missed, Material: len(missed) > 0, Known: true, Flags: true}
			compare = time.Now().Add(s.compare)
		} else if err := s.ping(ctx, conn); err != nil {
			return err
		}
		notify(update)
		nextPing = time.Now().Add(pingInterval)
	}
}

// connectListener connects, listens, and records the current versions, which All covers.
func (s *Store) connectListener(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return nil, err
	}
	if _, err = conn.Exec(ctx, `LISTEN `+notifyChannel); err == nil {
		_, err = s.missedCells(ctx, conn)
	}
	if err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// closeConn closes a connection even after ctx ended, and does not wait for a server that does not answer.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // no statement is running
}

func (s *Store) ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, `SELECT 1`)
	return err
}

// missedCells returns the cells with reports that were neither notified of nor written here.
func (s *Store) missedCells(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found, err := conn.Query(ctx, `SELECT name, version FROM cells`)
	if err != nil {
		return nil, err
	}
	stored := map[string]int64{}
	var name string
	var version int64
	_, err = pgx.ForEachRow(found, []any{&name, &version}, func() error {
		stored[name] = version
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.versions.takeMissed(stored), nil
}
