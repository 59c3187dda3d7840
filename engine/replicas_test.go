package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// replicas are engines on one store and one branch, in a bubble of virtual time. No cell reports by itself.
type replicas struct {
	t      *testing.T
	w      *World
	branch *branch
	a, b   *replica
}

type replica struct {
	*Engine
	store *memoryStore
	watch chan struct{}
	stop  func() // as if the process was asked to stop
}

func runReplicas(t *testing.T, w *World, f func(*replicas)) {
	synctest.Test(t, func(t *testing.T) {
		w.T, w.Now = t, time.Now()
		r := &replicas{t: t, w: w, branch: newBranch(w)}
		m := newMemoryStore()
		other := m.replica("b")
		r.a = r.start(m)
		synctest.Wait()
		r.b = r.start(other)
		synctest.Wait()
		f(r)
		r.a.stop()
		r.b.stop()
	})
}

func (r *replicas) start(m *memoryStore) *replica {
	ctx, cancel := context.WithCancel(r.t.Context())
	e, err := New(ctx, r.branch, m, Options{Log: zerolog.New(zerolog.NewTestWriter(r.t)).With().Str("replica",
		m.name).Logger(), Poll: 10 * time.Minute})
	if err != nil {
		r.t.Fatal(err)
	}
	one := &replica{Engine: e, store: m, watch: make(chan struct{}, 1)}
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx, one.watch); err != nil {
			r.t.Error(err)
		}
	})
	one.stop = func() {
		cancel()
		running.Wait()
	}
	return one
}

// push lands a commit, and notifies both replicas.
func (r *replicas) push(author, message string, files map[string]string) {
	r.branch.mu.Lock()
	r.w.Now = time.Now()
	r.w.Commit(author, message, files)
	r.branch.mu.Unlock()
	r.a.watch <- struct{}{}
	r.b.watch <- struct{}{}
	time.Sleep(time.Second)
	synctest.Wait()
}

// report makes a cell report to one replica that it runs its assignment.
func (r *replicas) report(to *replica, cell string, state cells.State) {
	r.t.Helper()
	d, _, ok := to.View().Cell(cell)
	if !ok {
		r.t.Fatalf("no cell %s", cell)
	}
	rep := cells.Report{Cell: cell, Boot: "b", Sent: time.Now(), State: state, Running: d.Assignment,
		Acknowledged: d.Assignment}
	if d.Assignment == nil {
		rep.State = cells.StatePending
	}
	if _, err := to.Receive(r.t.Context(), &rep); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// reportAll makes every cell report to one replica for a while.
func (r *replicas) reportAll(to *replica, d time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(30 * time.Second) {
		for _, name := range []string{"s1", "s2", "s3", "acme"} {
			if to.View().Desired.Cells[name] != nil {
				r.report(to, name, cells.StateHealthy)
			}
		}
	}
	synctest.Wait()
	checkPlan(r.t, r.a.View())
	checkPlan(r.t, r.b.View())
}

func (r *replicas) wantSameSoak(cell string) time.Duration {
	r.t.Helper()
	synctest.Wait()
	a, b := r.a.View().Observed.Cells[cell], r.b.View().Observed.Cells[cell]
	if a == nil || b == nil || a.Version != b.Version || a.Soaked != b.Soaked {
		r.t.Fatalf("%s is\n%+v\nat a, and\n%+v\nat b", cell, a, b)
	}
	return a.Soaked
}

// Fault 12: a leader that is cut off from the store stops before another begins, which is soon; reconnected, it only
// shows plans.
func TestSuccessorLeadsInTime(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		if !r.a.Leads() || r.b.Leads() {
			r.t.Fatalf("a leads: %v, b leads: %v", r.a.Leads(), r.b.Leads())
		}
		time.Sleep(2 * time.Minute)
		r.a.store.setReachable(false)
		cut := time.Now()
		for !r.b.Leads() {
			time.Sleep(100 * time.Millisecond)
			if r.a.Leads() && r.b.Leads() {
				r.t.Fatal("both lead")
			}
			if time.Since(cut) > 15*time.Second {
				r.t.Fatal("nobody leads 15 s after the leader was lost")
			}
		}
		r.reportAll(r.b, 2*time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		r.reportAll(r.b, 2*time.Minute)
		if got := r.b.View().Desired.Channels["staging"].Effective.Release; got != "1.1.0" {
			r.t.Fatalf("staging at %s", got)
		}
		r.a.store.setReachable(true)
		r.reportAll(r.a, time.Minute)
		if r.a.Leads() || !r.b.Leads() || r.branch.pushes != 1 {
			r.t.Errorf("a leads: %v, b leads: %v, %d pushes", r.a.Leads(), r.b.Leads(), r.branch.pushes)
		}
		if got := r.a.View().Desired.Channels["staging"].Effective.Release; got != "1.1.0" {
			r.t.Errorf("a shows %s", got)
		}
		if s := r.a.View().Observed.Cells["s1"]; s.Release != "1.1.0" {
			r.t.Errorf("a shows s1 at %s", s.Release)
		}
	})
}

