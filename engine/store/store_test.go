package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/store/storetest"
	"github.com/sluice-cd/sluice/flags/repository"
)

// childFile names the database in the environment of the process that TestKill kills.
const childFile = "SLUICE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if file := os.Getenv(leaderFile); file != "" {
		fmt.Fprintln(os.Stderr, leadForLong(context.Background(), file))
		os.Exit(1)
	}
	if file := os.Getenv(childFile); file != "" {
		ctx := context.Background()
		s, err := store.Open(ctx, file, zerolog.Nop())
		if err == nil {
			err = storetest.Child(ctx, s, os.Stdout)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func opener(t *testing.T) storetest.Open {
	dir := t.TempDir()
	return func(t *testing.T, now func() time.Time) storetest.Store {
		t.Helper()
		file := filepath.Join(dir, strings.NewReplacer("/", "_", " ", "-").Replace(t.Name())+".db")
		return open(t, file, store.Options{Now: now, Poll: 20 * time.Millisecond})
	}
}

func open(t *testing.T, file string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.OpenWith(t.Context(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) { storetest.Run(t, opener(t)) }

func TestKill(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.db")
	storetest.Kill(t,
		func(t *testing.T, _ func() time.Time) storetest.Store {
			s := open(t, file, store.Options{})
			if err := s.Integrity(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		},
		func(t *testing.T) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childFile+"="+file)
			cmd.Stderr = os.Stderr
			return cmd
		})
}

func report(name, message string) []plan.Reported {
	return []plan.Reported{{State: &plan.CellState{Name: name, Channel: "staging", Sequence: 1, Message: message,
		LastReport: time.Now(), Version: 1}}}
}

// Fault 9: a full disk rolls the write back with ErrFull; the file is whole, and usable when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{MaxBytes: 512 << 10})
	kept := 0
	var err error
	for ; kept < 1000 && err == nil; kept++ {
		err = s.RecordReports(ctx, report(fmt.Sprintf("cell-%04d", kept), strings.Repeat("x", 4000)))
	}
	kept--
	if !errors.Is(err, plan.ErrFull) {
		t.Fatalf("after %d reports: %v, not ErrFull", kept, err)
	}
	if err := s.Ready(ctx); !errors.Is(err, plan.ErrFull) {
		t.Errorf("a full store is ready: %v", err)
	}
	err = s.RecordObservations(ctx, []plan.Observation{{Gate: "check", Value: strings.Repeat("x", 100_000)}})
	if !errors.Is(err, plan.ErrFull) {
		t.Errorf("observe in a full store: %v, not ErrFull", err)
	}
	killed := 0
	for err = nil; killed < 100 && err == nil; killed++ {
		err = s.Kill(ctx, plan.Kill{ID: "k", Override: repository.Override{Flag: fmt.Sprint("f", killed),
			Reason: strings.Repeat("x", 4000)}})
	}
	killed--
	if !errors.Is(err, plan.ErrFull) {
		t.Errorf("after %d kills: %v, not ErrFull", killed, err)
	}
	if err := s.Integrity(ctx); err != nil {
		t.Error(err)
	}
	o, err := s.Observed(ctx)
	if err != nil || len(o.Cells) != kept {
		t.Errorf("%d cells (%v), %d were acknowledged", len(o.Cells), err, kept)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, file, store.Options{})
	if all, err := s.Kills(ctx); err != nil || len(all) != killed {
		t.Errorf("%d kills (%v), %d were acknowledged", len(all), err, killed)
	}
	if err := errors.Join(s.RecordReports(ctx, report("later", strings.Repeat("x", 4000))), s.Ready(ctx)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Fault 10: another process holds the lock: the store waits, returns ErrBusy, and continues when the lock is free.
func TestLocked(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{BusyTimeout: 50 * time.Millisecond})
	rival, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	tx, err := rival.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RecordReports(ctx, report("acme", "")); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("report: %v, not ErrBusy", err)
	}
	if err := s.Kill(ctx, plan.Kill{ID: "k", Override: repository.Override{Flag: "f"}}); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("kill: %v, not ErrBusy", err)
	}
	if err := s.RecordSeen(ctx, "4f0c", nil); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("seen: %v, not ErrBusy", err)
	}
	if err := s.Ready(ctx); !errors.Is(err, plan.ErrBusy) {
		t.Errorf("ready: %v, not ErrBusy", err)
	}
	if _, err := s.Observed(ctx); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Ready(ctx), s.RecordReports(ctx, report("acme", ""))); err != nil {
		t.Errorf("once the lock is free: %v", err)
	}
}

