package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	server "github.com/sluice-cd/sluice/test/postgres"
)

// connect returns a session beside the store.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execSQL(t *testing.T, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement, args...)
	must(t, err)
}

// testFleet reports for cells of their own, one goroutine each, until stopped. The only expected error is that the
// store is busy; then the cell's version is read, as the engine does.
type testFleet struct {
	stop  atomic.Bool
	acks  chan struct{} // one value for each acknowledged report
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[string][]int64 // acknowledged numbers, by cell
	busy  atomic.Int64
}

func startFleet(t *testing.T, s *postgres.Store, size int) *testFleet {
	f := &testFleet{acks: make(chan struct{}, 1<<16), acked: map[string][]int64{}}
	for n := range size {
		f.wg.Go(func() { f.run(t, s, fmt.Sprintf("cell-%02d", n)) })
	}
	t.Cleanup(f.stopAndWait)
	return f
}

func (f *testFleet) run(t *testing.T, s *postgres.Store, name string) {
	version := int64(0)
	for number := int64(1); !f.stop.Load() && t.Context().Err() == nil; {
		r := report(name, version+1, "")
		r[0].Boot, r[0].Events = "b", []cells.Event{{Number: number, Kind: "healed"}}
		switch err := s.RecordReports(t.Context(), r); {
		case err == nil:
			version++
			f.mu.Lock()
			f.acked[name] = append(f.acked[name], number)
			f.mu.Unlock()
			f.acks <- struct{}{}
			number++
		case errors.Is(err, plan.ErrBusy), errors.Is(err, plan.ErrStale):
			f.busy.Add(1)
			if known, err := s.Cells(t.Context(), name); err == nil && known[name] != nil {
				version = known[name].Version
			}
		default:
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// waitForMore waits for n more acknowledgements.
func (f *testFleet) waitForMore(t *testing.T, n int) {
	t.Helper()
	for len(f.acks) > 0 {
		<-f.acks
	}
	for range n {
		select {
		case <-f.acks:
		case <-t.Context().Done():
			t.Fatal("no report is acknowledged any more")
		}
	}
}

func (f *testFleet) stopAndWait() {
	f.stop.Store(true)
	f.wg.Wait()
}

// wantNothingLost compares what was acknowledged with what is stored.
func (f *testFleet) wantNothingLost(t *testing.T, s *postgres.Store) {
	t.Helper()
	f.stopAndWait()
	total := 0
	for name, numbers := range f.acked {
		kept, err := s.Events(t.Context(), name, 1<<20)
		must(t, err)
		got := make([]int64, len(kept))
		for i, e := range kept {
			got[i] = e.Number
		}
		total += len(numbers)
		if slices.Sort(got); len(got) < len(numbers) || !slices.Equal(got[:len(numbers)], numbers) {
			t.Errorf("%s: %d reports were acknowledged, and %d events are there", name, len(numbers), len(got))
		}
		known, err := s.Cells(t.Context(), name)
		must(t, err)
		if c := known[name]; c == nil || c.Version < int64(len(numbers)) {
			t.Errorf("%s: %d reports were acknowledged, and the cell is %+v", name, len(numbers), c)
		}
	}
	t.Logf("%d reports acknowledged, %d answered busy or stale", total, f.busy.Load())
}

// Fault 11: sessions are killed under load. Writes are retried; nothing acknowledged is lost or stored twice.
func TestSessionsKilled(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	s := openWith(t, url, postgres.Options{History: 1 << 20})
	f := startFleet(t, s, 16)
	for range 10 {
		f.waitForMore(t, 100)
		must(t, server.KillSessions(t.Context(), url))
		if err := s.RecordSeen(t.Context(), "4f0c", nil); err != nil {
			t.Errorf("a ledger write after the sessions were killed: %v", err)
		}
		if _, err := s.Known(t.Context()); err != nil {
			t.Errorf("a read after the sessions were killed: %v", err)
		}
	}
	f.waitForMore(t, 100)
	f.wantNothingLost(t, s)
	if n := f.busy.Load(); n > 0 {
		t.Errorf("%d reports were not tried again", n)
	}
}

// A database that crashes and restarts under load loses no acknowledged report.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	own := server.NewServer(t, server.Options{})
	url, err := server.Create(t.Context(), own.URL("postgres"))
	must(t, err)
	s := openWith(t, url, postgres.Options{History: 1 << 20, Timeout: time.Second})
	told := make(chan engine.StoreUpdate, 1000)
	go func() { _ = s.Follow(t.Context(), func(n engine.StoreUpdate) { told <- n }) }()
	f := startFleet(t, s, 16)
	for i, end := range []func() error{own.Crash, own.Stop, own.Crash} {
		all(t, told) // an update with All: at the start, and after each restart
		f.waitForMore(t, 200)
		must(t, end())
		if err := s.Ready(t.Context()); !errors.Is(err, plan.ErrBusy) {
			t.Errorf("without a server: %v, not ErrBusy", err)
		}
		must(t, own.Restart(t.Context()))
		f.waitForMore(t, 200)
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("restart %d: %v", i, err)
		}
	}
	f.wantNothingLost(t, s)
}

// all waits for an update with All.
func all(t *testing.T, told <-chan engine.StoreUpdate) {
	t.Helper()
	for {
		select {
		case n := <-told:
			if n.All {
				return
			}
		case <-t.Context().Done():
			t.Fatal("never told of everything")
		}
	}
}

// Fault 11: a leader whose session was killed, and whom another followed, changes 0 rows.
func TestDeposedAfterItsSessionWasKilled(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	old, next := open(t, url), open(t, url)
	lead(t, old, time.Second, 1)
	if _, led, err := next.AcquireLease(t.Context(), time.Second); led || err != nil {
		t.Errorf("two lead (%v)", err)
	}
	must(t, server.KillSessions(t.Context(), url))
	must(t, old.RecordSeen(t.Context(), "4f0c", nil)) // its lease is valid still: it may write
	lead(t, next, time.Minute, 2)
	if err := old.RecordSeen(t.Context(), "77aa", nil); !errors.Is(err, plan.ErrDeposed) {
		t.Errorf("the old leader's write: %v, not ErrDeposed", err)
	}
	if o, err := next.Known(t.Context()); err != nil || o.Seen != "4f0c" {
		t.Errorf("seen is %q (%v)", o.Seen, err)
	}
}

// lead requests the lease until it gets it, as a process that waits for another's lease to run out.
func lead(t *testing.T, s *postgres.Store, length time.Duration, term int64) {
	t.Helper()
	for {
		got, led, err := s.AcquireLease(t.Context(), length)
		must(t, err)
		if led {
			if got != term {
				t.Errorf("term %d, not %d", got, term)
			}
			return
		}
	}
}

// Fault 12: cut off from the database, a leader can't renew, even while it holds the lease's lock; another takes over.
func TestPartition(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	over, link := server.NewLink(t, url)
	o := postgres.Options{Timeout: 300 * time.Millisecond}
	old, next := openWith(t, over, o), open(t, url)
	lead(t, old, time.Second, 1)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // so that the cut is in the middle of a write
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = old.RecordSeen(t.Context(), fmt.Sprint("commit ", n), nil)
			}
		}
	})
	link.Cut()
	if _, _, err := old.AcquireLease(t.Context(), time.Second); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("lead over a link that is cut: %v, not ErrBusy", err)
	}
	if err := old.RecordReports(t.Context(), report("acme", 1, "")); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("report over a link that is cut: %v, not ErrBusy", err)
	}
	lead(t, next, time.Minute, 2)
	must(t, next.RecordSeen(t.Context(), "77aa", nil))
	close(stop)
	wg.Wait()
	link.Restore()
	for {
		err := old.RecordSeen(t.Context(), "of the old leader", nil)
		if errors.Is(err, plan.ErrDeposed) {
			break
		}
		if !errors.Is(err, plan.ErrBusy) {
			t.Fatalf("the old leader's write: %v, not ErrDeposed", err)
		}
	}
	if o, err := next.Known(t.Context()); err != nil || o.Seen != "77aa" {
		t.Errorf("seen is %q (%v)", o.Seen, err)
	}
}

