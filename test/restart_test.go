package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/swarm"
)

// A control plane that is asked to stop ends its 300 streams one after the other within a few seconds, each with the
// time to come back, and exits with 0. After a restart all streams are back, and no acknowledged report is lost.
func TestGracefulRestart(t *testing.T) {
	t.Parallel()
	const cells = 300
	f := newFleet(t, cells, 0, 1, entryPolicy)
	f.startAllCells(swarm.Options{Seed: 6})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	f.eventually(func() (string, bool) {
		n := f.swarm.Counts().Connected
		return fmt.Sprintf("%d streams", n), n == cells
	})
	before := f.swarm.Counts()
	stopped := make(chan struct{})
	sampled := make(chan struct{})
	var first, last time.Time
	levels := map[int64]bool{}
	go func() {
		defer close(sampled)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-ticker.C:
			}
			n := f.swarm.Counts().Connected
			if levels[n] {
				continue
			}
			levels[n] = true
			if last = time.Now(); first.IsZero() && n < cells {
				first = last
			}
		}
	}()
	begun := time.Now()
	f.replicas[0].stop() // stop checks the exit code
	took := time.Since(begun)
	close(stopped)
	<-sampled
	t.Logf("stopped after %s; %d streams ended over %s, seen at %d levels", took.Round(time.Millisecond), cells,
		last.Sub(first).Round(time.Millisecond), len(levels))
	if n := f.swarm.Counts().Connected; n != 0 {
		t.Errorf("%d streams are still there", n)
	}
	if len(levels) < 8 {
		t.Errorf("the streams ended at %d instants: that is no spreading", len(levels))
	}
	if over := last.Sub(first); over > 10*time.Second { // the server aims at 1.15 s, and cuts after 10 s
		t.Errorf("the streams ended over %s", over)
	}
	f.replicas[0].start()
	f.commitRelease("1.0.1")
	f.awaitAllOn("1.0.1")
	f.eventually(func() (string, bool) {
		n := f.swarm.Counts().Connected
		return fmt.Sprintf("%d streams are back", n), n == cells
	})
	after := f.swarm.Counts()
	t.Logf("until all were back: %d connections, %d that broke, %d refused", after.Connects-before.Connects,
		after.Failed-before.Failed, after.Refused-before.Refused)
	f.checkHeads(map[string][]string{"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.1 to dedicated"}})
	f.checkNothingLost()
}

// Fault 36: a cell whose health changes every second never counts as healthy, and its channel's release is not
// promoted. A cell that joins meanwhile is not delayed, though only one may update at once. Once the cell stays
// healthy, the release is promoted.
func TestFlappingCell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(files map[string]string) {
		files["cells/flap/cell.yaml"] = files["cells/eu-1/cell.yaml"]
		files["cells/late/cell.yaml"] = files["cells/eu-1/cell.yaml"]
		files["channels/staging/channel.yaml"] += "rollout: {maxInFlight: 1}\n"
		files["channels/dedicated/channel.yaml"] = strings.Replace(dedicatedPolicy, "{for: 1s, cells: 1}",
			"{for: 8s, cells: 2}", 1)
	})
	flaps := w.path("flaps")
	w.addAgent("eu-1")
	w.addAgent("acme")
	w.addAgent("flap", "--health", fmt.Sprintf(`! test -e %s || test $(( $(date +%%s) %% 2 )) = 0`, flaps))
	late := w.addAgent("late")
	delete(w.agents, "late")
	w.startAll()
	for _, cell := range []string{"eu-1", "flap"} { // soak counts cells that were there when the head moved (R9)
		w.eventually(func() (string, bool) { return cell + " has not reported", w.cellStatus(cell).State == "pending" })
	}
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("flap", "1.0.0")
	if err := os.WriteFile(flaps, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.awaitRelease("eu-1", "1.0.0")
	late.start()
	w.awaitRelease("late", "1.0.0")
	changes, last := 0, ""
	w.eventually(func() (string, bool) {
		if now := string(w.cellStatus("flap").State); now != last && (now == "healthy" || now == "unhealthy") {
			changes, last = changes+1, now
		}
		return fmt.Sprintf("its health has come or gone %d times", changes), changes >= 13
	})
	if head := w.headRelease("dedicated"); head != "" {
		t.Errorf("dedicated has %s, though one of staging's cells was never healthy for long", head)
	}
	w.awaitVerdict("dedicated", "soak", "")
	if err := os.Remove(flaps); err != nil {
		t.Fatal(err)
	}
	w.awaitRelease("flap", "1.0.0")
	w.awaitRelease("acme", "1.0.0")
	if log := w.processLog("flap"); strings.Contains(log, "rolled-back") {
		t.Errorf("the cell rolled back:\n%s", log)
	}
}
