package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

const byWaves = "rollout: {waves: [{cells: 1, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}], " +
	"maxInFlight: 3, failureBudget: 2}\n"

// R14: waves are cumulative, rounded up, and one after the other. A waiting cell's verdict says its place and when its
// wave can open.
func TestWaves(t *testing.T) {
	w := manyCells(t, 10, byWaves)
	first := w.Granted()
	if len(first) != 1 {
		t.Fatalf("the first wave is %v", first)
	}
	for _, b := range w.Plan().Blocked {
		if b.Gate != "wave" || !b.Until.IsZero() ||
			!strings.Contains(b.Reason, "; wave 1: 0 of 1 cell healthy on it, which is to soak for 30m") {
			t.Errorf("%+v", b)
		}
	}
	w.WaitWithout(10 * time.Minute)
	waves, s := map[string]int{}, w.Obs.Cells[first[0]]
	soaked := s.LastReport.Add(30*time.Minute - s.Soaked)
	for _, b := range w.Plan().Blocked {
		where, when, _ := strings.Cut(b.Reason, ", place")
		waves[where]++
		if !strings.Contains(when, "; wave 1 soaks until "+soaked.Format(time.RFC3339)) {
			t.Errorf("%+v, want until %s", b, soaked)
		}
		want := soaked
		if where == "in wave 3 of 3" {
			want = soaked.Add(2 * time.Hour) // a cell of the second wave begins only then
		}
		if !b.Until.Equal(want) {
			t.Errorf("%s: until %s, want %s", b.Reason, b.Until, want)
		}
	}
	if fmt.Sprint(waves) != "map[in wave 2 of 3:2 in wave 3 of 3:7]" {
		t.Errorf("who waits: %v", waves)
	}
	if got := w.Granted(); got != nil {
		t.Fatalf("granted %v while the first wave soaks", got)
	}
	w.WaitWithout(25 * time.Minute)
	if got := w.Granted(); len(got) != 2 { // 25 percent of 10 is 3
		t.Fatalf("the second wave is %v", got)
	}
	w.WaitWithout(2*time.Hour + 5*time.Minute)
	for all := 3; all < 10; all += 3 { // maxInFlight
		if got := w.Granted(); len(got) != min(3, 10-all) {
			t.Fatalf("after %d: %v", all, got)
		}
		w.WaitWithout(time.Minute)
	}
	w.WantActions("")
}

// R14: a wave that was through stays through. Cells that come back, join or turn unhealthy do not reopen it.
func TestWavesStayThrough(t *testing.T) {
	w := manyCells(t, 8, strings.Replace(byWaves, "maxInFlight: 3", "maxInFlight: 20", 1))
	first := w.Granted()
	w.WaitWithout(35 * time.Minute)
	second := w.Granted()
	if len(second) != 1 {
		t.Fatalf("the second wave is %v", second)
	}
	w.WaitWithout(2*time.Hour + 5*time.Minute)
	third := w.Granted()
	if len(third) != 6 {
		t.Fatalf("the third wave is %v", third)
	}
	w.Report(first[0], cells.StateUnhealthy)
	w.Commit("eve", "new", CellFiles("staging", "c98", "c99", "n1", "n2", "n3", "n4"))
	for _, name := range []string{"c98", "c99", "n1", "n2", "n3", "n4"} { // they run a release of another channel
		a := plan.Assign(w.Desired(), w.Desired().Cells[name], &w.Desired().Channels["staging"].History[0], nil)
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: &a})
	}
	if got := w.Granted(); len(got) != 6 {
		t.Errorf("with the last wave open, %v of 6 that came later got it", got)
	}
}

// R14: a cell that comes back later gets the head once the wave of its place is open, and not before.
func TestLatecomersWaitForTheirWave(t *testing.T) {
	w := manyCells(t, 8, byWaves)
	first := w.Granted()
	var late []string
	for name := range w.Obs.Cells {
		if name != first[0] {
			late = append(late, name)
		}
	}
	slices.Sort(late)
	late = late[:4]
	w.WaitWithout(20*time.Minute, late...)
	for _, name := range late {
		w.WantGate(name, "silent", "not heard from since")
		w.Report(name, cells.StateHealthy)
	}
	if got := w.Granted(); got != nil {
		t.Fatalf("%v got it in the first wave, which had its cell", got)
	}
	for _, name := range late {
		w.WantGate(name, "wave", "in wave ")
	}
}

