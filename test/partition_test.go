package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/postgres"
	"github.com/sluice-cd/sluice/test/swarm"
)

// rollingPolicy gives cells a release a few at a time.
const rollingPolicy = `apiVersion: sluice/v1
kind: Channel
settleWithin: 1h
rollout:
  waves: [{percent: 10, soak: 1s}, {percent: 100}]
  maxInFlight: 8
  stall: 10m
  failureBudget: 2
`

// isLeader reports whether a replica claims to lead.
func (f *fleet) isLeader(replica int) bool {
	var metrics string
	return f.replicas[replica].cmd != nil && f.getFrom(replica, "/metrics", &metrics) == nil &&
		strings.Contains(metrics, "\nsluice_leader 1")
}

// requestDesired asks one replica, as one of the cells, what is desired.
func (f *fleet) requestDesired(cell, replica int) (status int, err error) {
	dialer, err := swarm.NewDialer(f.plane, f.members[cell:cell+1])
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	link, err := dialer.Dial(ctx, 0, replica)
	if err != nil {
		return 0, err
	}
	defer link.Close()
	head, _, err := link.RoundTrip(10*time.Second, http.MethodGet, "/v1/desired", "", nil)
	return head.Status, err
}

// Fault 12: the leader is cut off from the database during a rollout. It stops leading before its lease can have
// expired, so that there are never two leaders, and answers cells 503, since it can't know which cells are shut out
// (R29). The other replica leads and the rollout continues. Once the link is restored one of them leads, each promotion
// was made once, and no acknowledged report is lost.
func TestLeaderIsCutOffFromItsDatabase(t *testing.T) {
	t.Parallel()
	f := makeFleet(t, 60, 0, 2, rollingPolicy)
	var links []*postgres.Link
	for _, r := range f.replicas {
		through, link := postgres.NewLink(t, f.database)
		r.environment = []string{"SLUICE_DATABASE=" + through}
		links = append(links, link)
	}
	f.startReplicas()
	f.startAllCells(swarm.Options{Seed: 3, Apply: [2]time.Duration{100 * time.Millisecond, 300 * time.Millisecond}})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	f.commitRelease("1.0.1")
	f.awaitSomeOn("1.0.1", 8)
	old := f.findLeader()
	if old < 0 {
		t.Fatal("no replica leads")
	}
	other := 1 - old
	links[old].Cut()
	begun := time.Now()
	var shut, stopped, succeeded time.Duration
	f.eventually(func() (string, bool) {
		otherLeads := f.isLeader(other) // asked first: if it leads now, the old leader must have stopped before
		oldLeads := f.isLeader(old)
		if otherLeads && oldLeads {
			t.Error("two replicas lead at once")
		}
		recordElapsed(&stopped, begun, !oldLeads)
		recordElapsed(&succeeded, begun, otherLeads)
		if shut == 0 {
			status, _ := f.requestDesired(0, old)
			recordElapsed(&shut, begun, status == http.StatusServiceUnavailable)
		}
		return fmt.Sprintf("since it was cut off: 503 after %s, stopped after %s, another leads after %s",
			shut, stopped, succeeded), shut > 0 && stopped > 0 && succeeded > 0
	})
	t.Logf(
		"cut off from the database, the leader answers cells 503 after %s and stops after %s; another leads after %s",
		shut.Round(time.Millisecond), stopped.Round(time.Millisecond), succeeded.Round(time.Millisecond))
	if succeeded > 25*time.Second { // fault 12 says 15 s, on an idle machine
		t.Errorf("a successor leads after %s", succeeded)
	}
	if status, err := f.requestDesired(0, other); status != http.StatusOK {
		t.Errorf("the other replica answers %d %v", status, err)
	}
	f.awaitAllOn("1.0.1")
	links[old].Restore()
	f.eventually(func() (string, bool) {
		err := f.getFrom(old, "/readyz", nil)
		return fmt.Sprintf("the replica that was cut off does not come back: %v", err), err == nil
	})
	f.eventually(func() (string, bool) {
		status, err := f.requestDesired(0, old)
		return fmt.Sprintf("the replica that was cut off answers %d %v", status, err), status == http.StatusOK
	})
	f.commitRelease("1.0.2")
	f.awaitAllOn("1.0.2")
	if otherLeads, oldLeads := f.isLeader(other), f.isLeader(old); otherLeads == oldLeads {
		t.Errorf("of two replicas %v and %v lead", otherLeads, oldLeads)
	}
	f.checkHeads(map[string][]string{"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.1 to dedicated",
		"promote 1.0.2 to dedicated"}})
	f.checkNothingLost()
}

// recordElapsed records the time since begun when a condition first holds.
func recordElapsed(took *time.Duration, begun time.Time, now bool) {
	if now && *took == 0 {
		*took = time.Since(begun)
	}
}

// Faults 13 and 35: the git host is away, and cells are served nevertheless. Cells that were silent come back to the
// assignments that they had. What people commit meanwhile takes effect in order once the host is back.
func TestGitHostIsAway(t *testing.T) {
	t.Parallel()
	f := makeFleet(t, 60, 0, 2, entryPolicy)
	for _, r := range f.replicas {
		r.args = append(r.args, "--poll", "1s")
	}
	f.startReplicas()
	early := f.startCells(f.plane.Addresses, f.members[:40], swarm.Options{Seed: 4})
	late := f.startCells(f.plane.Addresses, f.members[40:], swarm.Options{Seed: 4})
	f.commitRelease("1.0.0")
	f.awaitAllOn("1.0.0")
	late.stop()

	away := f.world.repo + ".away"
	if err := os.Rename(f.world.repo, away); err != nil {
		t.Fatal(err)
	}
	f.repo.Dir = away // people continue to commit
	f.commitRelease("1.0.1")
	f.eventually(func() (string, bool) {
		return "no replica notices that the git host is away", strings.Contains(f.processLog("replica-0"),
			"tick failed") &&
			strings.Contains(f.processLog("replica-1"), "tick failed")
	})
	reports := early.Counts().Acknowledged
	again := f.startCells(f.plane.Addresses, f.members[40:], swarm.Options{Seed: 4, Resume: late.Snapshots()})
	f.eventually(func() (string, bool) {
		c, n := again.Counts(), early.Counts().Acknowledged-reports
		return fmt.Sprintf("without the git host %d reports were acknowledged, %d of cells that came back: %v",
				n, c.Acknowledged, again.LastError()),
			n >= 80 && c.Acknowledged >= 20 && c.Connected == 20
	})
	for i := range f.replicas {
		if status, err := f.requestDesired(0, i); status != http.StatusOK {
			t.Errorf("without the git host replica %d answers %d %v", i, status, err)
		}
	}
	for _, w := range f.snapshots() {
		if w.Desired == nil || w.Desired.Assignment == nil || w.Desired.Assignment.Release != "1.0.0" {
			t.Errorf("without the git host %s is assigned %+v", w.Name, w.Desired)
		}
	}
	f.commitRelease("1.0.2")
	if err := os.Rename(away, f.world.repo); err != nil {
		t.Fatal(err)
	}
	f.repo.Dir = f.world.repo
	f.awaitAllOn("1.0.2")
	f.checkHeads(map[string][]string{"dedicated": {"promote 1.0.0 to dedicated", "promote 1.0.2 to dedicated"}})
	f.checkNothingLost()
}
