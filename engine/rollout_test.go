package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

const byWaves = "rollout: {waves: [{cells: 1, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}], maxInFlight: 3, failureBudget: 2}\n"

// R14: waves are cumulative, rounded up, and one after the other; what waits says where it is and when it can be.
func TestWaves(t *testing.T) {
	w := many(t, 10, byWaves)
	first := w.granted()
	if len(first) != 1 {
		t.Fatalf("the first wave is %v", first)
	}
	for _, b := range w.plan().Blocked {
		if b.Gate != "wave" || !b.Until.IsZero() || !strings.Contains(b.Reason, "; wave 1: 0 of 1 cell healthy on it, which is to soak for 30m") {
			t.Errorf("%+v", b)
		}
	}
	w.others(10 * time.Minute)
	waves, s := map[string]int{}, w.obs.Cells[first[0]]
	soaked := s.LastReport.Add(30*time.Minute - s.Soaked)
	for _, b := range w.plan().Blocked {
		where, when, _ := strings.Cut(b.Reason, ", place")
		waves[where]++
		if !strings.Contains(when, "; wave 1 soaks until "+soaked.Format(time.RFC3339)) {
			t.Errorf("%+v, want until %s", b, soaked)
		}
		want := soaked
		if where == "in wave 3 of 3" {
			want = soaked.Add(2 * time.Hour) // somebody in the second wave begins only then
		}
		if !b.Until.Equal(want) {
			t.Errorf("%s: until %s, want %s", b.Reason, b.Until, want)
		}
	}
	if fmt.Sprint(waves) != "map[in wave 2 of 3:2 in wave 3 of 3:7]" {
		t.Errorf("who waits: %v", waves)
	}
	if got := w.granted(); got != nil {
		t.Fatalf("granted %v while the first wave soaks", got)
	}
	w.others(25 * time.Minute)
	if got := w.granted(); len(got) != 2 { // 25 percent of 10 is 3
		t.Fatalf("the second wave is %v", got)
	}
	w.others(2*time.Hour + 5*time.Minute)
	for all := 3; all < 10; all += 3 { // maxInFlight
		if got := w.granted(); len(got) != min(3, 10-all) {
			t.Fatalf("after %d: %v", all, got)
		}
		w.others(time.Minute)
	}
	w.wantActions("")
}

// R14: a wave once through stays through: neither who comes back nor a new cell nor one that falls ill opens it again.
func TestWavesStayThrough(t *testing.T) {
	w := many(t, 8, strings.Replace(byWaves, "maxInFlight: 3", "maxInFlight: 20", 1))
	first := w.granted()
	w.others(35 * time.Minute)
	second := w.granted()
	if len(second) != 1 {
		t.Fatalf("the second wave is %v", second)
	}
	w.others(2*time.Hour + 5*time.Minute)
	third := w.granted()
	if len(third) != 6 {
		t.Fatalf("the third wave is %v", third)
	}
	w.report(first[0], cells.StateUnhealthy)
	w.commit("eve", "new", cellFiles("staging", "c98", "c99", "n1", "n2", "n3", "n4"))
	for _, name := range []string{"c98", "c99", "n1", "n2", "n3", "n4"} { // they bring something from elsewhere
		a := Assign(w.desired(), w.desired().Cells[name], &w.desired().Channels["staging"].History[0], nil)
		w.obs.Cells[name] = w.receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: &a})
	}
	if got := w.granted(); len(got) != 6 {
		t.Errorf("with the last wave open, %v of 6 that came later got it", got)
	}
}

// R14: who comes back later gets the head if its place's wave is open, and not before.
func TestLatecomersWaitForTheirWave(t *testing.T) {
	w := many(t, 8, byWaves)
	first := w.granted()
	var late []string
	for name := range w.obs.Cells {
		if name != first[0] {
			late = append(late, name)
		}
	}
	slices.Sort(late)
	late = late[:4]
	w.others(20*time.Minute, late...)
	for _, name := range late {
		w.wantGate(name, "silent", "not heard of since")
		w.report(name, cells.StateHealthy)
	}
	if got := w.granted(); got != nil {
		t.Fatalf("%v got it in the first wave, which had its cell", got)
	}
	for _, name := range late {
		w.wantGate(name, "wave", "in wave ")
	}
}