// R14: a first wave whose cells are all silent, or all failed, is not through.
func TestFirstWaveNeedsAWitness(t *testing.T) {
	w := manyCells(t, 6, byWaves)
	first := w.Granted()
	w.ReportBegun(first[0]) // and falls silent before it has a result
	w.WaitWithout(10*time.Minute, first...)
	if got := w.Granted(); got != nil {
		t.Fatalf("%v got it though the first of all has had no result", got)
	}
	w.WaitWithout(25*time.Minute, first...) // beyond the stall limit, so it failed
	second := w.Granted()
	if len(second) != 1 {
		t.Fatalf("one failed: %v, want one in its place", second)
	}
	w.ReportFailed(second[0], "broken")
	if got := w.Granted(); len(got) != 1 {
		t.Fatalf("two failed, within the budget: %v, want one more", got)
	}
}

// Fault 51: granted cells that go offline before they begin don't count against the release. Other cells take their
// places.
func TestGrantedCellsOffline(t *testing.T) {
	w := manyCells(t, 9, "rollout: {maxInFlight: 3, failureBudget: 0}\n")
	away := w.Granted()
	if len(away) != 3 {
		t.Fatalf("granted %v", away)
	}
	w.WaitWithout(10*time.Minute, away...)
	for range 2 { // the offers lapse and free their slots
		if got := w.Granted(); len(got) != 3 {
			t.Fatalf("granted %v, want three in their places", got)
		}
		w.WaitWithout(2*time.Minute, away...)
	}
	w.WantActions("")
	w.WantHead("staging", "1.1.0")
	if failed := w.Progress("staging").Failed; len(failed) > 0 {
		t.Errorf("blamed for %v", failed)
	}
	w.Report(away[0], cells.StateHealthy) // back, on its old release
	if got := w.Granted(); fmt.Sprint(got) != fmt.Sprint(away[:1]) {
		t.Errorf("granted %v, want %s", got, away[0])
	}
}

// Fault 53, R18: once a window closes or a freeze begins in mid-rollout, no more cells begin. Cells that have begun go
// on.
func TestWindowClosesInMidRollout(t *testing.T) {
	w := manyCells(t, 6,
		"gates:\n  - window: {opens: \"0 9 * * *\", for: 1h}\n"+
			"freezes: [{from: 2026-11-24T08:00:00Z, until: 2026-11-24T09:30:00Z, reason: fair}]\n"+
			"rollout: {maxInFlight: 2}\n")
	for _, name := range w.Granted() {
		w.ReportBegun(name)
	}
	w.Now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for name, s := range w.Obs.Cells {
		if s.Applying == nil {
			w.Report(name, cells.StateHealthy)
		}
	}
	w.WantActions("")
	w.WantBlocked("staging", "window", "opens Tue 09:00")
	w.WaitWithout(time.Minute) // cells that began finish
	w.Now = time.Date(2026, 11, 24, 9, 10, 0, 0, time.UTC)
	w.WaitWithout(time.Minute)
	w.WantActions("")
	w.WantBlocked("staging", "freeze", "fair")
	w.Now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	w.WaitWithout(time.Minute)
	if got := w.Granted(); len(got) != 2 {
		t.Errorf("granted %v", got)
	}
}

// Fault 54, R26: after the database is lost in mid-rollout, nothing is granted until every cell has reported. Then the
// rollout ends as usual.
func TestDatabaseLostInMidRollout(t *testing.T) {
	w := manyCells(t, 8, byWaves)
	first := w.Granted()
	w.WaitWithout(35 * time.Minute)
	second := w.Granted()
	w.WaitWithout(time.Minute)
	running := map[string]*cells.Assignment{}
	for name, s := range w.Obs.Cells {
		running[name] = s.Running
	}
	w.Now = w.Now.Add(time.Minute)
	w.Obs = plan.Observed{
		Since: w.Now, ListeningSince: w.Now, Cells: map[string]*plan.CellState{}, Served: map[string]int64{},
		Refused: map[string]plan.Refusal{},
	}
	w.WantActions("")
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range running {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range names {
		w.WantActions("")
		w.WantBlockedOrIdle("staging", "observing")
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: running[name]})
	}
	if got := w.Granted(); got != nil {
		t.Fatalf("%v got it before the waves had soaked again", got)
	}
	w.WaitWithout(35 * time.Minute)
	if got := w.Granted(); got != nil { // the second wave has all its cells and soaks
		t.Fatalf("%v got it beyond %v and %v", got, first, second)
	}
	w.WaitWithout(2 * time.Hour)
	for range 3 {
		w.Granted()
		w.WaitWithout(2 * time.Minute)
	}
	w.Settle()
	for name, s := range w.Obs.Cells {
		if s.Release != "1.1.0" {
			t.Errorf("%s ends with %s", name, s.Release)
		}
	}
}