// By default a write waits 5 s for a rival to release its lock.
func TestWaitsForARival(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{})
	rival := open(t, file, store.Options{})
	var wg sync.WaitGroup
	for _, s := range []*store.Store{s, rival} {
		for n := range 4 {
			wg.Go(func() {
				for i := range 25 {
					if err := s.RecordReports(ctx, report(fmt.Sprintf("cell-%p-%d-%d", s, n, i), "")); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	o, err := s.Observed(ctx)
	if err != nil || len(o.Cells) != 200 {
		t.Errorf("%d cells (%v), not 200", len(o.Cells), err)
	}
}

// A process that starts beside another migrates the same new file.
func TestOpenedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := store.Open(t.Context(), file, zerolog.Nop())
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	const history = 50
	number := int64(0)
	for range 2 {
		s := open(t, file, store.Options{History: history})
		for range 30 {
			var events []cells.Event
			for range 10 {
				number++
				events = append(events, cells.Event{Number: number, Kind: "healed"})
			}
			r := report("acme", "")
			r[0].Events, r[0].State.Version = events, number/10
			if err := s.RecordReports(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := s.Events(ctx, "acme", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(kept); n < history || n > history+100 || kept[n-1].Number != number {
			t.Errorf("%d events kept, the last %d of %d; wanted the last %d or a few more", n, kept[n-1].Number, number,
				history)
		}
		s.Close()
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.db")
	open(t, file, store.Options{}).Close()
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = store.Open(t.Context(), file, zerolog.Nop())
	if err == nil || !strings.Contains(err.Error(), "newer sluice") {
		t.Errorf("opened a newer schema: %v", err)
	}
}

func TestOpenNamesTheFault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("not a database ", 100)),
		0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{dir, filepath.Join(dir, "text"), filepath.Join(dir, "text", "sluice.db")} {
		if s, err := store.Open(t.Context(), file, zerolog.Nop()); err == nil {
			s.Close()
			t.Errorf("opened %s", file)
		} else if !strings.Contains(err.Error(), file) {
			t.Errorf("does not name the file: %v", err)
		} else if file == filepath.Join(dir, "text") && !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("does not say what to do: %v", err)
		}
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := open(t, filepath.Join(dir, "odd name?#%20.db"), store.Options{})
	if err := s.RecordReports(ctx, report("acme", "hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(ctx, filepath.Join(dir, "copy.db")); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(ctx, filepath.Join(dir, "copy.db")); err == nil {
		t.Error("a backup was overwritten")
	}
	o, err := open(t, filepath.Join(dir, "copy.db"), store.Options{}).Observed(ctx)
	if err != nil || o.Cells["acme"] == nil || o.Cells["acme"].Message != "hello" {
		t.Errorf("the copy has %+v (%v)", o.Cells, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "odd name?#%20.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v (%v)", info, err)
	}
}

// Known reads no cell, and Cells only the named ones: an unreadable row proves it.
func TestReadsOnlyWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{})
	if err := s.RecordReports(ctx, append(report("acme", ""), report("bolt", "")...)); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE cells SET body = 'damaged' WHERE name = 'bolt'`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Known(ctx); err != nil {
		t.Errorf("Known reads cells: %v", err)
	}
	if all, err := s.Cells(ctx, "acme"); err != nil || all["acme"] == nil {
		t.Errorf("acme is read with others: %v", err)
	}
	for _, names := range [][]string{{"bolt"}, nil} {
		if _, err := s.Cells(ctx, names...); err == nil {
			t.Errorf("cells %v: a damaged row is not told of", names)
		}
	}
}

// R26: a token that was used after the backup is void in the restored store, since git has a later serial.
func TestRestoredStoreHonoursNoUsedToken(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := open(t, filepath.Join(dir, "sluice.db"), store.Options{})
	now := time.Now()
	for _, hash := range []string{"used", "unused"} {
		if err := s.AddJoin(ctx, access.Join{Cell: hash, Hash: hash, Serial: 4, Created: now,
			Expires: now.Add(access.JoinLifetime)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backup(ctx, filepath.Join(dir, "backup.db")); err != nil {
		t.Fatal(err)
	}
	member := func(cell string, serial int64, key string) plan.Registration {
		return plan.Registration{Cell: cell, Identity: cells.Identity{Serial: serial, PublicKey: key}}
	}
	if err := s.ClaimToken(ctx, "used", member("used", 5, "key")); err != nil {
		t.Fatal(err)
	}
	restored := open(t, filepath.Join(dir, "backup.db"), store.Options{})
	// as in identity.yaml: the next is 6
	if err := restored.ClaimToken(ctx, "used", member("used", 6, "thief")); !errors.Is(err, plan.ErrDenied) {
		t.Errorf("a used token came back: %v", err)
	}
	if err := restored.ClaimToken(ctx, "unused", member("unused", 5, "key")); err != nil {
		t.Errorf("one that was not used yet: %v", err)
	}
}

// Cells are shuffled, and each has one submitter, as with the engine's locks.
func BenchmarkReport(b *testing.B) {
	s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "sluice.db"), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const fleet = 10_000
	versions := make([]int64, fleet)
	for _, submitters := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(submitters), func(b *testing.B) {
			var wg sync.WaitGroup
			for w := range submitters {
				wg.Go(func() {
					for i := w; i < b.N; i += submitters {
						n := (i/submitters*submitters + w) % (fleet / submitters * submitters)
						versions[n]++
						r := report(fmt.Sprintf("cell-%05d", n*7919%fleet), "")
						r[0].State.Version = versions[n]
						if err := s.RecordReports(b.Context(), r); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkRead10k(b *testing.B) {
	s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "sluice.db"), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var batch []plan.Reported
	for n := range 10_000 {
		r := report(fmt.Sprintf("cell-%05d", n), "")
		r[0].State.Running = &cells.Assignment{Channel: "staging", Release: "2026.11.3", Sequence: 3,
			Values: map[string]any{"domain": "example", "replicas": 3}}
		batch = append(batch, r...)
	}
	if err := s.RecordReports(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
	b.Run("Observed", func(b *testing.B) {
		for b.Loop() {
			if o, err := s.Observed(b.Context()); err != nil || len(o.Cells) != 10_000 {
				b.Fatal(len(o.Cells), err)
			}
		}
	})
	b.Run("Cells", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.Cells(b.Context()); err != nil || len(all) != 10_000 {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("Known", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Known(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
