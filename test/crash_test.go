package test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"
)

const (
	totalKills   = 200 // in all worlds
	killedWorlds = 2   // worlds in which processes are killed; in one more none is
)

type journeyStep struct {
	version string
	bad     bool
}

// journey returns the releases in the order in which they are cut.
func journey() []journeyStep {
	return []journeyStep{{"1.0.0", false}, {"1.1.0", false}, {"1.2.0", true}, {"1.3.0", false}, {"1.4.0", false}}
}

// outcome is the state that must not depend on kills.
type outcome struct {
	Subjects   map[string][]string // by channel: each promotion once, in order
	Quarantine map[string]string   // files
	Runs       map[string]string   // by cell: manifests
	Digests    map[string]string   // by cell: as it reports
	Decisions  []string            // in the store: exactly one event each
}

// Invariant 4, fault 34 (power loss) and faults 1, 2 and 3 at random instants: control plane, agents and ticks are
// killed again and again, and restarted. The outcome is that of an undisturbed world.
func TestKilledAtAnyInstant(t *testing.T) {
	seed := environmentNumber(t, "SLUICE_SEED", time.Now().UnixNano())
	total := int(environmentNumber(t, "SLUICE_KILLS", totalKills))
	t.Logf("SLUICE_SEED=%d SLUICE_KILLS=%d", seed, total)
	ends := make([]outcome, 1+killedWorlds)
	t.Run("worlds", func(t *testing.T) {
		for i := range ends {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				r := &killer{w: newWorld(t, nil), rand: rand.New(rand.NewPCG(uint64(seed), uint64(i))),
					killCounts: map[string]int{}} //nolint:gosec // repeatable
				if i > 0 {
					r.killsLeft = total / killedWorlds
				}
				r.runJourney()
				ends[i] = r.w.stopAndCollect()
			})
		}
	})
	for i := 1; i < len(ends); i++ {
		if diff := cmp.Diff(ends[0], ends[i]); diff != "" {
			t.Errorf("world %d came to another end (SLUICE_SEED=%d):\n%s", i, seed, diff)
		}
	}
	staging := []string{"promote 1.0.0 to staging", "promote 1.1.0 to staging", "promote 1.2.0 to staging",
		"roll back staging to 1.1.0", "promote 1.3.0 to staging", "promote 1.4.0 to staging"}
	dedicated := []string{"promote 1.0.0 to dedicated", "promote 1.1.0 to dedicated", "promote 1.3.0 to dedicated",
		"promote 1.4.0 to dedicated"}
	if diff := cmp.Diff(map[string][]string{"staging": staging, "dedicated": dedicated}, ends[0].Subjects); diff != "" {
		t.Errorf("undisturbed:\n%s", diff)
	}
}

