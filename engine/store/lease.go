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

// lease is this store's part in leading.
type lease struct {
	holder    string       // this store's name in the lease's row
	requested atomic.Bool  // AcquireLease was called
	term      atomic.Int64 // the newest term that this store led; 0: none
	lock      *leaseLock
}

func newLease(file string) lease {
	return lease{holder: rand.Text(), lock: &leaseLock{file: file + "-lead"}}
}

// term is the row of the lease.
type term struct {
	number       int64
	holder       string // empty: nobody holds the lease
	watched      bool
	since, until time.Time
}

// isActive reports whether the lease has not run out. A lease acquired later than now was written before the clock was
// set back; it does not count, for it would last as long as the clock went back.
func (t term) isActive(now time.Time) bool {
	return t.holder != "" && !now.Before(t.since) && now.Before(t.until)
}

func readTerm(tx *sql.Tx) (t term, err error) {
	var since, until int64
	err = tx.QueryRow(`SELECT term, holder, watched, since, until FROM lease`).Scan(&t.number, &t.holder, &t.watched,
		&since, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return term{}, nil
	}
	t.since, t.until = rows.FromMillis(since), rows.FromMillis(until)
	return t, err
}

// AcquireLease acquires the lease for length, or renews this store's own. led is false while another process holds it,
// unless the system shows that the process died. Acquiring a lease that ran out begins a new term even for its former
// holder, since a process without the lease may have written in between.
func (s *Store) AcquireLease(ctx context.Context, length time.Duration) (number int64, led bool, err error) {
	s.lease.requested.Store(true)
	err = s.writeTx(ctx, "acquire the lease", func(tx *sql.Tx) error {
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
			ON CONFLICT (id) DO UPDATE SET term = excluded.term, holder = excluded.holder,
			watched = excluded.watched, since = excluded.since, until = excluded.until`,
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
	err := s.writeTx(ctx, "release the lease", func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE lease SET holder = '', until = 0 WHERE holder = ?`, s.lease.holder)
		return err
	})
	if err == nil {
		s.lease.lock.close()
	}
	return err
}

// fence lets a write through if this store leads. A store that never requested the lease may write while nobody leads,
// as a process that runs alone.
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

// isHeldByOther reports whether another process that may be alive holds the lease.
func (s *Store) isHeldByOther(t term, now time.Time) bool {
	return t.holder != s.lease.holder && t.isActive(now) && !(t.watched && s.lease.lock.isTermFree(t.number))
}