// Fault 56, R15: fifty cells that are added during the first wave get the finished head, and none gets the unproven
// one.
func TestNewcomersGetWhatIsProven(t *testing.T) {
	w := manyCells(t, 4, byWaves)
	first := w.Granted()
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w.Commit("eve", "fifty", CellFiles("staging", names...))
	for _, name := range names {
		w.ReportPending(name)
	}
	for range 29 { // while the first wave soaks
		for _, a := range w.Run().Actions {
			if a.Release != "1.0.0" {
				t.Fatalf("%v of %s, which only %v has", a.Cells, a.Release, first)
			}
		}
		w.WaitWithout(time.Minute)
	}
	for _, name := range names {
		if got := w.Obs.Cells[name].Release; got != "1.0.0" {
			t.Errorf("%s has %q", name, got)
		}
	}
}

// R15: while no head is finished yet, newcomers join the rollout, by its waves.
func TestNewcomersJoinTheFirstRollout(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", byWaves), CellFiles("staging", "a", "b", "c", "d")))
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	for _, name := range []string{"a", "b", "c", "d"} {
		w.ReportPending(name)
	}
	if got := w.Granted(); len(got) != 1 {
		t.Fatalf("granted %v", got)
	}
	w.WaitWithout(10 * time.Minute)
	w.WantActions("")
}

// Fault 58, R2: a cell that moves from a channel at sequence 120 to one at 8 gets the head under a higher epoch, when
// its wave opens.
func TestMovedFromAHigherSequence(t *testing.T) {
	w := manyCells(t, 4, byWaves, Policy("other", "promote: manual\n"), Head("other", "1.0.0"),
		CellFiles("other", "mover"))
	first := w.Granted()
	a := cells.Assignment{Channel: "other", Sequence: 120, Release: "1.0.0", Digest: w.Digest("1.0.0")}
	w.Obs.Cells["mover"] = w.Receive(nil, cells.Report{Cell: "mover", State: cells.StateHealthy, Running: &a})
	w.Commit("eve", "move", CellFiles("staging", "mover"))
	w.WantActions("")
	w.WantGate("mover", "wave", "in wave ")
	w.WaitWithout(35*time.Minute, first...)
	w.Report(first[0], cells.StateHealthy)
	for range 40 {
		w.Run()
		w.WaitWithout(5 * time.Minute)
	}
	got := w.Obs.Cells["mover"].Running
	if got.Release != "1.1.0" || got.Epoch != 1 || got.Sequence != w.Desired().Channels["staging"].Effective.Sequence {
		t.Errorf("mover runs %+v", got)
	}
}

// Fault 60, R35: events that arrive a week late don't touch today's failure budget, since only the state counts.
func TestOldEventsTouchNoBudget(t *testing.T) {
	w := manyCells(t, 3, "rollout: {failureBudget: 0}\n")
	w.Granted()
	w.WaitWithout(time.Minute)
	s := w.Obs.Cells["c00"]
	old := cells.Assignment{Channel: "staging", Sequence: 7, Release: "1.0.0", Digest: w.Digest("1.0.0")}
	r := cells.Report{
		Cell: "c00", Boot: "b", State: cells.StateHealthy, Running: s.Running,
		Failures: []cells.Failure{{Assignment: old, Reason: "last week", At: w.Now.Add(-7 * 24 * time.Hour)}},
	}
	for i := range 20 {
		r.Events = append(r.Events, cells.Event{
			Number: int64(i + 1), At: w.Now.Add(-7 * 24 * time.Hour), Kind: "failed", Release: "1.1.0",
			Digest: string(s.Digest),
		})
	}
	w.Obs.Cells["c00"] = w.Receive(s, r)
	w.Settle()
	w.WantHead("staging", "1.1.0")
}

