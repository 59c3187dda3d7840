package debugger

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
)

// stopLimit is for how long a stop may last (D2).
const stopLimit = time.Second

// BenchmarkD2Stop measures the owner's stop of a shell at a terminal that ignores signals, and of a child of its in
// another session of processes: until both are dead and the connection is closed. make bench-export stops 200 of them,
// of which none may last longer than stopLimit.
func BenchmarkD2Stop(b *testing.B) {
	var slowest, all time.Duration
	n := 0
	for b.Loop() {
		took := stopOne(b)
		slowest, all = max(slowest, took), all+took
		n++
	}
	b.ReportMetric(0, "ns/op") // the beginning of sessions counts in it
	b.ReportMetric(slowest.Seconds(), "slowest-s")
	b.ReportMetric(all.Seconds()/float64(n), "mean-s")
	if slowest > stopLimit {
		b.Errorf("the slowest stop lasted %s, and may last %s", slowest, stopLimit)
	}
}

func stopOne(b *testing.B) time.Duration {
	f := newFixture(b, debug.Shell, nil)
	client := f.mustConnect(b)
	s, err := client.NewSession()
	if err == nil {
		err = s.RequestPty("xterm", 24, 80, nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := s.Start(`trap "" HUP TERM; (setsid sh -c 'trap "" HUP TERM; echo $$ >` + dir + `/deep; exec sleep 600' &) ; ` +
		`echo $$ >` + dir + `/shell; while :; do sleep 1; done`); err != nil {
		b.Fatal(err)
	}
	pids := []int{awaitPid(b, filepath.Join(dir, "deep")), awaitPid(b, filepath.Join(dir, "shell"))}
	begin := time.Now()
	if err := f.folder.Stop(f.id); err != nil {
		b.Fatal(err)
	}
	_ = client.Wait() // for the connection's end
	for _, pid := range pids {
		awaitEnd(b, pid)
	}
	took := time.Since(begin)
	f.awaitEnding(b)
	return took
}
