package store

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/engine"
)

// Now is this machine's clock: all who share a file share it.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return s.now(), ctx.Err() }

// Follow looks now and then whether another process wrote. What it was is not known: News.All says so.
func (s *Store) Follow(ctx context.Context, told func(engine.News)) error {
	seen, lost := int64(0), true // told of everything at the start
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	for {
		version, err := s.others(ctx, seen)
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
			told(engine.News{All: all})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// others gives a number that changes when somebody else wrote to the file: data_version of the one connection on which
// this process writes, which its own writes leave as it is. While that connection is busy the number is not asked for:
// that the file can be read is enough.
func (s *Store) others(ctx context.Context, seen int64) (version int64, err error) {
	wait, cancel := context.WithTimeout(ctx, s.poll/2)
	defer cancel()
	conn, err := s.write.Conn(wait)
	if err != nil {
		var one int
		err := s.read.QueryRowContext(ctx, `SELECT 1 FROM facts LIMIT 1`).Scan(&one)
		return seen, wrap("read the store", err)
	}
	defer conn.Close()
	// Not with ctx: what is interrupted late could be the next one's statement on this connection.
	err = conn.QueryRowContext(context.WithoutCancel(ctx), `PRAGMA data_version`).Scan(&version)
	return version, wrap("look for others' writes", err)
}
