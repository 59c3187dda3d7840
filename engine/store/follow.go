package store

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
)

// Now returns this machine's clock, which all processes that share the file share.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return s.now(), ctx.Err() }

// NotifyPush does nothing: processes that share a file are on one machine with the repository's mirror; one serves, and
// the others fetch by themselves.
func (s *Store) NotifyPush(ctx context.Context) error { return ctx.Err() }

// Follow polls the file for other processes' writes. What they wrote is not known, so updates have All set.
func (s *Store) Follow(ctx context.Context, notify func(engine.StoreUpdate)) error {
	seen, failed := int64(0), true // everything may have changed before the start
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
			failed = true
		default:
			all := failed || version != seen
			seen, failed = version, false
			notify(engine.StoreUpdate{All: all})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// dataVersionQuery returns a number that changes on one connection when another connection wrote to the file.
const dataVersionQuery = `PRAGMA data_version`

// externalVersion returns a number that changes when another process wrote: that of the only connection that this
// process writes on. While that connection is busy, it only makes sure that the file can be read, and returns seen.
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
	return version, wrapError("look for other processes' writes", err)
}
