package engine

import (
	"maps"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// R26: a restored store is older than git and the cells: nothing is promoted or granted until all cells have reported
// again, and sequences continue above all used ones.
func TestStoreRestored(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		s := r.a.store.sharedDatabase
		r.reportAll(r.a, 2*time.Minute)
		s.mu.Lock()
		backup, grants, decided := s.obs, maps.Clone(s.grants), maps.Clone(s.decided)
		backup.Cells, backup.Served = maps.Clone(backup.Cells), maps.Clone(backup.Served)
		s.mu.Unlock()
		for _, v := range []string{"1.1.0", "1.2.0"} {
			r.push("bob", "cut", Release(v))
			r.reportAll(r.a, 40*time.Minute)
		}
		before := r.a.View().Desired.Channels["staging"].Effective
		if before.Release != "1.2.0" {
			r.t.Fatalf("staging at %s", before.Release)
		}
		r.a.stop()
		r.b.stop()
		time.Sleep(10 * time.Minute) // all of the backup is stale
		s.mu.Lock()
		s.obs, s.grants, s.decided = backup, grants, decided
		s.mu.Unlock()
		r.branch.mu.Lock()
		r.w.Now = time.Now()
		r.w.Commit("bob", "cut", Release("1.3.0"))
		pushes := r.branch.pushes
		r.branch.mu.Unlock()
		r.a, r.b = r.start(r.a.store), r.start(r.b.store)
		time.Sleep(10 * time.Second)
		for _, cell := range []string{"s1", "acme"} { // not all
			rep := cells.Report{Cell: cell, Boot: "b", Sent: time.Now(), State: cells.StateHealthy}
			if _, err := r.a.Receive(r.t.Context(), &rep); err != nil {
				r.t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if r.branch.pushes != pushes {
			r.t.Errorf("%d pushes on what the backup says", r.branch.pushes-pushes)
		}
		leader := r.a
		if r.b.Leads() {
			leader = r.b
		}
		blocked := func() string {
			about, _ := leader.View().Plan.BlockedIn("staging")
			if len(about) == 0 {
				return ""
			}
			return about[0].Gate
		}
		if got := blocked(); got != "observing" {
			r.t.Errorf("blocked by %q", got)
		}
		r.reportAll(r.a, time.Minute) // s2 too
		if got := blocked(); got == "observing" {
			r.t.Error("all have reported, and it is waited for them")
		}
		r.reportAll(r.a, 2*time.Hour)
		if now := leader.View().Desired.Channels["staging"].Effective; now.Release != "1.3.0" ||
			now.Sequence <= before.Sequence {
			r.t.Errorf("staging at %s, sequence %d after %d", now.Release, now.Sequence, before.Sequence)
		}
	})
}