// R14: a first wave whose cells are all silent, or all failed, is not through on nobody's word.
func TestFirstWaveNeedsAWitness(t *testing.T) {
	w := many(t, 6, byWaves)
	first := w.granted()
	w.begins(first[0]) // and falls silent before it has any result
	w.others(10*time.Minute, first...)
	if got := w.granted(); got != nil {
		t.Fatalf("%v got it though the first of all has had no result", got)
	}
	w.others(25*time.Minute, first...) // beyond the stall limit: it failed
	second := w.granted()
	if len(second) != 1 {
		t.Fatalf("one failed: %v, want one in its place", second)
	}
	w.others(time.Minute, first...)
	w.fails(second[0], "broken")
	if got := w.granted(); len(got) != 1 {
		t.Fatalf("two failed, within the budget: %v, want one more", got)
	}
}

// Fault 51: granted cells that go offline before they begin don't count against the release; others take their places.
func TestGrantedCellsOffline(t *testing.T) {
	w := many(t, 9, "rollout: {maxInFlight: 3, failureBudget: 0}\n")
	away := w.granted()
	if len(away) != 3 {
		t.Fatalf("granted %v", away)
	}
	w.others(10*time.Minute, away...)
	for range 2 { // the offers lapse, and their slots are free
		if got := w.granted(); len(got) != 3 {
			t.Fatalf("granted %v, want three in their places", got)
		}
		w.others(2*time.Minute, away...)
	}
	w.wantActions("")
	w.wantHead("staging", "1.1.0")
	if failed := w.progress("staging").Failed; len(failed) > 0 {
		t.Errorf("blamed for %v", failed)
	}
	w.report(away[0], cells.StateHealthy) // back, with what it ran before
	if got := w.granted(); fmt.Sprint(got) != fmt.Sprint(away[:1]) {
		t.Errorf("granted %v, want %s", got, away[0])
	}
}

// Fault 53, R18: a window that closes and a freeze that begins in mid-rollout let no more cells begin; those that did go on.
func TestWindowClosesInMidRollout(t *testing.T) {
	w := many(t, 6, "gates:\n  - window: {opens: \"0 9 * * *\", for: 1h}\nfreezes: [{from: 2026-11-24T08:00:00Z, until: 2026-11-24T09:30:00Z, reason: fair}]\nrollout: {maxInFlight: 2}\n")
	for _, name := range w.granted() {
		w.begins(name)
	}
	w.now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for name, s := range w.obs.Cells {
		if s.Applying == nil {
			w.report(name, cells.StateHealthy)
		}
	}
	w.wantActions("")
	w.wantBlocked("staging", "window", "opens Tue 09:00")
	w.others(time.Minute) // those that began arrive
	w.now = time.Date(2026, 11, 24, 9, 10, 0, 0, time.UTC)
	w.others(time.Minute)
	w.wantActions("")
	w.wantBlocked("staging", "freeze", "fair")
	w.now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	w.others(time.Minute)
	if got := w.granted(); len(got) != 2 {
		t.Errorf("granted %v", got)
	}
}

// Fault 54, R26: with the database gone in mid-rollout nothing is granted until every cell has reported; then it ends as it would.
func TestDatabaseLostInMidRollout(t *testing.T) {
	w := many(t, 8, byWaves)
	first := w.granted()
	w.others(35 * time.Minute)
	second := w.granted()
	w.others(time.Minute)
	running := map[string]*cells.Assignment{}
	for name, s := range w.obs.Cells {
		running[name] = s.Running
	}
	w.now = w.now.Add(time.Minute)
	w.obs = Observed{Since: w.now, Up: w.now, Cells: map[string]*CellState{}, Served: map[string]int64{}, Refused: map[string]Refusal{}}
	w.wantActions("")
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range running {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range names {
		w.wantActions("")
		w.wantBlockedOrIdle("staging", "observing")
		w.obs.Cells[name] = w.receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: running[name]})
	}
	if got := w.granted(); got != nil {
		t.Fatalf("%v got it before the waves had soaked again", got)
	}
	w.others(35 * time.Minute)
	if got := w.granted(); got != nil { // the second wave has all its cells: it soaks
		t.Fatalf("%v got it beyond %v and %v", got, first, second)
	}
	w.others(2 * time.Hour)
	for range 3 {
		w.granted()
		w.others(2 * time.Minute)
	}
	w.settle()
	for name, s := range w.obs.Cells {
		if s.Release != "1.1.0" {
			t.Errorf("%s ends with %s", name, s.Release)
		}
	}
}