// R21: a quarantine in mid-rollout stops the rollout, and rolls the channel back if onFailure is rollback.
func TestQuarantineInMidRollout(t *testing.T) {
	for onFailure, want := range map[string]string{"rollback": "rollback 1.0.0 staging", "halt": ""} {
		w := manyCells(t, 6, "onFailure: "+onFailure+"\nrollout: {maxInFlight: 2}\n")
		had := w.Granted()
		w.WaitWithout(time.Minute)
		w.Commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
		w.WantActions(want)
		if want == "" {
			w.WantBlocked("staging", "quarantine", "leaks")
			continue
		}
		p := w.Run()
		if len(p.Actions) != 1 || len(p.Actions[0].Cells) != 6 ||
			fmt.Sprint(slotTakers(p.Actions[0], 2)) != fmt.Sprint(had) {
			t.Errorf("%s with slots %v: want all to get 1.0.0, with slots for %v", Kinds(p),
				slotTakers(p.Actions[0], 2), had)
		}
	}
}

// R18: what a cell's owner decided binds every grant, rollbacks too. Other cells go on, and the wave does not wait for
// the cell.
func TestOwnersDecide(t *testing.T) {
	night := []window.Window{{Opens: "0 2 * * *", For: time.Hour}}
	for name, tt := range map[string]struct {
		owner        *cells.Owner
		gate, reason string
	}{
		"pause":    {&cells.Owner{Paused: "audit"}, "owner", "paused by the cell's owner: audit"},
		"pin":      {&cells.Owner{Pin: "1.0.0"}, "owner", "pinned to 1.0.0"},
		"approval": {&cells.Owner{Approval: true}, "owner", "waits for the approval"},
		"window":   {&cells.Owner{Windows: night}, "owner", "opens Tue 02:00"},
	} {
		t.Run(name, func(t *testing.T) {
			w := manyCells(t, 3, "rollout: {waves: [{cells: 2}, {percent: 100}]}\n")
			w.SetOwnerDecision("c00", tt.owner)
			if got := w.Granted(); fmt.Sprint(got) != "[c01 c02]" {
				t.Fatalf("granted %v", got)
			}
			v := w.WantGate("c00", tt.gate, tt.reason)
			if name == "window" && !v.Until.Equal(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)) {
				t.Errorf("until %s", v.Until)
			}
			why, _ := view.Why(&view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}, "c00", time.Time{})
			if !strings.Contains(strings.Join(why.Lines, "\n"), "its owner ") {
				t.Errorf("why: %v", why.Lines)
			}
			w.WaitWithout(time.Minute, "c00")
			w.SetOwnerDecision("c00", &cells.Owner{Approval: true, Approved: []releases.Digest{w.Digest("1.1.0")}})
			if got := w.Granted(); fmt.Sprint(got) != "[c00]" {
				t.Errorf("granted %v", got)
			}
		})
	}
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.SetOwnerDecision("s1", &cells.Owner{Paused: "audit"})
	w.RequestRelease("staging", "1.0.0")
	w.WantActions("rollback 1.0.0 staging")
	w.WantActions("grant 1.0.0 staging s2")
	w.WantGate("s1", "owner", "audit")
}

// R18: what the vendor decided about one cell binds its grants, but no rollback.
func TestVendorHoldsSingleCells(t *testing.T) {
	cell := "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n"
	for _, tt := range []struct {
		name, file, text, gate, reason string
	}{
		{"paused", "cells/c00/cell.yaml", cell + "paused: their audit\n", "paused", "their audit"},
		{"pin", "cells/c00/cell.yaml", cell + "pin: 1.0.0\n", "pin", "pinned to 1.0.0"},
		{
			"window", "cells/c00/cell.yaml", cell + "windows: [{opens: \"0 2 * * *\", for: 1h}]\n", "window",
			"opens Tue 02:00",
		},
		{"hold", "channels/staging/holds/fair.yaml", "reason: a fair\ncells: [c00]\n", "hold", "a fair (fair)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := manyCells(t, 3, "rollout: {waves: [{cells: 2}, {percent: 100}]}\n")
			w.Commit("eve", tt.name, map[string]string{tt.file: tt.text})
			if got := w.Granted(); fmt.Sprint(got) != "[c01 c02]" {
				t.Fatalf("granted %v", got)
			}
			w.WantGate("c00", tt.gate, tt.reason)
			w.Commit("eve", "end", map[string]string{
				tt.file: map[bool]string{true: cell}[strings.HasPrefix(tt.file, "cells/")],
			})
			w.WaitWithout(time.Minute)
			if got := w.Granted(); fmt.Sprint(got) != "[c00]" {
				t.Fatalf("granted %v", got)
			}
			w.InstallAll()
			w.Commit("eve", tt.name, map[string]string{tt.file: tt.text})
			w.RequestRelease("staging", "1.0.0")
			w.WantActions("rollback 1.0.0 staging")
			w.WantActions("grant 1.0.0 staging c00+c01+c02")
		})
	}
}