// A leader that stops releases the lease: the other acts within a few seconds.
func TestLeaderResigns(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		time.Sleep(time.Minute)
		r.a.stop()
		time.Sleep(leaseInterval)
		synctest.Wait()
		if !r.b.Leads() {
			r.t.Fatal("b does not lead")
		}
		r.b.watch <- struct{}{}
		r.reportAll(r.b, time.Minute)
		if p := r.b.View().Plan; len(p.Actions) > 0 {
			r.t.Errorf("left undone: %s", Kinds(p))
		}
	})
}

// Fault 11: a deposed leader finds out by its next write, which does nothing and is no error.
func TestDeposedLeaderDoesNothing(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.reportAll(r.a, 2*time.Minute)
		a := r.a.store
		a.mu.Lock()
		a.holder, a.until = r.b.store, time.Now().Add(time.Hour) // b acquired it without a's knowledge
		a.sharedDatabase.term++
		a.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		r.a.NotifyPush()
		synctest.Wait()
		if r.a.Leads() || r.a.Unread() != nil {
			r.t.Errorf("a leads: %v, error %v", r.a.Leads(), r.a.Unread())
		}
	})
}

// R9: an illness that one replica saw between two healthy reports at another ends the soak.
func TestIllnessAtAnotherReplicaEndsSoak(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.reportAll(r.b, 10*time.Minute)
		if got := r.wantSameSoak("s1"); got < 8*time.Minute {
			r.t.Fatalf("soaked %s", got)
		}
		r.report(r.a, "s1", cells.StateUnhealthy)
		time.Sleep(10 * time.Second)
		r.report(r.b, "s1", cells.StateHealthy)
		if got := r.wantSameSoak("s1"); got != 0 {
			r.t.Errorf("soaked %s", got)
		}
		// The same holds if the update does not arrive.
		r.reportAll(r.b, 2*time.Minute)
		b := r.b.store
		b.mu.Lock()
		b.onUpdate = func(StoreUpdate) {}
		told := b.sharedDatabase.replicas
		b.sharedDatabase.replicas = nil
		b.mu.Unlock()
		r.report(r.a, "s1", cells.StateUnhealthy)
		r.report(r.b, "s1", cells.StateHealthy)
		b.mu.Lock()
		b.sharedDatabase.replicas, b.onUpdate = told, r.b.follower.handleUpdate
		b.mu.Unlock()
		r.b.follower.handleUpdate(StoreUpdate{All: true})
		r.a.follower.handleUpdate(StoreUpdate{All: true})
		time.Sleep(2 * time.Second)
		if got := r.wantSameSoak("s1"); got != 0 {
			r.t.Errorf("soaked %s, and nobody told b", got)
		}
	})
}