// Fault 56, R15: fifty cells that are added during the first wave get the finished head, none the one that is not proven.
func TestNewcomersGetWhatIsProven(t *testing.T) {
	w := many(t, 4, byWaves)
	first := w.granted()
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w.commit("eve", "fifty", cellFiles("staging", names...))
	for _, name := range names {
		w.pending(name)
	}
	for range 29 { // while the first wave soaks
		for _, a := range w.run().Actions {
			if a.Release != "1.0.0" {
				t.Fatalf("%v of %s, which only %v has", a.Cells, a.Release, first)
			}
		}
		w.others(time.Minute)
	}
	for _, name := range names {
		if got := w.obs.Cells[name].Release; got != "1.0.0" {
			t.Errorf("%s has %q", name, got)
		}
	}
}

// R15: where no head is finished yet, newcomers join the rollout, by waves like all others.
func TestNewcomersJoinTheFirstRollout(t *testing.T) {
	w := newWorld(t, union(policy("staging", byWaves), cellFiles("staging", "a", "b", "c", "d")))
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	for _, name := range []string{"a", "b", "c", "d"} {
		w.pending(name)
	}
	if got := w.granted(); len(got) != 1 {
		t.Fatalf("granted %v", got)
	}
	w.others(10 * time.Minute)
	w.wantActions("")
}

// Fault 58, R2: a cell that comes from a channel at 120 to one at 8 gets the head under a higher epoch, when its wave is open.
func TestMovedFromAHigherSequence(t *testing.T) {
	w := many(t, 4, byWaves, policy("other", "promote: manual\n"), head("other", "1.0.0"), cellFiles("other", "mover"))
	first := w.granted()
	a := cells.Assignment{Channel: "other", Sequence: 120, Release: "1.0.0", Digest: w.digest("1.0.0")}
	w.obs.Cells["mover"] = w.receive(nil, cells.Report{Cell: "mover", State: cells.StateHealthy, Running: &a})
	w.commit("eve", "move", cellFiles("staging", "mover"))
	w.wantActions("")
	w.wantGate("mover", "wave", "in wave ")
	w.others(35*time.Minute, first...)
	w.report(first[0], cells.StateHealthy)
	for range 40 {
		w.run()
		w.others(5 * time.Minute)
	}
	got := w.obs.Cells["mover"].Running
	if got.Release != "1.1.0" || got.Epoch != 1 || got.Sequence != w.desired().Channels["staging"].Effective.Sequence {
		t.Errorf("mover runs %+v", got)
	}
}

// Fault 60, R35: a week's old events arrive late; only the state counts, so that today's budget is untouched.
func TestOldEventsTouchNoBudget(t *testing.T) {
	w := many(t, 3, "rollout: {failureBudget: 0}\n")
	w.granted()
	w.others(time.Minute)
	s := w.obs.Cells["c00"]
	old := cells.Assignment{Channel: "staging", Sequence: 7, Release: "1.0.0", Digest: w.digest("1.0.0")}
	r := cells.Report{Cell: "c00", Boot: "b", State: cells.StateHealthy, Running: s.Running, Failures: []cells.Failure{{Assignment: old, Reason: "last week", At: w.now.Add(-7 * 24 * time.Hour)}}}
	for i := range 20 {
		r.Events = append(r.Events, cells.Event{Number: int64(i + 1), At: w.now.Add(-7 * 24 * time.Hour), Kind: "failed", Release: "1.1.0", Digest: string(s.Digest)})
	}
	w.obs.Cells["c00"] = w.receive(s, r)
	w.settle()
	w.wantHead("staging", "1.1.0")
}