// A follower whose connection was cut misses nothing.
func TestFollowOverAPartition(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	over, link := server.NewLink(t, url)
	s, other := openWith(t, over, postgres.Options{Timeout: 300 * time.Millisecond}), open(t, url)
	told := make(chan engine.StoreUpdate, 1000)
	go func() { _ = s.Follow(t.Context(), func(n engine.StoreUpdate) { told <- n }) }()
	all(t, told)
	for version, interrupt := range []func(){link.ResetConns, link.Cut} {
		interrupt()
		r := report("acme", int64(version+1), "")
		r[0].Material = true
		must(t, other.RecordReports(t.Context(), r))
		link.Restore()
		for n := range told {
			if n.All || slices.Contains(n.Cells, "acme") {
				break
			}
		}
	}
}

// A commit whose answer is lost is made once: the store reads whether it was made before it retries.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	over, link := server.NewLink(t, url)
	s, beside, watch := openWith(t, over, postgres.Options{}), connect(t, url), connect(t, url)
	first := report("acme", 1, "first")
	must(t, s.RecordReports(t.Context(), first))

	delayCommits(t, beside, "cells")
	execSQL(t, beside, `SELECT pg_advisory_lock(1)`)
	second := report("acme", 2, "second")
	second[0].Boot, second[0].Events = "b", []cells.Event{{Number: 1, Kind: "healed"}}
	answer := make(chan error, 1)
	go func() { answer <- s.RecordReports(t.Context(), second) }()
	waiting(t, watch)
	link.ResetConns()
	execSQL(t, beside, `SELECT pg_advisory_unlock(1)`)
	if err := <-answer; err != nil {
		t.Errorf("the report: %v", err)
	}
	known, err := s.Cells(t.Context(), "acme")
	must(t, err)
	if c := known["acme"]; c.Version != 2 || c.Message != "second" {
		t.Errorf("the cell is %+v", c)
	}
	if kept, err := s.Events(t.Context(), "acme", 10); err != nil || len(kept) != 1 {
		t.Errorf("the events are %v (%v)", kept, err)
	}
	must(t, s.RecordReports(t.Context(), report("acme", 3, "third")))
}