// R9: a cell that reports to changing replicas soaks exactly as long as it was watched.
func TestSoakGoesOnAcrossReplicas(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.reportAll(r.a, time.Minute)
		r.report(r.a, "s1", cells.StateHealthy)
		time.Sleep(2 * time.Second)
		s := r.wantSameSoak("s1")
		for range 10 {
			time.Sleep(20 * time.Second)
			r.report(r.b, "s1", cells.StateHealthy)
			time.Sleep(10 * time.Second)
			r.report(r.a, "s1", cells.StateHealthy)
		}
		time.Sleep(2 * time.Second) // reports that say nothing new may be gathered
		if got, waited := r.wantSameSoak("s1")-s, 10*30*time.Second+2*time.Second; got != waited {
			r.t.Errorf("soaked %s in %s", got, waited)
		}
	})
}

// R9: time in which a replica was down does not count; time counts again from its first report on.
func TestSoakPausesWhileNobodyListens(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.b.stop()
		r.reportAll(r.a, 5*time.Minute)
		before := r.a.View().Observed.Cells["s1"].Soaked
		r.a.stop()
		time.Sleep(2 * time.Minute)
		r.b = r.start(r.b.store)
		synctest.Wait()
		time.Sleep(30 * time.Second)
		r.report(r.b, "s1", cells.StateHealthy)
		if got := r.b.View().Observed.Cells["s1"].Soaked; got != before {
			r.t.Fatalf("soaked %s before and %s after nobody listened", before, got)
		}
		time.Sleep(30 * time.Second)
		r.report(r.b, "s1", cells.StateHealthy)
		time.Sleep(2 * time.Second)
		if got := r.b.View().Observed.Cells["s1"].Soaked; got != before+30*time.Second {
			r.t.Errorf("soaked %s, want %s more", got, 30*time.Second)
		}
		r.a = r.start(r.a.store)
		synctest.Wait()
	})
}

// Fault 14: if the store's clock differs, reports are in the store's time; beyond a minute, time decides nothing.
func TestStoreClockDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		off     time.Duration
		blocked bool
	}{"near": {20 * time.Second, false}, "far": {-2 * time.Minute, true}} {
		t.Run(name, func(t *testing.T) {
			runReplicas(t, TwoChannels(t), func(r *replicas) {
				s := r.a.store.sharedDatabase
				s.mu.Lock()
				s.clockOffset = c.off
				s.mu.Unlock()
				time.Sleep(time.Minute) // until the clock was measured
				r.report(r.a, "s1", cells.StateHealthy)
				got := time.Until(r.a.View().Observed.Cells["s1"].LastReport)
				if (got - c.off).Abs() > time.Second {
					r.t.Errorf("received %s from now, want %s", got, c.off)
				}
				if k := r.a.View().Observed.Clock.Store; k != c.off {
					r.t.Errorf("the clocks differ by %s, want %s", k, c.off)
				}
				v := r.a.View()
				if why := v.Observed.Clock.Doubt(); (why != "") != c.blocked {
					r.t.Errorf("blocked: %q", why)
				}
			})
		})
	}
}

// A hook may reach any replica: the leader fetches the branch at once, not at its next poll.
func TestHookAtAFollower(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.reportAll(r.a, time.Minute)
		r.branch.mu.Lock()
		r.w.Now = time.Now()
		r.w.Commit("bob", "cut", Release("1.1.0"))
		r.branch.mu.Unlock()
		if !r.a.Leads() {
			r.t.Fatal("a does not lead")
		}
		r.b.NotifyPush()
		synctest.Wait()
		if r.branch.pushes != 1 || r.a.View().Desired.Channels["staging"].Effective.Release != "1.1.0" {
			r.t.Errorf("%d pushes, staging at %+v", r.branch.pushes, r.a.View().Desired.Channels["staging"].Effective)
		}
		if got := r.b.View().Desired.Channels["staging"].Effective.Release; got != "1.1.0" {
			r.t.Errorf("b shows %s", got)
		}
		// The push could not be notified without a connection: the leader fetches when it reaches the store again.
		r.b.store.setReachable(false)
		r.branch.mu.Lock()
		r.w.Commit("bob", "cut", Release("1.2.0"))
		r.branch.mu.Unlock()
		r.b.NotifyPush()
		synctest.Wait()
		r.a.follower.handleUpdate(StoreUpdate{All: true})
		synctest.Wait()
		if d := r.a.View().Desired; d.Releases["1.2.0"] == nil {
			r.t.Errorf("a is at %s", d.Commit)
		}
		r.b.store.setReachable(true)
	})
}

