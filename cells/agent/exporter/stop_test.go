package exporter_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/releases/export"
)

// stuck is a control plane that never answers.
type stuck struct {
	asked   chan struct{} // has an entry for each request
	waiting atomic.Int32  // requests that wait for an answer
	most    atomic.Int32  // at once
}

func newStuck() *stuck { return &stuck{asked: make(chan struct{}, 1000)} }

func (s *stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	s.most.Store(max(s.most.Load(), s.waiting.Add(1)))
	defer s.waiting.Add(-1)
	s.asked <- struct{}{}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// run runs an exporter with a control plane until the returned function is called.
func (c *cell) run(to http.RoundTripper, minute time.Duration) (stop func()) {
	c.t.Helper()
	c.Exporter = exporter.Open(exporter.Options{StateDir: c.dir, Cell: "acme", To: to, Minute: minute,
		Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
	return c.stop
}

// E3: within two seconds of the owner's off nothing is sent any more and nothing waits. E4: one batch is sent at a
// time, however many wait and however long the control plane takes.
func TestE3OffStopsWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, plane := &cell{t: t, dir: dir}, newStuck()
		stop := c.run(plane, time.Minute)
		defer stop()
		wish := list("queue")
		c.SetWish("1.0.0", &wish)
		c.SetConsent(agreed(time.Minute, "queue"))
		for range 10 {
			c.measure("queue", 1)
			time.Sleep(time.Minute)
		}
		for plane.waiting.Load() == 0 { // it pauses between two tries
			time.Sleep(time.Second)
		}
		if files, err := exporter.List(dir); err != nil || len(files) < 5 || !files[0].MayHaveLeft ||
			plane.waiting.Load() != 1 || plane.most.Load() != 1 {
			t.Fatalf("%+v waits (%v), %d are sent, %d at once", files, err, plane.waiting.Load(), plane.most.Load())
		}
		c.SetConsent(&cells.ExportConsent{Off: true})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if files, err := exporter.List(dir); err != nil || len(files) > 0 || plane.waiting.Load() > 0 {
			t.Errorf("after the off %+v waits (%v), and %d are sent", files, err, plane.waiting.Load())
		}
	})
}

// A file that is removed while it is sent is cut off, and the owner reads that it may have left.
func TestDropCutsOffWhatIsSent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, plane := &cell{t: t, dir: dir}, newStuck()
		stop := c.run(plane, time.Minute)
		defer stop()
		wish := list("queue")
		c.SetWish("1.0.0", &wish)
		c.SetConsent(agreed(time.Minute, "queue"))
		for len(plane.asked) == 0 {
			c.measure("queue", 1)
			time.Sleep(time.Second)
		}
		dropped, err := exporter.Drop(dir)
		if err != nil || len(dropped) < 2 || !dropped[0].MayHaveLeft || dropped[1].MayHaveLeft {
			t.Errorf("%+v were removed (%v)", dropped, err)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if n := plane.waiting.Load(); n > 0 {
			t.Error("what the owner removed is still being sent")
		}
	})
}

// E5: what came in leaves after a stop, whatever its turn is, and the time in which no agent collected is a gap: after
// a stop it is what is longer than a minute, and after a crash also what the crash lost.
func TestE5StopsAreNoSilentGap(t *testing.T) {
	const silent = "the agent did not run"
	rare := func() *export.List {
		l := list("queue")
		l.Metrics[0].Every = export.MaxEvery
		return &l
	}
	begin := func(c *cell) {
		c.SetWish("1.0.0", rare())
		c.SetConsent(&cells.ExportConsent{Hold: time.Nanosecond, Allowed: *rare()})
	}
	// leave stops the agent so that what it collected arrives, with its gap.
	leave := func(c *cell, value float64) []cells.ExportGap {
		c.t.Helper()
		c.measure("queue", value)
		c.stop()
		c.start()
		begin(c)
		c.eventually("the value arrived", func() bool { return c.last("queue") == value })
		return c.state().Gaps
	}
	c := newCell(t)
	begin(c)
	c.eventually("the rules are in force", c.leaves)
	if gaps := leave(c, 2); len(gaps) > 0 {
		t.Errorf("after a short stop the vendor sees the gaps %+v", gaps)
	}
	c.eventually("the rules are in force", c.leaves)
	crashed := filepath.Join(t.TempDir(), "state") // as a crash would leave it
	c.eventually("the folder is copied", func() bool {
		_ = os.RemoveAll(crashed)
		return os.CopyFS(crashed, os.DirFS(c.dir)) == nil
	})
	c.stop()
	c.dir = crashed
	c.start()
	begin(c)
	c.eventually("the rules are in force", c.leaves)
	gaps := leave(c, 3)
	if len(gaps) != 1 || gaps[0].Why != silent {
		t.Fatalf("after a crash the vendor sees the gaps %+v", gaps)
	}
	c.stop()
	long := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	text, err := json.Marshal(map[string]any{"until": long, "whole": true})
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, exporter.FolderName, "collected.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.start()
	begin(c)
	c.eventually("the rules are in force", c.leaves)
	if gaps := leave(c, 4); len(gaps) != 2 || gaps[1].Why != silent || !gaps[1].From.Equal(long) {
		t.Errorf("after a long stop the vendor sees the gaps %+v", gaps)
	}
}

// leaves reports whether the exporter noted that it collects what leaves.
func (c *cell) leaves() bool {
	text, err := os.ReadFile(filepath.Join(c.dir, exporter.FolderName, "collected.json"))
	return err == nil && strings.Contains(string(text), `"whole":false`)
}