// R21: a quarantine in mid-rollout stops it, and takes the channel back where it goes back by itself.
func TestQuarantineInMidRollout(t *testing.T) {
	for onFailure, want := range map[string]string{"rollback": "rollback 1.0.0 staging", "halt": ""} {
		w := many(t, 6, "onFailure: "+onFailure+"\nrollout: {maxInFlight: 2}\n")
		had := w.granted()
		w.others(time.Minute)
		w.commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
		w.wantActions(want)
		if want == "" {
			w.wantBlocked("staging", "quarantine", "leaks")
			continue
		}
		p := w.run()
		if len(p.Actions) != 1 || len(p.Actions[0].Cells) != 6 || fmt.Sprint(slots(p.Actions[0], 2)) != fmt.Sprint(had) {
			t.Errorf("%s with slots %v: want all to get 1.0.0, with slots for %v", kinds(p), slots(p.Actions[0], 2), had)
		}
	}
}

// R18: what a cell's owner decided binds every grant, rollbacks too; others go on, and the wave doesn't wait for it.
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
			w := many(t, 3, "rollout: {waves: [{cells: 2}, {percent: 100}]}\n")
			w.says("c00", tt.owner)
			if got := w.granted(); fmt.Sprint(got) != "[c01 c02]" {
				t.Fatalf("granted %v", got)
			}
			v := w.wantGate("c00", tt.gate, tt.reason)
			if name == "window" && !v.Until.Equal(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)) {
				t.Errorf("until %s", v.Until)
			}
			why, _ := Why(&View{Desired: w.desired(), Observed: &w.obs, Plan: w.plan()}, "c00")
			if !strings.Contains(strings.Join(why, "\n"), "its owner ") {
				t.Errorf("why: %v", why)
			}
			w.others(time.Minute, "c00")
			w.says("c00", &cells.Owner{Approval: true, Approved: []releases.Digest{w.digest("1.1.0")}})
			if got := w.granted(); fmt.Sprint(got) != "[c00]" {
				t.Errorf("granted %v", got)
			}
		})
	}
	w := one(t, "")
	w.takes("staging", "1.1.0")
	w.says("s1", &cells.Owner{Paused: "audit"})
	w.ask("staging", "1.0.0")
	w.wantActions("rollback 1.0.0 staging")
	w.wantActions("grant 1.0.0 staging s2")
	w.wantGate("s1", "owner", "audit")
}

// R18: what the vendor decided about one cell binds its grants, but no rollback.
func TestVendorHoldsSingleCells(t *testing.T) {
	cell := "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n"
	for _, tt := range []struct {
		name, file, text, gate, reason string
	}{
		{"paused", "cells/c00/cell.yaml", cell + "paused: their audit\n", "paused", "their audit"},
		{"pin", "cells/c00/cell.yaml", cell + "pin: 1.0.0\n", "pin", "pinned to 1.0.0"},
		{"window", "cells/c00/cell.yaml", cell + "windows: [{opens: \"0 2 * * *\", for: 1h}]\n", "window", "opens Tue 02:00"},
		{"hold", "channels/staging/holds/fair.yaml", "reason: a fair\ncells: [c00]\n", "hold", "a fair (fair)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := many(t, 3, "rollout: {waves: [{cells: 2}, {percent: 100}]}\n")
			w.commit("eve", tt.name, map[string]string{tt.file: tt.text})
			if got := w.granted(); fmt.Sprint(got) != "[c01 c02]" {
				t.Fatalf("granted %v", got)
			}
			w.wantGate("c00", tt.gate, tt.reason)
			w.commit("eve", "end", map[string]string{tt.file: map[bool]string{true: cell}[strings.HasPrefix(tt.file, "cells/")]})
			w.others(time.Minute)
			if got := w.granted(); fmt.Sprint(got) != "[c00]" {
				t.Fatalf("granted %v", got)
			}
			w.through()
			w.commit("eve", tt.name, map[string]string{tt.file: tt.text})
			w.ask("staging", "1.0.0")
			w.wantActions("rollback 1.0.0 staging")
			w.wantActions("grant 1.0.0 staging c00+c01+c02")
		})
	}
}