// R29: a replica without contact to the store for 5 s can't know which cells were shut out.
func TestReplicaNoticesLostContact(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		time.Sleep(time.Minute)
		if err := errors.Join(r.a.CheckFresh(), r.b.CheckFresh()); err != nil {
			r.t.Fatal(err)
		}
		r.b.store.setReachable(false)
		time.Sleep(6 * time.Second)
		if r.b.CheckFresh() == nil || r.a.CheckFresh() != nil {
			r.t.Errorf("b: %v, a: %v", r.b.CheckFresh(), r.a.CheckFresh())
		}
		r.b.store.setReachable(true)
		time.Sleep(2 * time.Second)
		if err := r.b.CheckFresh(); err != nil {
			r.t.Error(err)
		}
		slow := func(yes bool) { // updates arrive, and can't be read
			r.b.store.mu.Lock()
			r.b.store.unreadable = yes
			r.b.store.mu.Unlock()
		}
		slow(true)
		time.Sleep(10 * time.Second)
		if err := r.b.CheckFresh(); err != nil {
			r.t.Error(err)
		}
		if err := r.a.ChangeIdentity(r.t.Context(), "s1", "ada", func(i *cells.Identity) {
			i.Revoked = true
		}); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if r.b.CheckFresh() == nil {
			r.t.Error("b does not know who was shut out, and answers")
		}
		slow(false)
		time.Sleep(time.Minute)
		if err := r.b.CheckFresh(); err != nil || !r.b.Roster().HasKey("s1") {
			r.t.Error(err)
		}
	})
}

// A Tick beside a running leader does nothing, and reports that.
func TestTickBesideALeader(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.reportAll(r.a, 2*time.Minute)
		r.b.stop()
		ctx := r.t.Context()
		e, err := New(ctx, r.branch, r.b.store, Options{})
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := e.Tick(ctx); err != nil || e.TickLed() || !r.a.Leads() {
			r.t.Errorf("led: %v, a leads: %v, %v", e.TickLed(), r.a.Leads(), err)
		}
		r.a.stop()
		r.branch.mu.Lock()
		r.w.Commit("bob", "cut", Release("1.1.0"))
		r.branch.mu.Unlock()
		if _, err := e.Tick(ctx); err != nil || !e.TickLed() || e.Leads() || r.branch.pushes != 1 {
			r.t.Errorf("led: %v, leads still: %v, %d pushes, %v", e.TickLed(), e.Leads(), r.branch.pushes, err)
		}
	})
}

// R14: slots are counted in the store, and end with their rollout, whichever replica learns of it and whichever leads.
func TestSlotsAcrossReplicas(t *testing.T) {
	runReplicas(t, One(t, "rollout: {maxInFlight: 1}\n"), func(r *replicas) {
		used := func() []string {
			s := r.a.store.sharedDatabase
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.obs.Slots["staging"]
		}
		r.reportAll(r.b, 2*time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		done := map[string]bool{}
		for i := range 20 {
			slots := used()
			if len(slots) > 1 {
				r.t.Fatalf("slots of %v in use", slots)
			}
			to := []*replica{r.a, r.b}[i%2]
			for _, name := range []string{"s1", "s2"} {
				r.report(to, name, cells.StateHealthy)
				done[name] = to.View().Observed.Cells[name].Release == "1.1.0"
			}
			if i == 1 {
				if r.a.Stats().Grants == 0 {
					r.t.Error("no grants were counted")
				}
				r.a.stop()
				time.Sleep(leaseInterval + time.Second)
				r.a = r.start(r.a.store)
			}
			time.Sleep(20 * time.Second)
		}
		if !done["s1"] || !done["s2"] || len(used()) != 0 || !r.b.Leads() {
			r.t.Errorf("done %v, slots of %v in use, b leads: %v", done, used(), r.b.Leads())
		}
	})
}