// A hold on cells stops no promotion.
func TestHoldOnCellsStopsNoPromotion(t *testing.T) {
	w := One(t, "")
	w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\ncells: [s1, s2]\n"})
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("")
}

// R14: a cell uses a slot from its grant until its result, whatever head the grant was for. Success, failure, the stall
// limit and a lapse free the slot; a new head does not.
func TestSlotsOutliveHeads(t *testing.T) {
	w := manyCells(t, 6, "advance: newest\nrollout: {maxInFlight: 2, failureBudget: 5, stall: 20m}\n")
	old := w.Granted()
	for _, name := range old {
		w.ReportBegun(name)
	}
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("promote 1.2.0 staging")
	p := w.Run()
	if len(p.Actions) != 1 || fmt.Sprint(p.Actions[0].Cells) != fmt.Sprint(old) ||
		len(slotTakers(p.Actions[0], 2)) != 0 {
		t.Fatalf("%s, slots %v: want the two with a slot, and no new ones", Kinds(p), slotTakers(p.Actions[0], 2))
	}
	for name := range w.Obs.Cells {
		if !slices.Contains(old, name) {
			w.WantGate(name, "maxInFlight", "place ")
		}
	}
	w.ReportFailed(old[0], "broken")
	p = w.Run()
	if len(p.Actions) != 1 || len(slotTakers(p.Actions[0], 2)) != 1 {
		t.Fatalf("%s: want one in the place of %s", Kinds(p), old[0])
	}
	next := p.Actions[0].Cells[0]
	w.Report(next, cells.StateHealthy)
	if p = w.Run(); len(p.Actions) != 1 || len(slotTakers(p.Actions[0], 2)) != 1 {
		t.Fatalf("%s: want one in the place of %s", Kinds(p), next)
	}
}

// A plan frees the store's slots that have ended, also those of channels that no longer exist.
func TestSlotsThatEnded(t *testing.T) {
	w := manyCells(t, 3, "rollout: {maxInFlight: 2}\n")
	had := w.Granted()
	w.Obs.Slots = map[string][]string{"staging": slices.Clone(had), "gone": {"x"}}
	if got := fmt.Sprint(w.Plan().Learned.Freed); got != "[{gone [x]}]" {
		t.Errorf("freed %s", got)
	}
	w.Report(had[0], cells.StateHealthy)
	w.Obs.Slots["staging"] = append(w.Obs.Slots["staging"], "nobody")
	if got, want := fmt.Sprint(w.Plan().Learned.Freed), fmt.Sprintf("[{staging [%s nobody]} {gone [x]}]",
		had[0]); got != want {
		t.Errorf("freed %s, want %s", got, want)
	}
}