func environmentNumber(t *testing.T, variable string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

type killer struct {
	w    *world
	tick *process

	mu         sync.Mutex // guards the processes and what follows
	rand       *rand.Rand
	killsLeft  int            // kills
	killCounts map[string]int // by process and instant
}

func (r *killer) runJourney() {
	w := r.w
	w.t.Helper()
	r.tick = w.process("tick", "tick", "--repo", w.repo, "--data", w.path("data"))
	w.addAgent("eu-1")
	w.addAgent("acme")
	w.startAll()
	watching, stop := context.WithCancel(w.t.Context())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() { r.killOnPushes(watching) })
	good := ""
	legs := journey()
	for i, step := range legs {
		note := "fine"
		if step.bad {
			note = "broken"
		}
		w.cutRelease(step.version, note)
		r.killAtRandom(len(legs) - i)
		// The next release is cut while this one soaks, and has to wait.
		w.eventually(func() (string, bool) {
			on := strings.Contains(strings.Join(w.headSubjects("staging"), "\n"), "promote "+step.version+" to staging")
			return "staging never got " + step.version, on
		})
		if good != "" { // acme may run a later release by now, so the history decides
			w.eventually(func() (string, bool) {
				on := strings.Contains(strings.Join(w.headSubjects("dedicated"), "\n"), "promote "+good+" to dedicated")
				return "dedicated never got " + good, on
			})
		}
		if !step.bad {
			good = step.version
		}
	}
	r.killAtRandom(0)
	w.awaitRelease("eu-1", good)
	w.awaitRelease("acme", good)
	w.eventually(func() (string, bool) {
		s := w.status()
		return fmt.Sprintf("the last plan is not of the last commit: %+v", s),
			s.Commit == strings.TrimSpace(git(w.t, w.repo, "rev-parse", "main"))
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	w.t.Logf("killed: %v", r.killCounts)
}

// killOnPushes kills the control plane at half of the instants at which a push begins or lands, until ctx ends.
func (r *killer) killOnPushes(ctx context.Context) {
	received, branch := filepath.Join(r.w.repo, "objects"), filepath.Join(r.w.repo, "refs", "heads", "main")
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for seen := fileStamp(received) + fileStamp(branch); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := fileStamp(received) + fileStamp(branch)
		if now == seen {
			continue
		}
		r.mu.Lock()
		if r.killsLeft > 0 && r.rand.IntN(2) == 0 {
			time.Sleep(time.Duration(r.rand.IntN(20)) * time.Millisecond)
			r.killAndRestart(" at a push", r.w.server)
		}
		r.mu.Unlock()
		seen = now
	}
}

// killAtRandom kills at random instants, and leaves kills for the rounds to come; after the last round it leaves none.
func (r *killer) killAtRandom(rounds int) {
	r.mu.Lock()
	leave := 0
	if rounds > 0 {
		leave = r.killsLeft - r.killsLeft/rounds*4/5
	}
	r.mu.Unlock()
	for r.killOne(leave) {
	}
}

// killOne kills some process at a random instant.
func (r *killer) killOne(leave int) bool {
	r.mu.Lock()
	limit, step, x := time.Duration(r.rand.IntN(400))*time.Millisecond, r.rand.IntN(2) == 0, r.rand.IntN(10)
	more := r.killsLeft > leave
	r.mu.Unlock()
	if !more {
		return false
	}
	w, when := r.w, ""
	all := []*process{w.server, w.agents["eu-1"], w.agents["acme"]}
	var victims []*process
	switch {
	case x < 4:
		victims = all[:1]
	case x < 8:
		victims = all[x/2-1 : x/2]
		if step && awaitFileChange(w.path("cells", victims[0].name, ".agent", "journal.json"), limit) {
			when, limit = " at a step", 0
		}
	case x < 9: // the whole machine
		victims = all
	default: // a tick beside the control plane, on the same store
		r.tick.start()
		victims = []*process{r.tick}
	}
	time.Sleep(limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killAndRestart(when, victims...)
	return true
}

// killAndRestart kills processes and restarts them; mu is held.
func (r *killer) killAndRestart(when string, victims ...*process) {
	if victims[0] == r.tick && !r.tick.killIfAlive() {
		return // it ended by itself
	}
	r.killsLeft--
	r.killCounts[victims[0].name+when]++
	for _, v := range victims {
		if v != r.tick {
			v.kill()
			defer v.start()
		}
	}
}

// awaitFileChange waits for a change of a file, and reports whether there was one.
func awaitFileChange(watched string, limit time.Duration) bool {
	before, ticker, timeout := fileStamp(watched), time.NewTicker(time.Millisecond), time.After(limit)
	defer ticker.Stop()
	for fileStamp(watched) == before {
		select {
		case <-timeout:
			return false
		case <-ticker.C:
		}
	}
	return true
}

// fileStamp returns a text that changes with the file.
func fileStamp(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size())
}

func (w *world) stopAndCollect() outcome {
	w.t.Helper()
	e := outcome{Subjects: map[string][]string{}, Quarantine: map[string]string{}, Runs: map[string]string{},
		Digests: map[string]string{}}
	for _, c := range w.status().Cells {
		e.Digests[c.Name] = string(c.Digest)
	}
	w.stopAll()
	for _, channel := range []string{"staging", "dedicated"} {
		checkPromotedOnce(w.t, w.repo, channel)
		e.Subjects[channel] = w.headSubjects(channel)
	}
	for name := range strings.FieldsSeq(git(w.t, w.repo, "ls-tree", "-r", "--name-only", "main", "quarantine/")) {
		e.Quarantine[name] = w.readCommitted(name)
	}
	for name := range w.agents {
		e.Runs[name] = w.installedManifests(name)
	}
	if out := git(w.t, w.repo, "fsck", "--strict", "--full"); strings.Contains(out, "error") ||
		strings.Contains(out, "missing") {
		w.t.Errorf("fsck: %s", out)
	}
	e.Decisions = w.storedDecisions()
	return e
}

// storedDecisions returns the store's decisions, sorted. It checks that they are those in git, and that all were
// announced.
func (w *world) storedDecisions() []string {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path("data", "sluice.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(w.t.Context(),
		`SELECT commit_id, announced,
			body ->> 'kind', body ->> 'channel', body ->> 'sequence', body ->> 'release' FROM decisions`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var found []string
	commits := map[string]bool{}
	for rows.Next() {
		var commit, kind, channel, release string
		var announced, sequence int
		if err := rows.Scan(&commit, &announced, &kind, &channel, &sequence, &release); err != nil {
			w.t.Fatal(err)
		}
		if announced != 1 {
			w.t.Errorf("%s %s in %s was not announced", kind, release, channel)
		}
		commits[commit] = true
		found = append(found, fmt.Sprintf("%s %d: %s %s", channel, sequence, kind, release))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	moves := strings.Fields(git(w.t, w.repo, "log", "--format=%H", "main", "--", "channels/*/head.yaml"))
	slices.Sort(moves)
	if diff := cmp.Diff(moves, slices.Sorted(maps.Keys(commits))); diff != "" {
		w.t.Errorf("git's moves and the store's decisions:\n%s", diff)
	}
	slices.Sort(found)
	return found
}
