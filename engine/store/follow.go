package store

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
)

// Now is this machine's clock: all who share a file share it.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return s.now(), ctx.Err() }

// NotifyPush tells nobody: the processes that share a file are on one machine with the repository's mirror, one serves, and the
// others look for themselves.
func (s *Store) NotifyPush(ctx context.Context) error { return ctx.Err() }

// Follow looks now and then whether another process wrote. What it was is not known: News.All says so.
func (s *Store) Follow(ctx context.Context, told func(engine.StoreUpdate)) error {
	seen, lost := int64(0), true // told of everything at the start
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	for {
		version, err := s.externalVersion(ctx, seen)
		switch {
		case s.queue.Closed():
			return ErrClosed
		case ctx.Err() != nil:
			return nil
		case err != nil:
			lost = true
		default:
			all := lost || version != seen
			seen, lost = version, false
			told(engine.StoreUpdate{All: all})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// dataVersionQuery asks a connection for a number that changes when the file was written, but not by this connection.
const dataVersionQuery = `PRAGMA data_version`

// externalVersion gives a number that changes when another process wrote: that of the one connection on which this one writes.
// While that connection is busy it is not asked: that the file can be read is enough.
func (s *Store) externalVersion(ctx context.Context, seen int64) (version int64, err error) {
	wait, cancel := context.WithTimeout(ctx, s.poll/2)
	defer cancel()
	conn, err := s.writeDB.Conn(wait)
	if err != nil {
		var one int
		err := s.readDB.QueryRowContext(ctx, `SELECT 1 FROM facts LIMIT 1`).Scan(&one)
		return seen, wrapError("read the store", err)
	}
	defer conn.Close()
	err = conn.QueryRowContext(context.WithoutCancel(ctx), dataVersionQuery).Scan(&version)
	return version, wrapError("look for others' writes", err)
}
