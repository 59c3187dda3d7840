package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	pgstore "github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/test/ports"
	"github.com/sluice-cd/sluice/test/postgres"
	"github.com/sluice-cd/sluice/test/swarm"
)

// fleet is a release repository, replicas of the control plane on one PostgreSQL, and cells of a swarm.
type fleet struct {
	world
	repo     *swarm.Repository
	database string
	replicas []*process
	members  []swarm.Member
	plane    swarm.ControlPlane
	swarm    *swarm.Swarm // of all members; nil: several swarms, or none yet
	groups   []*cellGroup
}

// cellGroup is a set of cells that are started and stopped together.
type cellGroup struct {
	*swarm.Swarm
	members []swarm.Member
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// newFleet makes n cells, of which the first ones, staging in number, are in the channel staging, and so many replicas,
// which it starts.
func newFleet(t *testing.T, n, staging, replicas int, policy string) *fleet {
	t.Helper()
	f := makeFleet(t, n, staging, replicas, policy)
	f.startReplicas()
	return f
}

// makeFleet is newFleet without starting anything.
func makeFleet(t *testing.T, n, staging, replicas int, policy string) *fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fleet{world: world{t: t, dir: dir, agents: map[string]*process{}}, members: swarm.Members("c", n, 1),
		database: postgres.NewDatabase(t)}
	f.world.repo = f.path("repo.git")
	files := map[string]string{
		"sluice.yaml":                     "apiVersion: sluice/v1\nkind: Pipeline\nstaleAfter: 1m\n",
		"channels/dedicated/channel.yaml": policy,
	}
	if staging > 0 {
		files["channels/staging/channel.yaml"] = stagingPolicy
	}
	f.repo, err = swarm.CreateRepository(t.Context(), f.world.repo, files, f.members, func(i int) string {
		if i < staging {
			return "staging"
		}
		return "dedicated"
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := transport.OpenKeys(f.path("tls"))
	if err != nil {
		t.Fatal(err)
	}
	f.plane.Pins = keys.Pins
	for i := range replicas {
		name := fmt.Sprintf("replica-%d", i)
		address := freePort(t)
		f.plane.Addresses = append(f.plane.Addresses, address)
		f.replicas = append(f.replicas, f.process(name, "serve", "--repo", f.world.repo, "--data", f.path(name),
			"--listen", "unix://"+f.path(name+".s"), "--cells", address, "--tls-dir", f.path("tls"), "--poll", "1h"))
		f.replicas[i].environment = []string{"SLUICE_DATABASE=" + f.database} // contains a password
	}
	if err := os.Symlink(f.path("replica-0.s"), f.path("s")); err != nil { // the socket that world.request uses
		t.Fatal(err)
	}
	return f
}

func (f *fleet) startReplicas() {
	f.t.Helper()
	for _, r := range f.replicas {
		r.start()
	}
	for i := range f.replicas {
		f.eventually(func() (string, bool) {
			err := f.getFrom(i, "/readyz", nil)
			return fmt.Sprintf("replica %d is not ready: %v", i, err), err == nil
		})
	}
}

// freePort returns an address on loopback where nothing listened just now.
func freePort(t *testing.T) string {
	t.Helper()
	free, err := ports.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", free[0])
}

// startAllCells starts the cells, which stop with the test or by stopCells.
func (f *fleet) startAllCells(o swarm.Options) {
	f.t.Helper()
	f.swarm = f.startCells(f.plane.Addresses, f.members, o).Swarm
}

// startCells starts some of the cells, which find the control plane at addresses, and stop with the test or by stop.
func (f *fleet) startCells(addresses []string, members []swarm.Member, o swarm.Options) *cellGroup {
	f.t.Helper()
	o.Plane, o.Members = swarm.ControlPlane{Addresses: addresses, Pins: f.plane.Pins}, members
	if o.ReportEvery == 0 {
		o.ReportEvery = 2 * time.Second
	}
	o.RetryCap = 2 * time.Second
	// All cells share this machine. Each of a thousand that began at once would be late with its first byte (R57).
	o.Dialing = 16
	s, err := swarm.New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(f.t.Context()))
	h := &cellGroup{Swarm: s, members: members, cancel: end}
	h.done.Go(func() { s.Run(ctx) })
	f.t.Cleanup(h.stop)
	f.groups = append(f.groups, h)
	return h
}

func (h *cellGroup) stop() {
	h.cancel()
	h.done.Wait()
}

func (f *fleet) stopCells() {
	for _, h := range f.groups {
		h.stop()
	}
}

// snapshots returns the state of all cells. For a cell that was started twice the later state counts.
func (f *fleet) snapshots() []swarm.Snapshot {
	var all []swarm.Snapshot
	seen := map[string]bool{}
	for _, h := range slices.Backward(f.groups) {
		for _, w := range h.Snapshots() {
			if !seen[w.Name] {
				seen[w.Name] = true
				all = append(all, w)
			}
		}
	}
	return all
}

// getFrom gets JSON, or text if into is a *string, from one replica.
func (f *fleet) getFrom(replica int, path string, into any) error {
	socket := f.path(fmt.Sprintf("replica-%d.s", replica))
	request, err := http.NewRequestWithContext(context.WithoutCancel(f.t.Context()), http.MethodGet,
		"http://sluice"+path, nil)
	if err != nil {
		return err
	}
	response, err := socketClient(socket).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || into == nil && response.StatusCode == http.StatusOK {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	if text, ok := into.(*string); ok {
		*text = string(body)
		return nil
	}
	return json.Unmarshal(body, into)
}

// findLeader returns the replica that leads; -1: none.
func (f *fleet) findLeader() int {
	for i, p := range f.replicas {
		var metrics string
		if p.cmd != nil && f.getFrom(i, "/metrics", &metrics) == nil && strings.Contains(metrics, "\nsluice_leader 1") {
			return i
		}
	}
	return -1
}

func (f *fleet) commitRelease(version string) {
	f.t.Helper()
	if _, err := f.repo.Commit(f.t.Context(), "cut "+version, swarm.ReleaseFiles(version, 2)); err != nil {
		f.t.Fatal(err)
	}
}

// countOn returns how many cells are healthy on a release, as they report.
func (f *fleet) countOn(version string) (n int) {
	for _, w := range f.snapshots() {
		if w.State == cells.StateHealthy && w.Running != nil && w.Running.Release == version {
			n++
		}
	}
	return n
}

// describeLagging describes one cell that is not healthy on a release: its own state, and what the control plane says
// of it.
func (f *fleet) describeLagging(version string) string {
	for _, w := range f.snapshots() {
		if w.State == cells.StateHealthy && w.Running != nil && w.Running.Release == version {
			continue
		}
		var all []string
		for i := range f.replicas {
			var why string
			err := f.getFrom(i, "/v1/why/"+w.Name, &why)
			all = append(all, fmt.Sprintf("replica %d: %s (%v)", i, why, err))
		}
		w.Pending = nil
		state, _ := json.Marshal(w)
		for _, h := range f.groups {
			all = append(all, fmt.Sprintf("%d cells: %+v, newest error: %v", len(h.members), h.Counts(),
				h.LastError()))
		}
		return fmt.Sprintf("%s: %s\n%s", w.Name, state, strings.Join(all, "\n"))
	}
	return ""
}

func (f *fleet) awaitSomeOn(version string, least int) {
	f.t.Helper()
	f.eventually(func() (string, bool) {
		n := f.countOn(version)
		return fmt.Sprintf("%d cells are on %s", n, version), n >= least
	})
}

func (f *fleet) awaitAllOn(version string) {
	f.t.Helper()
	wrong, done := f.await(func() (string, bool) {
		n := f.countOn(version)
		return fmt.Sprintf("%d of %d cells are healthy on %s", n, len(f.members), version), n == len(f.members)
	})
	if !done {
		f.t.Fatalf("still: %s, not %s\n%s", wrong, f.describeLagging(version), f.describe())
	}
}

// checkNothingLost stops the cells, and checks that all that was acknowledged to any cell is in the database: its
// state, and its events each once.
func (f *fleet) checkNothingLost() {
	f.t.Helper()
	f.stopCells()
	st, err := pgstore.Open(f.t.Context(), f.database, pgstore.Options{Log: zerolog.Nop()})
	if err != nil {
		f.t.Fatal(err)
	}
	defer st.Close()
	states, err := st.Cells(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	reports, events := int64(0), 0
	for _, w := range f.snapshots() {
		state := states[w.Name]
		if w.Acknowledged == nil || state == nil {
			f.t.Errorf("%s: acknowledged %v, kept %v", w.Name, w.Acknowledged != nil, state != nil)
			continue
		}
		if running := w.Acknowledged.Running; running != nil &&
			(state.Sequence < running.Sequence || state.Sequence == running.Sequence &&
				state.Digest != running.Digest) {
			f.t.Errorf("%s: it was acknowledged that it runs %s (%d), kept is %s (%d)", w.Name, running.Release,
				running.Sequence, state.Release, state.Sequence)
		}
		history, err := st.Events(f.t.Context(), w.Name, 1000)
		if err != nil {
			f.t.Fatal(err)
		}
		numbers := map[int64]int{}
		for _, e := range history {
			numbers[e.Number]++
		}
		for n := int64(1); n <= w.Confirmed; n++ {
			if numbers[n] != 1 {
				f.t.Errorf("%s: event %d of %d that were acknowledged is kept %d times", w.Name, n, w.Confirmed,
					numbers[n])
				break
			}
		}
		events += int(w.Confirmed)
	}
	for _, h := range f.groups {
		reports += h.Counts().Acknowledged
	}
	f.t.Logf("%d reports and %d events were acknowledged, and nothing of them is lost", reports, events)
	if reports == 0 || events == 0 {
		f.t.Error("nothing was acknowledged: the count proves nothing")
	}
}

// checkHeads checks that each channel got each release by one commit, in order, with sequences without a gap.
func (f *fleet) checkHeads(channels map[string][]string) {
	f.t.Helper()
	for _, channel := range slices.Sorted(maps.Keys(channels)) {
		if got := f.headSubjects(channel); !slices.Equal(got, channels[channel]) {
			f.t.Errorf("%s moved by %q, want %q", channel, got, channels[channel])
		}
		if want := fmt.Sprintf("sequence: %d",
			len(channels[channel])); !strings.Contains(f.readCommitted("channels/"+channel+"/head.yaml"), want) {
			f.t.Errorf("%s: head is %s, want %s", channel, f.readCommitted("channels/"+channel+"/head.yaml"), want)
		}
	}
	if out, err := exec.CommandContext(context.WithoutCancel(f.t.Context()), "git", "-C", f.world.repo, "fsck",
		"--full", "--strict").CombinedOutput(); err != nil { //nolint:gosec // a test's
		f.t.Errorf("fsck: %v: %s", err, out)
	}
}

const wavesPolicy = `apiVersion: sluice/v1
kind: Channel
after: [staging]
settleWithin: 1h
gates:
- soak: {for: 1s, percent: 90}
rollout:
  waves: [{percent: 10, soak: 1s}, {percent: 50, soak: 1s}, {percent: 100}]
  maxInFlight: 20
  stall: 10m
  failureBudget: 2
`

// TestReplicas checks faults 3, 4 and 11 for a fleet: during a rollout the leader is killed, then all sessions of the
// database. The rollout completes, each promotion is made once, and no acknowledged report is lost.
func TestReplicas(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 200, 20, 2, wavesPolicy)
	f.startAllCells(swarm.Options{Seed: 1, Apply: [2]time.Duration{100 * time.Millisecond, 600 * time.Millisecond}})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	f.commitRelease("1.0.1")
	f.awaitSomeOn("1.0.1", 30) // staging, and some of dedicated
	first := f.findLeader()
	if first < 0 {
		t.Fatal("no replica leads")
	}
	f.replicas[first].kill()
	killed := f.countOn("1.0.1")
	f.eventually(func() (string, bool) {
		n := f.countOn("1.0.1")
		return fmt.Sprintf("%d cells are on 1.0.1, %d were when the leader died", n, killed), n >= killed+20
	})
	second := f.findLeader()
	if second < 0 || second == first {
		t.Errorf("replica %d led and was killed, now %d leads", first, second)
	}
	if err := postgres.KillSessions(t.Context(), f.database); err != nil {
		t.Fatal(err)
	}
	broken := f.countOn("1.0.1")
	f.awaitAllOn("1.0.1")
	t.Logf("on 1.0.1 when the leader was killed: %d of 200; when the database's sessions were: %d", killed, broken)
	f.replicas[first].start()
	f.eventually(func() (string, bool) {
		return "the killed replica does not come back", f.getFrom(first, "/readyz", nil) == nil
	})
	f.checkHeads(map[string][]string{
		"staging":   {"promote 1.0.0 to staging", "promote 1.0.1 to staging"},
		"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.1 to dedicated"},
	})
	f.checkNothingLost()
}

// TestThousandCellsAndTheirControlPlane checks faults 4, 35 and 37 with two replicas and a thousand cells. The whole
// control plane is away while a release lands, and all cells come back at once. Each cell goes to the head directly,
// and nothing is lost.
func TestThousandCellsAndTheirControlPlane(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1000, 100, 2,
		"apiVersion: sluice/v1\nkind: Channel\nafter: [staging]\nsettleWithin: 1h\ngates:\n"+
			"- soak: {for: 1s, percent: 90}\n")
	f.startAllCells(swarm.Options{Seed: 2, Apply: [2]time.Duration{0, 300 * time.Millisecond},
		ReportEvery: 20 * time.Second})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	for _, r := range f.replicas {
		r.kill()
	}
	f.commitRelease("1.0.1")
	f.commitRelease("1.0.2")
	for _, r := range f.replicas {
		r.start()
	}
	f.awaitAllOn("1.0.2")
	for _, w := range f.snapshots() {
		for _, a := range w.Began {
			if a.Release == "1.0.1" {
				t.Fatalf("%s began 1.0.1, though 1.0.2 was there when the control plane came back", w.Name)
			}
		}
	}
	f.checkHeads(map[string][]string{
		"staging":   {"promote 1.0.0 to staging", "promote 1.0.2 to staging"},
		"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.2 to dedicated"},
	})
	f.checkNothingLost()
}