// A record whose commit's answer is lost is written once, and its writer gets the stored version.
func TestRecordAnswerLost(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	over, link := server.NewLink(t, url)
	s, beside, watch := openWith(t, over, postgres.Options{}), connect(t, url), connect(t, url)
	delayCommits(t, beside, "records")
	lost := func(write func() error) error {
		t.Helper()
		execSQL(t, beside, `SELECT pg_advisory_lock(1)`) // the commit waits for this lock
		answer := make(chan error, 1)
		go func() { answer <- write() }()
		waiting(t, watch)
		link.ResetConns()
		execSQL(t, beside, `SELECT pg_advisory_unlock(1)`)
		return <-answer
	}
	r := records.Record{Kind: "session", Key: "ada", Body: json.RawMessage(`1`)}
	for _, body := range []string{`1`, `2`} { // created, and replaced
		r.Body = json.RawMessage(body)
		must(t, lost(func() (err error) { r, err = s.Records().Put(t.Context(), r); return err }))
		if got, err := s.Records().Get(t.Context(), "session", "ada"); err != nil || got.Version != r.Version ||
			string(got.Body) != body {
			t.Errorf("written %+v, kept %+v (%v)", r, got, err)
		}
	}
	must(t, lost(func() error { return s.Records().Delete(t.Context(), "session", "ada", r.Version) }))
	if _, err := s.Records().Get(t.Context(), "session", "ada"); !errors.Is(err, records.ErrNotFound) {
		t.Errorf("deleted: %v, not ErrNotFound", err)
	}
}

