package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// lease is what this store knows of its own leading.
type lease struct {
	holder    string       // this store's name in the row
	requested atomic.Bool  // Lead was called
	term      atomic.Int64 // the newest that this store led; 0: none
	lock      *leaseLock
}

func newLease(file string) lease {
	return lease{holder: rand.Text(), lock: &leaseLock{file: file + "-lead"}}
}

// term is the lease's row.
type term struct {
	number       int64
	holder       string // empty: nobody's
	watched      bool
	since, until time.Time
}

// isActive tells whether the lease has not run out. One that was taken later than now is of a clock that was set back
// since: it would hold for as long as the clock went back, so it counts for nothing.
func (t term) isActive(now time.Time) bool {
	return t.holder != "" && !now.Before(t.since) && now.Before(t.until)
}

func readTerm(tx *sql.Tx) (t term, err error) {
	var since, until int64
	err = tx.QueryRow(`SELECT term, holder, watched, since, until FROM lease`).Scan(&t.number, &t.holder, &t.watched, &since, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return term{}, nil
	}
	t.since, t.until = rows.FromMillis(since), rows.FromMillis(until)
	return t, err
}

// AcquireLease takes the lease for length, or renews it if it is this store's. led is false while another's has not run out;
// that of a process that died counts no more, where the system can tell. A lease that ran out is a new term for the
// one who had it too: a process that asked for none may have written in between.
func (s *Store) AcquireLease(ctx context.Context, length time.Duration) (number int64, led bool, err error) {
	s.lease.requested.Store(true)
	err = s.writeTx(ctx, "take the lease", func(tx *sql.Tx) error {
		t, err := readTerm(tx)
		if err != nil {
			return err
		}
		now := s.now()
		mine := t.holder == s.lease.holder && t.isActive(now)
		if !mine && s.isHeldByOther(t, now) {
			number = t.number
			return nil
		}
		if !mine {
			t = term{number: t.number + 1, holder: s.lease.holder}
			t.watched = s.lease.lock.lockTerm(t.number) == nil
		}
		number, led = t.number, true
		_, err = tx.Exec(`INSERT INTO lease (id, term, holder, watched, since, until) VALUES (1, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET term = excluded.term, holder = excluded.holder, watched = excluded.watched, since = excluded.since, until = excluded.until`,
			t.number, t.holder, t.watched, rows.Millis(now), rows.Millis(now.Add(length)))
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if led {
		s.lease.term.Store(number)
	}
	return number, led, nil
}

// ReleaseLease ends this store's term, if it leads.
func (s *Store) ReleaseLease(ctx context.Context) error {
	err := s.writeTx(ctx, "give the lease back", func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE lease SET holder = '', until = 0 WHERE holder = ?`, s.lease.holder)
		return err
	})
	if err == nil {
		s.lease.lock.close()
	}
	return err
}

// fence lets a write through if this store leads. A store that never asked to lead may write too, for it is a process
// alone, or believes so: until another holds the lease.
func (s *Store) fence(tx *sql.Tx) error {
	t, err := readTerm(tx)
	if err != nil {
		return err
	}
	now := s.now()
	leads := t.holder == s.lease.holder && t.number == s.lease.term.Load() && t.isActive(now)
	if leads || !s.lease.requested.Load() && !s.isHeldByOther(t, now) {
		return nil
	}
	return plan.ErrDeposed
}

// isHeldByOther tells whether the lease is somebody else's who may still live.
func (s *Store) isHeldByOther(t term, now time.Time) bool {
	return t.holder != s.lease.holder && t.isActive(now) && !(t.watched && s.lease.lock.isTermFree(t.number))
}