// TestBadReleaseStopsInTheFirstWave checks that a release that fails on 30 % of cells is stopped within the failure
// budget, rolled back and quarantined, and that no cell outside the opened wave ever gets it.
func TestBadReleaseStopsInTheFirstWave(t *testing.T) {
	t.Parallel()
	const all, wave, budget, inFlight = 100, 20, 2, 5
	f := newFleet(t, all, 0, 1, fmt.Sprintf(`apiVersion: sluice/v1
kind: Channel
rollout:
  waves: [{cells: %d, soak: 1s}, {percent: 100}]
  maxInFlight: %d
  failureBudget: %d
  stall: 10m
`, wave, inFlight, budget))
	f.startAllCells(swarm.Options{Seed: 3, Apply: [2]time.Duration{50 * time.Millisecond, 200 * time.Millisecond},
		Fails: map[string]float64{"1.0.1": 0.3}})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	f.commitRelease("1.0.1")
	f.eventually(func() (string, bool) {
		return "1.0.1 is not quarantined: " +
				f.readCommitted("channels/dedicated/head.yaml"), f.readCommitted("quarantine/1.0.1.yaml") != "" &&
				f.headRelease("dedicated") == "1.0.0"
	})
	f.awaitAllOn("1.0.0")
	f.stopCells()
	began, failed := 0, 0
	for _, w := range f.snapshots() {
		if slices.ContainsFunc(w.Began, func(a cells.Assignment) bool { return a.Release == "1.0.1" }) {
			began++
		}
		failed += len(w.Failures)
	}
	t.Logf("of %d cells %d began 1.0.1, %d failed on it", all, began, failed)
	if began > wave {
		t.Errorf("%d cells began the bad release, the first wave has %d", began, wave)
	}
	if failed <= budget || failed > budget+inFlight {
		t.Errorf("%d cells failed: the budget is %d, and at most %d update at once", failed, budget, inFlight)
	}
	if got := f.headSubjects("dedicated"); len(got) != 3 || !strings.HasPrefix(got[2], "roll back") {
		t.Errorf("dedicated moved by %q", got)
	}
}