// delayCommits makes commits that change a table wait for the advisory lock 1.
func delayCommits(t *testing.T, conn *pgx.Conn, table string) {
	t.Helper()
	execSQL(t, conn, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
		AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$`)
	execSQL(t, conn, `CREATE CONSTRAINT TRIGGER wait AFTER INSERT OR UPDATE OR DELETE ON `+table+`
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`)
}

// waiting returns when a session waits for a lock.
func waiting(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for n := 0; n == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no session waits for a lock")
		}
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n))
	}
}

// Fault 10: another session holds the lock: the store waits, returns ErrBusy, and continues when the lock is free.
func TestLocked(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	s, rival := openWith(t, url, postgres.Options{Timeout: 2 * time.Second}), connect(t, url)
	must(t, s.RecordReports(t.Context(), report("acme", 1, "")))
	execSQL(t, rival, `BEGIN`)
	execSQL(t, rival, `SELECT FROM lease FOR UPDATE`)
	execSQL(t, rival, `SELECT FROM cells FOR UPDATE`)
	if err := s.RecordReports(t.Context(), report("acme", 2, "")); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("report: %v, not ErrBusy", err)
	}
	if err := s.RecordSeen(t.Context(), "4f0c", nil); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("seen: %v, not ErrBusy", err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Logf("ready: %v", err) // its write needs no such lock
	}
	if _, err := s.Observed(t.Context()); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	execSQL(t, rival, `ROLLBACK`)
	if err := errors.Join(s.RecordReports(t.Context(), report("acme", 2, "")), s.RecordSeen(t.Context(), "4f0c", nil),
		s.Ready(t.Context())); err != nil {
		t.Errorf("once the lock is free: %v", err)
	}
}

// failOn makes the database refuse matching rows, as it refuses by itself.
func failOn(t *testing.T, conn *pgx.Conn, table, condition, code string) (heal func()) {
	t.Helper()
	execSQL(t, conn, fmt.Sprintf(`CREATE FUNCTION fail_%s() RETURNS trigger LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'as the test says' USING ERRCODE = '%s'; END $$`, table, code))
	execSQL(t, conn, fmt.Sprintf(`CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON %s
		FOR EACH ROW WHEN (%s) EXECUTE FUNCTION fail_%s()`, table, condition, table))
	return func() { t.Helper(); execSQL(t, conn, fmt.Sprintf(`DROP TRIGGER fail ON %s`, table)) }
}

// Fault 9: a full disk rolls the write back with ErrFull; the store recovers when there is room.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	s, conn := open(t, url), connect(t, url)
	must(t, s.RecordReports(t.Context(), report("acme", 1, "before")))
	healCells, healFacts := failOn(t, conn, "cells", "true", "53100"), failOn(t, conn, "facts", "true", "53100")
	if err := s.RecordReports(t.Context(), report("acme", 2, "lost")); !errors.Is(err, plan.ErrFull) {
		t.Errorf("report: %v, not ErrFull", err)
	}
	if err := s.RecordSeen(t.Context(), "4f0c", nil); !errors.Is(err, plan.ErrFull) {
		t.Errorf("seen: %v, not ErrFull", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, plan.ErrFull) {
		t.Errorf("a full store is ready: %v", err)
	}
	known, err := s.Cells(t.Context(), "acme")
	if err != nil || known["acme"].Message != "before" {
		t.Errorf("the cell is %+v (%v)", known["acme"], err)
	}
	healCells()
	healFacts()
	if err := errors.Join(s.Ready(t.Context()), s.RecordReports(t.Context(), report("acme", 2, "after"))); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