// A hold on cells stops no promotion.
func TestHoldOnCellsStopsNoPromotion(t *testing.T) {
	w := one(t, "")
	w.commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\ncells: [s1, s2]\n"})
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("")
}

// R14: a slot is one cell's that was granted something and has no result, whatever head it was for: success, failure, the
// stall limit and a lapse free it, a new head does not.
func TestSlotsOutliveHeads(t *testing.T) {
	w := many(t, 6, "advance: newest\nrollout: {maxInFlight: 2, failureBudget: 5, stall: 20m}\n")
	old := w.granted()
	for _, name := range old {
		w.begins(name)
	}
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("promote 1.2.0 staging")
	p := w.run()
	if len(p.Actions) != 1 || fmt.Sprint(p.Actions[0].Cells) != fmt.Sprint(old) || len(slots(p.Actions[0], 2)) != 0 {
		t.Fatalf("%s, slots %v: want the two with a slot, and no new ones", kinds(p), slots(p.Actions[0], 2))
	}
	for name := range w.obs.Cells {
		if !slices.Contains(old, name) {
			w.wantGate(name, "maxInFlight", "place ")
		}
	}
	w.fails(old[0], "broken")
	p = w.run()
	if len(p.Actions) != 1 || len(slots(p.Actions[0], 2)) != 1 {
		t.Fatalf("%s: want one in the place of %s", kinds(p), old[0])
	}
	next := p.Actions[0].Cells[0]
	w.report(next, cells.StateHealthy)
	if p = w.run(); len(p.Actions) != 1 || len(slots(p.Actions[0], 2)) != 1 {
		t.Fatalf("%s: want one in the place of %s", kinds(p), next)
	}
}

// The store's slots that are over are told, of channels that are gone too.
func TestSlotsThatEnded(t *testing.T) {
	w := many(t, 3, "rollout: {maxInFlight: 2}\n")
	had := w.granted()
	w.obs.Slots = map[string][]string{"staging": slices.Clone(had), "gone": {"x"}}
	if got := fmt.Sprint(w.plan().Learned.Freed); got != "[{gone [x]}]" {
		t.Errorf("freed %s", got)
	}
	w.report(had[0], cells.StateHealthy)
	w.obs.Slots["staging"] = append(w.obs.Slots["staging"], "nobody")
	if got, want := fmt.Sprint(w.plan().Learned.Freed), fmt.Sprintf("[{staging [%s nobody]} {gone [x]}]", had[0]); got != want {
		t.Errorf("freed %s, want %s", got, want)
	}
}

