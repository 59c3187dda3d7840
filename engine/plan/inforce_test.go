package plan_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

const accept = "accept\n\nAcknowledge-Divergence: "

// installed is a channel whose cells run 1.1.0 under sequence 8. The branch's root had 1.0.0 under 7.
func installed(t *testing.T, text string, names ...string) *World {
	w := NewWorld(t, Union(Policy("staging", text), CellFiles("staging", names...), Release("1.0.0"), Release("1.1.0"),
		Head("staging", "1.0.0"))).ReportInstalled()
	w.InstallAll()
	w.WantHead("staging", "1.1.0")
	for name, s := range w.Obs.Cells {
		if s.Running == nil || s.Running.Sequence != 8 {
			t.Fatalf("%s runs %+v", name, s.Running)
		}
	}
	return w
}

// loseStore forgets everything that was observed but the cells' last reports, which come again.
func loseStore(w *World) {
	w.Now = w.Now.Add(time.Minute)
	old := w.Obs.Cells
	w.Obs = plan.Observed{Since: w.Now, Cells: map[string]*plan.CellState{}, Served: map[string]int64{},
		Refused: map[string]plan.Refusal{}}
	for name, s := range old {
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: s.State,
			Running: s.Running})
	}
}

func touch(text string) map[string]string { return map[string]string{"README.md": text} }

// claims makes a cell report an assignment of staging that nothing explains.
func claims(w *World, cell, release string, sequence int64) {
	a := cells.Assignment{Channel: "staging", Sequence: sequence, Release: release}
	if w.Desired().Releases[release] != nil {
		a.Digest = w.Digest(release)
	}
	w.Obs.Cells[cell] = w.Receive(w.Obs.Cells[cell], cells.Report{Cell: cell, Boot: "b", Sent: w.Now,
		State: cells.StateHealthy, Running: &a})
}

// R51: accepting a branch that lost a promotion takes the head in force, under a higher sequence. No cell goes back.
func TestR51TheStoreKnowsTheHeadInForce(t *testing.T) {
	for name, forget := range map[string]func(*World){
		"decided and granted":   func(*World) {},
		"granted, not recorded": func(w *World) { w.Obs.Decided = nil },
		"decided, not granted": func(w *World) {
			d := w.Desired().Channels["staging"]
			e := d.Effective
			w.Obs.AddDecided([]plan.Decided{{Channel: "staging", Release: e.Release, Digest: e.Digest,
				Sequence: e.Sequence, At: e.Moved}})
			for cell, s := range w.Obs.Cells {
				w.Obs.Cells[cell] = plan.WithoutGrant(s)
				a := plan.Assign(w.Desired(), w.Desired().Cells[cell], &d.History[0], nil)
				w.Obs.Cells[cell] = w.Receive(nil, cells.Report{Cell: cell, State: cells.StateHealthy, Running: &a})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := installed(t, "", "s1", "s2")
			forget(w)
			lost := w.Tip
			w.Rewind(1)
			w.Obs.Diverged = &plan.Divergence{Seen: lost, Tip: w.Tip}
			w.WantActions("")
			w.WantBlocked("staging", "diverged", "'Acknowledge-Divergence: "+lost+"'")
			w.Commit("eve", accept+lost, touch("we know"))
			w.Obs.Diverged = nil
			p := w.WantActions("rollback 1.1.0 staging")
			if a := p.Actions[0]; a.Sequence != 9 || !strings.Contains(a.Reason, "lost sequence 8") {
				t.Errorf("%+v", a)
			}
			w.WantHead("staging", "1.1.0")
			w.WantActions("grant 1.1.0 staging s1+s2")
			w.InstallAll()
			w.WantActions("")
			w.Commit("bob", "cut", Release("1.2.0"))
			w.WantActions("promote 1.2.0 staging")
		})
	}
}

// R51: where the accepted branch lacks the release in force, only what is above it moves by its gates.
func TestR51OnlyUpWhileTheReleaseIsMissing(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	lost := w.Tip
	w.Rewind(2)
	w.Commit("eve", accept+lost, Release("1.0.5"))
	w.WantActions("")
	w.WantBlocked("staging", "diverged", "1.1.0, sequence 8, is in force here")
	w.Commit("eve", "put it back, but other bytes", Release("1.1.0", "title: other\n"))
	w.WantActions("")
	w.WantBlocked("staging", "diverged", "lacks that release with its digest")
	w.Commit("bob", "cut", Release("1.2.0"))
	if p := w.WantActions("promote 1.2.0 staging"); p.Actions[0].Sequence != 9 {
		t.Errorf("%+v", p.Actions[0])
	}
}

// R51: a person who asks for an older release gets it. A request from before the branch was accepted asks for nothing.
func TestR51PeopleAskForLess(t *testing.T) {
	w := installed(t, "", "s1", "s2")
	lost := w.Tip
	w.Rewind(1)
	w.RequestRelease("staging", "1.0.0") // of a history that was rewritten
	w.Commit("eve", accept+lost, touch("we know"))
	d := w.Obs
	d.Cells = maps.Clone(d.Cells)
	w.WantActions("rollback 1.1.0 staging")
	w.Rewind(1)
	w.Obs = d
	w.RequestRelease("staging", "1.0.0")
	w.Commit("eve", "again", map[string]string{"channels/staging/head.yaml": "release: 1.0.0\nsequence: 7\n"})
	if p := w.WantActions("rollback 1.0.0 staging"); p.Actions[0].Sequence != 9 || p.Actions[0].Requested != "eve" {
		t.Errorf("%+v", p.Actions[0])
	}
}

