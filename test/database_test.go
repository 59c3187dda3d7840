package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/test/swarm"
)

// emptyDatabase drops everything in the fleet's database.
func (f *fleet) emptyDatabase() {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.database)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(f.t.Context()) //nolint:errcheck // nothing could be lost
	if _, err := conn.Exec(f.t.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		f.t.Fatal(err)
	}
}

// wasAssigned reports whether a cell is assigned a release, or ever began it.
func wasAssigned(w swarm.Snapshot, version string) bool {
	for _, a := range w.Began {
		if a.Release == version {
			return true
		}
	}
	return w.Desired != nil && w.Desired.Assignment != nil && w.Desired.Assignment.Release == version
}

// countWarnings returns how many warnings of a process contain a text.
func (w *world) countWarnings(name, of string) (n int) {
	for line := range strings.Lines(w.processLog(name)) {
		if strings.Contains(line, of) && (strings.Contains(line, `"level":"warn"`) || strings.Contains(line, "WRN")) {
			n++
		}
	}
	return n
}

const adoptionWarning = "it has fewer acknowledgments than the cell"

// Fault 54: the database is emptied during a rollout. While one cell is silent no cell is granted anything, however
// many others have reported (R26). Then the rollout completes, and sequences continue.
func TestDatabaseIsEmptied(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 60, 0, 2, rollingPolicy)
	o := swarm.Options{Seed: 5, Apply: [2]time.Duration{100 * time.Millisecond, 300 * time.Millisecond},
		ReportEvery: time.Second}
	quiet, others := f.startCells(f.plane.Addresses, f.members[:1], o), f.startCells(f.plane.Addresses, f.members[1:],
		o)
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	f.commitRelease("1.0.1")
	f.awaitSomeOn("1.0.1", 8)
	for _, r := range f.replicas {
		r.kill()
	}
	quiet.stop()
	f.emptyDatabase()
	assigned := map[string]bool{}
	for _, w := range f.snapshots() {
		if wasAssigned(w, "1.0.1") {
			assigned[w.Name] = true
		}
	}
	if len(assigned) < 10 || len(assigned) > 50 {
		t.Fatalf("%d cells were assigned 1.0.1: this is not the middle of a rollout", len(assigned))
	}
	f.startReplicas()
	for range 3 { // rounds of reports
		since := time.Now()
		f.eventually(func() (string, bool) {
			n := 0
			for _, w := range others.Snapshots() {
				if w.Acknowledged != nil && w.Acknowledged.Sent.After(since) {
					n++
				}
			}
			return fmt.Sprintf("%d cells have reported", n), n == len(others.members)
		})
	}
	for _, w := range others.Snapshots() {
		if wasAssigned(w, "1.0.1") && !assigned[w.Name] {
			t.Errorf("%s was granted 1.0.1 before all had reported", w.Name)
		}
	}
	for i := range f.replicas {
		var metrics string
		if err := f.getFrom(i, "/metrics", &metrics); err != nil ||
			!strings.Contains(metrics, "\nsluice_grants_total 0") {
			t.Errorf("replica %d granted something: %v", i, err)
		}
	}
	f.startCells(f.plane.Addresses, f.members[:1],
		swarm.Options{Seed: 5, Resume: quiet.Snapshots(), ReportEvery: time.Second})
	f.awaitAllOn("1.0.1")
	f.commitRelease("1.0.2")
	f.awaitAllOn("1.0.2")
	f.stopCells()
	t.Logf("%d of %d cells were assigned 1.0.1 when the database was emptied", len(assigned), len(f.members))
	for _, w := range f.snapshots() {
		for i := 1; i < len(w.Began); i++ {
			if w.Began[i].Sequence <= w.Began[i-1].Sequence {
				t.Errorf("%s began sequence %d after %d", w.Name, w.Began[i].Sequence, w.Began[i-1].Sequence)
			}
		}
	}
	f.checkHeads(map[string][]string{"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.1 to dedicated",
		"promote 1.0.2 to dedicated"}})
	for i := range f.replicas {
		if n := f.countWarnings(fmt.Sprintf("replica-%d", i), adoptionWarning); n > 1 {
			t.Errorf("replica %d warned %d times that the store was emptied", i, n)
		}
	}
}

// R26, R27: the database is restored from an older copy. Cells that are ahead of it are adopted with one warning and
// not taken for clones, keep their keys, and a token that was used since stays void.
func TestDatabaseIsRestored(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	token := w.addCell("late", "dedicated")
	w.mustRunSluice("backup", "--data", w.path("data"), "--to", w.path("copy.db"))
	w.startAgent("late", "late", "--join", "@"+token)
	w.cutRelease("1.0.1", "second")
	for _, cell := range []string{"eu-1", "acme", "late"} {
		w.awaitRelease(cell, "1.0.1")
	}
	w.eventually(func() (string, bool) {
		text := w.readCommitted("cells/late/identity.yaml")
		return "the key of late is not in git: " + text, strings.Contains(text, "publicKey: ed25519:")
	})
	w.server.kill()
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(w.path("data", "sluice.db"+suffix))
	}
	if err := os.Rename(w.path("copy.db"), w.path("data", "sluice.db")); err != nil {
		t.Fatal(err)
	}
	before := w.countWarnings("serve", adoptionWarning)
	w.server.start()
	w.cutRelease("1.0.2", "third")
	for _, cell := range []string{"eu-1", "acme", "late"} {
		w.awaitRelease(cell, "1.0.2")
		if text := w.readCommitted("cells/" + cell + "/identity.yaml"); strings.Contains(text, "quarantined") {
			t.Errorf("%s is taken for a clone: %s", cell, text)
		}
	}
	if n := w.countWarnings("serve", adoptionWarning) - before; n != 1 {
		t.Errorf("%d warnings that the store was restored, want once:\n%s", n, w.processLog("serve"))
	}
	out, err := w.runSluice("agent", "--join", "@"+token, "--dir", w.path("cells", "thief"))
	if err == nil || !strings.Contains(err.Error(), "the token is not valid") {
		t.Errorf("the token that the older copy does not know to be used: %v %s", err, out)
	}
	w.cutRelease("1.0.3", "fourth")
	w.awaitRelease("late", "1.0.3")
	if got := w.headSubjects("dedicated"); len(got) != 4 ||
		!strings.Contains(w.readCommitted("channels/dedicated/head.yaml"), "sequence: 4") {
		t.Errorf("dedicated moved by %q, head %s", got, w.readCommitted("channels/dedicated/head.yaml"))
	}
}