// A person opens the next wave of one head; that skips soak, and neither holds nor caps, nor the next head's waves.
func TestSkipWave(t *testing.T) {
	w := many(t, 8, strings.Replace(byWaves, "maxInFlight: 3", "maxInFlight: 2", 1))
	first := w.granted()
	w.others(time.Minute)
	e := w.desired().Channels["staging"].Effective
	skip := map[string]string{fmt.Sprintf("channels/staging/skips/%d.yaml", e.Sequence): "wave: 3\nreason: urgent\nby: ada\n"}
	w.commit("ada", "skip", union(skip, map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"}))
	w.wantActions("")
	w.wantBlocked("staging", "hold", "wait")
	w.unhold()
	if got := w.granted(); len(got) != 2 {
		t.Fatalf("granted %v after %v, want two: maxInFlight", got, first)
	}
	for range 5 {
		w.others(time.Minute)
		w.run()
	}
	p := w.progress("staging")
	if !p.Finished || p.Healthy != 8 || p.SkippedTo != 3 {
		t.Errorf("%+v", p)
	}
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("promote 1.2.0 staging")
	if p := w.run(); len(p.Actions) != 1 || len(p.Actions[0].Cells) != 1 {
		t.Errorf("%s: want one cell, by the new head's waves", kinds(p))
	}
}

// A skip of what is not there is a warning, with its file.
func TestSkipOfNothing(t *testing.T) {
	w := many(t, 2, byWaves)
	w.commit("ada", "skip", map[string]string{"channels/staging/skips/99.yaml": "wave: 2\nreason: x\n", "channels/staging/holds/x.yaml": "reason: x\ncells: [nobody]\n"})
	var got []string
	for _, f := range w.desired().Check() {
		got = append(got, f.String())
	}
	want := []string{"channels/staging/holds/x.yaml:1: warning: holds nobody, which is no cell of staging", "channels/staging/skips/99.yaml:1: warning: staging has no head with sequence 99 yet"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// R5, R14: a head that is only written anew, because the branch lost another, goes on by its waves.
func TestRestatedHeadKeepsItsWaves(t *testing.T) {
	w := many(t, 6, byWaves)
	first := w.granted()
	s := w.obs.Cells[first[0]]
	lost := *s.Granted
	lost.Sequence += 3
	w.obs.Cells[first[0]] = Give(s, Granted{Cell: first[0], Assignment: lost, At: w.now})
	w.obs.Served["staging"] = lost.Sequence
	w.wantActions("rollback 1.1.0 staging")
	if got := w.granted(); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("granted %v, want %v: the wave has one cell", got, first)
	}
}

// R14: the first wave's labels choose; while none of them is in contact, one other cell stands in, and never none.
func TestLabelledWave(t *testing.T) {
	canary := map[string]string{"cells/c03/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\nlabels: {canary: \"yes\"}\n"}
	text := "rollout: {waves: [{labels: {canary: \"yes\"}, soak: 10m}, {percent: 100}]}\n"
	w := many(t, 5, text, canary)
	if got := w.granted(); fmt.Sprint(got) != "[c03]" {
		t.Errorf("granted %v", got)
	}
	w = many(t, 5, text, canary)
	w.others(6*time.Minute, "c03")
	if got := w.granted(); len(got) != 1 || got[0] == "c03" {
		t.Errorf("granted %v", got)
	}
}

// R14: while no cell is in contact, no wave is through; those that come back begin with the first.
func TestNoWaveIsThroughWithoutCells(t *testing.T) {
	w := many(t, 6, byWaves)
	w.now = w.now.Add(10 * time.Minute)
	for range 3 {
		w.wantActions("")
	}
	if got := w.obs.Learned.Waves; len(got) > 0 {
		t.Fatalf("through on nobody's word: %v", got)
	}
	w.others(time.Minute)
	if got := w.granted(); len(got) != 1 {
		t.Errorf("granted %v", got)
	}
}

// R14: cells that only wait for their owner's window are eligible: those without one are not all that the waves are counted over.
func TestWavesCountThoseOutsideTheirWindows(t *testing.T) {
	w := many(t, 12, "rollout: {waves: [{cells: 1, soak: 10m}, {percent: 50, soak: 10m}, {percent: 100}]}\n")
	night := &cells.Owner{Windows: []window.Window{{Opens: "0 2 * * *", For: 2 * time.Hour}}}
	pass := func(d time.Duration) {
		for end := w.now.Add(d); w.now.Before(end); {
			w.now = w.now.Add(time.Minute)
			for name, s := range w.obs.Cells {
				r := cells.Report{Cell: name, Boot: "b", Sent: w.now, State: cells.StateHealthy, Running: s.last()}
				if name > "c01" {
					r.Owner = night
				}
				w.obs.Cells[name] = w.receive(s, r)
			}
			w.settle()
		}
	}
	on := func() (n int) {
		for _, s := range w.obs.Cells {
			if s.Release == "1.1.0" {
				n++
			}
		}
		return n
	}
	pass(0)
	for name := range w.obs.Cells {
		if name > "c01" {
			w.says(name, night)
		}
	}
	pass(time.Hour)
	if n := on(); n != 2 {
		t.Fatalf("%d cells run it in the day, want the two without a window", n)
	}
	if p := w.progress("staging"); p.Wave != 2 || p.Waves[1].Cells != 6 || p.Finished {
		t.Errorf("%+v", p)
	}
	w.now = time.Date(2026, 11, 24, 1, 59, 0, 0, time.UTC)
	pass(5 * time.Minute)
	if n := on(); n != 6 {
		t.Errorf("%d cells run it as the windows open, want half of all", n)
	}
	pass(30 * time.Minute)
	if n := on(); n != 12 {
		t.Errorf("%d cells run it in the end", n)
	}
}
