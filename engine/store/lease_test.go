package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/store"
)

// leaderFile names the database in the environment of a process that leads until killed.
const leaderFile = "SLUICE_STORE_TEST_LEADER"

// leadForLong leads, prints that it does, and waits to be killed.
func leadForLong(ctx context.Context, file string) error {
	s, err := store.OpenWith(ctx, file, store.Options{})
	if err != nil {
		return err
	}
	term, led, err := s.AcquireLease(ctx, 24*time.Hour)
	if err == nil && !led {
		err = fmt.Errorf("term %d is another's", term)
	}
	fmt.Println(term, led)
	if err == nil {
		time.Sleep(time.Hour)
	}
	return err
}

// A killed leader is followed at once, however long its lease runs, since its lock ended with it.
func TestKilledLeaderIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{})
	for round := range int64(3) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.Stderr = append(os.Environ(), leaderFile+"="+file), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, _, err := bufio.NewReader(out).ReadLine()
		if err != nil || string(line) != fmt.Sprint(2*round+1, true) {
			t.Fatalf("the leader said %q (%v)", line, err)
		}
		if term, led, err := s.AcquireLease(t.Context(), time.Minute); led || term != 2*round+1 {
			t.Errorf("beside a leader that lives: term %d, led %v (%v)", term, led, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // an error, since it was killed
		if term, led, err := s.AcquireLease(t.Context(), time.Minute); !led || term != 2*round+2 {
			t.Errorf("after it was killed: term %d, led %v (%v)", term, led, err)
		}
		if err := s.RecordSeen(t.Context(), "4f0c", nil); err != nil {
			t.Error(err)
		}
		if err := s.ReleaseLease(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A clock that is set back prolongs no lease, neither a dead leader's nor one's own.
func TestLeaseOutlivesNoClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	file := filepath.Join(t.TempDir(), "sluice.db")
	a, b := open(t, file, store.Options{Now: clock}), open(t, file, store.Options{Now: clock})
	if _, led, err := a.AcquireLease(t.Context(), 10*time.Second); !led {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	if term, led, err := b.AcquireLease(t.Context(), 10*time.Second); !led || term != 2 {
		t.Errorf("after the clock was set back: term %d, led %v (%v)", term, led, err)
	}
}
