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

// Follow tells what others write, as the database sends it, over a connection of its own. After every time that it
// connects it tells of everything; while the database answers, it says so at least each second; and each half minute it
// compares versions, whatever was heard. It ends with ctx, and with the store.
func (s *Store) Follow(ctx context.Context, told func(engine.StoreUpdate)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.lifetime, cancel)()
	for failed := 0; ; failed++ {
		err := s.listenOnce(ctx, func(n engine.StoreUpdate) { failed = 0; told(n) })
		if s.lifetime.Err() != nil {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn().Err(err).Msg("not told of what others write: connecting again")
		_ = backoff.Sleep(ctx, retryDelay(failed, 50*time.Millisecond, 2*time.Second, rand.Float64()))
	}
}

// listenOnce tells of what comes over one connection, until that fails.
func (s *Store) listenOnce(ctx context.Context, told func(engine.StoreUpdate)) error {
	conn, err := s.connectListener(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	told(engine.StoreUpdate{All: true})
	beat, compare := time.Now().Add(pingInterval), time.Now().Add(s.compare)
	for {
		until, cancel := context.WithDeadline(ctx, beat)
		n, err := conn.WaitForNotification(until)
		timedOut := until.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			if news, ok := s.decodeNotification(n.Payload); ok {
				told(news)
			}
		case !timedOut || conn.IsClosed():
			return err
		}
		if time.Now().Before(beat) {
			continue
		}
		news := engine.StoreUpdate{}
		if time.Now().After(compare) {
			missed, err := s.missedCells(ctx, conn)
			if err != nil {
				return err
			}
			news = engine.StoreUpdate{Cells: missed, Material: len(missed) > 0, Known: true, Flags: true}
			compare = time.Now().Add(s.compare)
		} else if err := s.ping(ctx, conn); err != nil {
			return err
		}
		told(news)
		beat = time.Now().Add(pingInterval)
	}
}

// connectListener connects, listens, and takes note of the versions that All will tell of.
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

// closeConn closes a connection, also after ctx, but waits for no server that does not answer.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing was under way
}

func (s *Store) ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, `SELECT 1`)
	return err
}

// missedCells gives the cells whose reports were neither told of nor written here.
func (s *Store) missedCells(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found, err := conn.Query(ctx, `SELECT name, version FROM cells`)
	if err != nil {
		return nil, err
	}
	kept := map[string]int64{}
	var name string
	var version int64
	_, err = pgx.ForEachRow(found, []any{&name, &version}, func() error {
		kept[name] = version
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.versions.takeMissed(kept), nil
}