// A person opens the next wave of one head. That skips its soak, but neither holds, nor slots, nor the next head's
// waves.
func TestSkipWave(t *testing.T) {
	w := manyCells(t, 8, strings.Replace(byWaves, "maxInFlight: 3", "maxInFlight: 2", 1))
	first := w.Granted()
	w.WaitWithout(time.Minute)
	e := w.Desired().Channels["staging"].Effective
	skip := map[string]string{fmt.Sprintf("channels/staging/skips/%d.yaml",
		e.Sequence): "wave: 3\nreason: urgent\nby: ada\n"}
	w.Commit("ada", "skip", Union(skip, map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"}))
	w.WantActions("")
	w.WantBlocked("staging", "hold", "wait")
	w.Unhold()
	if got := w.Granted(); len(got) != 2 {
		t.Fatalf("granted %v after %v, want two: maxInFlight", got, first)
	}
	for range 5 {
		w.WaitWithout(time.Minute)
		w.Run()
	}
	p := w.Progress("staging")
	if !p.Finished || p.Healthy != 8 || p.SkippedTo != 3 {
		t.Errorf("%+v", p)
	}
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("promote 1.2.0 staging")
	if p := w.Run(); len(p.Actions) != 1 || len(p.Actions[0].Cells) != 1 {
		t.Errorf("%s: want one cell, by the new head's waves", Kinds(p))
	}
}

// A skip of a head that does not exist is a warning that names the file.
func TestSkipOfNothing(t *testing.T) {
	w := manyCells(t, 2, byWaves)
	w.Commit("ada", "skip", map[string]string{
		"channels/staging/skips/99.yaml": "wave: 2\nreason: x\n",
		"channels/staging/holds/x.yaml":  "reason: x\ncells: [nobody]\n",
	})
	var got []string
	for _, f := range w.Desired().AllFaults() {
		got = append(got, f.String())
	}
	want := []string{
		"channels/staging/holds/x.yaml:1: warning: holds nobody, which is no cell of staging",
		"channels/staging/skips/99.yaml:1: warning: staging has no head with sequence 99 yet",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// R5, R14: a head that is written anew, because the branch lost another, goes on by its waves.
func TestRestatedHeadKeepsItsWaves(t *testing.T) {
	w := manyCells(t, 6, byWaves)
	first := w.Granted()
	s := w.Obs.Cells[first[0]]
	lost := *s.Granted
	lost.Sequence += 3
	w.Obs.Cells[first[0]] = plan.WithGrant(s, plan.Granted{Cell: first[0], Assignment: lost, At: w.Now})
	w.Obs.Served["staging"] = lost.Sequence
	w.WantActions("rollback 1.1.0 staging")
	if got := w.Granted(); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("granted %v, want %v: the wave has one cell", got, first)
	}
}

// R14: the first wave's labels choose its cells. While none of these is in contact, one other cell stands in.
func TestLabelledWave(t *testing.T) {
	canary := map[string]string{
		"cells/c03/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nlabels: {canary: \"yes\"}\n",
	}
	text := "rollout: {waves: [{labels: {canary: \"yes\"}, soak: 10m}, {percent: 100}]}\n"
	w := manyCells(t, 5, text, canary)
	if got := w.Granted(); fmt.Sprint(got) != "[c03]" {
		t.Errorf("granted %v", got)
	}
	w = manyCells(t, 5, text, canary)
	w.WaitWithout(6*time.Minute, "c03")
	if got := w.Granted(); len(got) != 1 || got[0] == "c03" {
		t.Errorf("granted %v", got)
	}
}

// R14: while no cell is in contact no wave is through. Cells that come back begin with the first.
func TestNoWaveIsThroughWithoutCells(t *testing.T) {
	w := manyCells(t, 6, byWaves)
	w.Now = w.Now.Add(10 * time.Minute)
	for range 3 {
		w.WantActions("")
	}
	if got := w.Obs.Learned.Waves; len(got) > 0 {
		t.Fatalf("through on nobody's word: %v", got)
	}
	w.WaitWithout(time.Minute)
	if got := w.Granted(); len(got) != 1 {
		t.Errorf("granted %v", got)
	}
}

// R14: cells that only wait for their owner's window are eligible, so wave sizes include them.
func TestWavesCountThoseOutsideTheirWindows(t *testing.T) {
	w := manyCells(t, 12, "rollout: {waves: [{cells: 1, soak: 10m}, {percent: 50, soak: 10m}, {percent: 100}]}\n")
	night := &cells.Owner{Windows: []window.Window{{Opens: "0 2 * * *", For: 2 * time.Hour}}}
	pass := func(d time.Duration) {
		for end := w.Now.Add(d); w.Now.Before(end); {
			w.Now = w.Now.Add(time.Minute)
			for name, s := range w.Obs.Cells {
				r := cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: cells.StateHealthy, Running: s.Last()}
				if name > "c01" {
					r.Owner = night
				}
				w.Obs.Cells[name] = w.Receive(s, r)
			}
			w.Settle()
		}
	}
	on := func() (n int) {
		for _, s := range w.Obs.Cells {
			if s.Release == "1.1.0" {
				n++
			}
		}
		return n
	}
	pass(0)
	for name := range w.Obs.Cells {
		if name > "c01" {
			w.SetOwnerDecision(name, night)
		}
	}
	pass(time.Hour)
	if n := on(); n != 2 {
		t.Fatalf("%d cells run it in the day, want the two without a window", n)
	}
	if p := w.Progress("staging"); p.Wave != 2 || p.Waves[1].Cells != 6 || p.Finished {
		t.Errorf("%+v", p)
	}
	w.Now = time.Date(2026, 11, 24, 1, 59, 0, 0, time.UTC)
	pass(5 * time.Minute)
	if n := on(); n != 6 {
		t.Errorf("%d cells run it as the windows open, want half of all", n)
	}
	pass(30 * time.Minute)
	if n := on(); n != 12 {
		t.Errorf("%d cells run it in the end", n)
	}
}