// R51, R26: the store is lost and the branch is older than the cells. Nothing moves until a person accepts, and the
// verdict prints how; then the cells' head is the channel's.
func TestR51AnOlderBranchWithoutTheStore(t *testing.T) {
	w := installed(t, "", "s1", "s2", "s3")
	w.Rewind(1)
	loseStore(w)
	delete(w.Obs.Cells, "s3") // silent
	w.Now = w.Now.Add(time.Second)
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("")
	w.WantGate("s1", "diverged", "sluice cell add s1")
	w.WantBlocked("staging", "diverged",
		"git commit --allow-empty -m 'accept the branch' -m 'Acknowledge-Divergence: staging 8 1.1.0'")
	for _, of := range []string{
		"staging 8 1.2.0", "staging 9 1.1.0", "dedicated 8 1.1.0", "staging 8", "staging x 1.1.0",
	} {
		w.Commit("eve", accept+of, touch(of))
		if p := w.Plan(); len(p.Actions) > 0 {
			t.Errorf("%q: %s", of, Kinds(p))
		}
	}
	w.Commit("eve", accept+"staging 8 1.1.0", touch("we know"))
	if p := w.WantActions("rollback 1.1.0 staging"); p.Actions[0].Sequence != 9 {
		t.Errorf("%+v", p.Actions[0])
	}
	w.Now = w.Now.Add(10 * time.Minute)
	w.Report("s1", cells.StateHealthy)
	w.Report("s2", cells.StateHealthy)
	for name, s := range w.Obs.Cells {
		if s.Granted != nil && s.Granted.Release != "1.1.0" {
			t.Errorf("%s was granted %+v", name, s.Granted)
		}
	}
}

// R51: what more than half of the cells have or passed counts, not what one of them says.
func TestR51TheMedianIsInForce(t *testing.T) {
	for want, sequences := range map[string][]int64{
		"staging 8": {8, 8, 8, 9, 9}, "staging 9": {8, 8, 9, 9, 9}, "": {8, 8, 7, 7, 7},
	} {
		w := installed(t, "", "s1", "s2", "s3", "s4", "s5")
		w.Rewind(1)
		loseStore(w)
		for i, n := range sequences {
			name, release := fmt.Sprintf("s%d", i+1), "1.1.0"
			if n == 7 {
				release = "1.0.0"
			}
			w.Obs.Cells[name] = nil
			claims(w, name, release, n)
		}
		p := w.Plan()
		blocked, _ := p.BlockedIn("staging")
		said := fmt.Sprint(blocked)
		if want == "" && strings.Contains(said, "Acknowledge-Divergence") || !strings.Contains(said, want) {
			t.Errorf("%v: %s", sequences, said)
		}
	}
}

// R49, R51: one cell's claim is an alarm about that cell. It moves no sequence and stops nobody else, and the cell is
// granted nothing that it would refuse.
func TestR51OneCellsClaim(t *testing.T) {
	for _, sequence := range []int64{9, 8 + plan.MaxAhead, 1 << 60} {
		w := installed(t, "", "s1", "s2", "s3")
		claims(w, "s2", "1.1.0", sequence)
		w.WantActions("")
		w.WantGate("s2", "diverged", "sluice cell add s2")
		w.Commit("bob", "cut", Release("1.2.0"))
		if p := w.WantActions("promote 1.2.0 staging"); p.Actions[0].Sequence != 9 {
			t.Errorf("claim of %d: sequence %d", sequence, p.Actions[0].Sequence)
		}
		p := w.Run()
		for _, a := range p.Actions {
			if a.Kind == plan.Grant && strings.Contains(fmt.Sprint(a.Cells), "s2") {
				t.Errorf("claim of %d: %s", sequence, Kinds(p))
			}
		}
	}
}

// R51: no command that people are to copy has a cell's text in it, but a version.
func TestR51ClaimsArePrintedSafely(t *testing.T) {
	w := installed(t, "", "s1")
	w.Rewind(1)
	loseStore(w)
	w.Obs.Cells["s1"] = nil
	claims(w, "s1", "1.1.0'; reboot; '", 8)
	for _, v := range w.Plan().Blocked {
		if strings.Contains(v.Reason, "git commit") {
			t.Error(v.Reason)
		}
	}
}

// R2, R27, R51: none of these is a claim against the branch.
func TestR51NoFalseAlarm(t *testing.T) {
	for name, change := range map[string]func(*World){
		"nothing": func(*World) {},
		"another channel's sequence": func(w *World) {
			a := *w.Obs.Cells["s1"].Running
			a.Channel, a.Sequence = "elsewhere", 900
			w.Obs.Cells["s1"] = w.Receive(nil, cells.Report{Cell: "s1", State: cells.StateHealthy, Running: &a})
		},
		"under an older identity": func(w *World) {
			w.Commit("sluice", "identify", map[string]string{"cells/s1/identity.yaml": "apiVersion: sluice/v1\n" +
				"kind: Identity\nepoch: 3\nserial: 2\n"})
			w.Obs.Cells["s1"] = nil
			claims(w, "s1", "1.1.0", 40)
		},
		"the store is lost alone": loseStore,
		"this plan is for an older commit than the store's": func(w *World) {
			w.Rewind(1)
			w.Obs.Seen = "4f0c"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := installed(t, "", "s1", "s2")
			change(w)
			for _, v := range w.Plan().Blocked {
				if v.Gate == "diverged" {
					t.Error(v.String())
				}
			}
		})
	}
}
