package plan_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

func TestReleaseGoesThroughStagingIntoDedicated(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Wait(2*time.Minute, "staging", "dedicated")
	w.Settle()
	w.Commit("bob", "cut 1.1.0", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1+s2")
	w.WantActions("")
	w.WantBlocked("dedicated", "soak", "staging")
	w.Wait(30*time.Minute, "staging", "dedicated")
	w.WantActions("")
	w.Wait(31*time.Minute, "staging", "dedicated")
	p := w.WantActions("promote 1.1.0 dedicated")
	if e := p.Actions[0].Evidence; !slices.Contains(e, "soak held, 2 of 2 cells healthy for 1h") {
		t.Errorf("evidence %q", e)
	}
	if a := p.Actions[0]; !strings.HasPrefix(a.From, "staging@") || a.Replaces != "1.0.0" || a.Sequence != 8 {
		t.Errorf("action %+v", a)
	}
	w.WantActions("grant 1.1.0 dedicated acme+beta")
	w.WantActions("")
	w.Wait(2*time.Minute, "dedicated", "staging")
	if p := w.Settle(); len(p.Blocked) != 0 {
		t.Errorf("blocked %v", p.Blocked)
	}
}

// R9: a cell that falls silent or turns unhealthy loses its soak.
func TestSoakStartsAgain(t *testing.T) {
	for name, interrupt := range map[string]func(*World){
		"silence": func(w *World) { w.Wait(6 * time.Minute) },
		"illness": func(w *World) { w.Report("s1", cells.StateUnhealthy) },
	} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t).ReportInstalled()
			w.Settle()
			w.Commit("bob", "cut", Release("1.1.0"))
			w.Settle()
			w.Wait(59*time.Minute, "staging", "dedicated")
			interrupt(w)
			w.Wait(59*time.Minute, "staging", "dedicated")
			w.WantActions("")
			w.Wait(2*time.Minute, "staging", "dedicated")
			w.WantActions("promote 1.1.0 dedicated")
		})
	}
}

// A bad release stops in staging: it is rolled back and quarantined, and never reaches dedicated.
func TestBadReleaseGoesBack(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1+s2")
	w.Now = w.Now.Add(time.Minute)
	w.ReportFailed("s1", "health: exit 1")
	p := w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	if p.Actions[0].Sequence != 9 || !strings.Contains(p.Actions[0].Reason, "health: exit 1") {
		t.Errorf("rollback %+v", p.Actions[0])
	}
	w.WantActions("grant 1.0.0 staging s1+s2")
	w.Wait(3*time.Hour, "staging", "dedicated")
	w.WantActions("")
	if h := w.Desired().Channels["dedicated"].Effective; h.Release != "1.0.0" {
		t.Errorf("dedicated is at %s", h.Release)
	}
	w.WantBlocked("staging", "quarantine", "health: exit 1")
	w.Commit("bob", "fix", Release("1.1.1"))
	w.WantActions("promote 1.1.1 staging")
}

// R20, R19: a channel that can't roll back halts, once.
func TestHaltWhereThereIsNoWayBack(t *testing.T) {
	for name, more := range map[string]string{"forward-only": "rollback: forward-only\n", "first": ""} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t).ReportInstalled()
			w.Settle()
			if name == "first" {
				w.Commit("bob", "hold on to nothing", map[string]string{
					"quarantine/1.0.0.yaml": "digest: @digest:1.0.0\nreason: bad\n" +
						"channels: [staging]\nfailedIn: dedicated\n",
				})
			}
			w.Commit("bob", "cut", Release("1.1.0", more))
			w.WantActions("promote 1.1.0 staging")
			w.Settle()
			w.ReportFailed("s1", "migration failed")
			p := w.Run()
			if p.Actions[0].Kind != plan.Halt {
				t.Fatalf("actions %s", Kinds(p))
			}
			w.WantActions("")
			w.WantBlockedAfterNext("staging", "hold")
		})
	}
}

// R1: a revert requests a rollback, is answered once, and holds the channel until a person lifts the hold.
func TestRevertIsARollbackRequest(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Wait(2*time.Minute, "staging", "dedicated")
	before := map[string]string{
		"channels/staging/head.yaml": w.Files["channels/staging/head.yaml"], "channels/staging/decision.json": "",
	}
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(2*time.Minute, "staging", "dedicated")
	w.Settle()
	w.Commit("eve", "Revert \"promote 1.1.0 to staging\"", before)
	if e := w.Desired().Channels["staging"].Effective; e.Release != "1.1.0" {
		t.Fatalf("a hand's head is effective: %+v", e)
	}
	p := w.WantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Requested != "eve" || a.Sequence != 9 {
		t.Errorf("answer %+v", a)
	}
	w.Settle()
	w.Wait(2*time.Minute, "staging", "dedicated")
	w.WantBlocked("staging", "hold", "rolled back by hand")
	lift := map[string]string{}
	for name := range w.Files {
		if strings.Contains(name, "/holds/") {
			lift[name] = ""
		}
	}
	w.Commit("eve", "lift", lift)
	w.WantActions("promote 1.1.0 staging")
}

// Fault 42: a hand-written head that makes no sense is a request, and a verdict answers it.
func TestHandEditedHead(t *testing.T) {
	for name, c := range map[string]struct{ head, reason string }{
		"unknown release": {"release: 9.9.9\n", "9.9.9, which is not in the repository"},
		"same release":    {"release: 1.0.0\nsequence: 99\n", "the head already"},
		"no head at all":  {"nonsense: true\n", "release is required"},
		"removed":         {"", "was removed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t).ReportInstalled()
			w.Settle()
			w.Commit("eve", "edit", map[string]string{"channels/dedicated/head.yaml": c.head})
			w.WantActions("")
			w.WantBlocked("dedicated", "request", c.reason)
			if e := w.Desired().Channels["dedicated"].Effective; e == nil || e.Release != "1.0.0" || e.Sequence != 7 {
				t.Errorf("effective head %+v", e)
			}
		})
	}
}

// R1: a request for a release above the head passes the gates like any release. The commit that answers it names who
// requested it.
func TestRequestUpward(t *testing.T) {
	w := TwoChannels(t, Policy("staging", "promote: manual\n")).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("")
	w.WantBlocked("staging", "manual", "sluice promote 1.1.0")
	w.Commit("eve", "ask", map[string]string{
		"channels/staging/head.yaml": strings.Replace(w.Files["channels/staging/head.yaml"], "1.0.0", "1.1.0", 1),
	})
	p := w.WantActions("promote 1.1.0 staging")
	if p.Actions[0].Requested != "eve" {
		t.Errorf("answer %+v", p.Actions[0])
	}
	w.WantActions("grant 1.1.0 staging s1+s2")
	w.WantActions("")
}

// R7, fault 55: staging moves on before dedicated's window opens. What dedicated accepted of it stays accepted.
func TestAcceptanceLatches(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", "advance: newest\n"),
		Policy("dedicated",
			"after: [staging]\ngates:\n  - soak: {for: 1h}\n  - window: {opens: \"0 9 * * *\", for: 1h}\n"),
		CellFiles("staging", "s1"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	)).ReportInstalled()
	w.Now = w.Now.Add(2 * time.Hour) // 11:30: closed
	w.ReportInstalled().Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(2*time.Hour, "staging", "dedicated")
	w.Settle()
	w.WantBlocked("dedicated", "window", "opens")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("promote 1.2.0 staging")
	w.Settle()
	w.Now = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	w.Report("acme", cells.StateHealthy)
	w.WantActions("promote 1.1.0 dedicated")
}

// R8: settled keeps a head until downstream accepted it; newest does not wait.
func TestSettled(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Wait(time.Hour, "staging", "dedicated")
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Wait(time.Minute, "staging", "dedicated")
	w.WantActions("")
	w.WantBlocked("staging", "settled", "keeps 1.1.0 until dedicated accepts it")
	w.Wait(time.Hour, "staging", "dedicated")
	w.WantActions("promote 1.2.0 staging; promote 1.1.0 dedicated")
}

// R6: a channel with an invalid policy promotes and grants nothing; other channels go on.
func TestInvalidPolicy(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "mistype", Policy("staging", "freezes: [{form: 2026-12-20T00:00:00Z}]\n"))
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("")
	w.WantBlocked("staging", "invalid", "channels/staging/channel.yaml:3")
}

// R13, fault 52: after a typo in one cell's values only that cell goes back, and the release is not blamed.
func TestValuesAloneAreNotTheReleasesFault(t *testing.T) {
	w := TwoChannels(t, Release("1.0.0", "parameters:\n  domain: {type: string}\n")).ReportInstalled()
	w.Settle()
	cell := w.Files["cells/acme/cell.yaml"]
	w.Commit("eve", "values", map[string]string{"cells/acme/cell.yaml": cell + "values: {domain: acme.example}\n"})
	w.WantActions("grant 1.0.0 dedicated acme")
	w.Now = w.Now.Add(time.Minute)
	w.ReportFailed("acme", "no such domain")
	w.WantActions("")
	w.Commit("eve", "values", map[string]string{"cells/acme/cell.yaml": cell + "values: {domian: acme.example}\n"})
	w.WantActions("")
	w.WantBlocked("dedicated", "values", "domian")
}

// R2: a cell that moves from a channel with higher sequences gets a grant with a higher epoch.
func TestMoveBetweenChannels(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Commit("eve", "move", CellFiles("dedicated", "s2"))
	w.WantActions("grant 1.0.0 dedicated s2")
	if g := w.Obs.Cells["s2"].Granted; g.Epoch != 1 || g.Sequence != 7 || g.Channel != "dedicated" {
		t.Errorf("grant %+v", g)
	}
	w.WantActions("")
}

// R5: after a force-push nothing moves.
func TestDiverged(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Obs.Diverged = &plan.Divergence{Seen: "4f0c", Tip: w.Tip}
	w.WantActions("")
	w.WantBlocked("staging", "diverged", "Acknowledge-Divergence: 4f0c")
}

// R10: clocks that can't be trusted block what time decides.
func TestClock(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Wait(2*time.Hour, "staging", "dedicated")
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(2*time.Hour, "staging", "dedicated")
	w.Obs.Clock.Step = 2 * time.Minute
	w.WantActions("")
	w.WantBlocked("dedicated", "clock", "stepped by 2m")
	w.Obs.Clock = plan.Clock{}
	w.WantActions("promote 1.1.0 dedicated")
}

// R2: a new sequence is above every sequence that was ever served.
func TestSequenceRisesAboveServed(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Obs.Served["staging"] = 120
	w.Commit("bob", "cut", Release("1.1.0"))
	if p := w.WantActions("promote 1.1.0 staging"); p.Actions[0].Sequence != 121 {
		t.Errorf("sequence %d", p.Actions[0].Sequence)
	}
}

// Invariant 2: equal inputs make equal plans, byte for byte.
func TestSameBytes(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Commit("bob", "cut", Release("1.1.0"))
	var first []byte
	for range 5 {
		data, err := json.Marshal(w.Plan())
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Fatalf("%s\n%s", first, data)
		}
	}
}

// Whatever cells report while a head goes out, a plan with memory is the plan without, and a brief plan says as much.
func TestMemory(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		d, o := midRollout(t, 150, 40) // more cells than a word of a set holds
		names := slices.Sorted(maps.Keys(o.Cells))
		var memory, brief plan.Memory
		o.Replaced = []string{}
		for now := Start; now.Before(Start.Add(3 * time.Hour)); {
			want := plan.Make(d, o, now)
			if got := memory.Make(d, o, now); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d at %s, with memory:\n%+v\nwithout:\n%+v", seed, now.Format(time.TimeOnly), got, want)
			}
			got, turns := brief.MakeBrief(d, o, now)
			for _, turn := range turns {
				n := 0
				want.Blocked = slices.DeleteFunc(want.Blocked, func(v channels.Verdict) bool {
					if v.Gate != turn.Gate || v.Release != turn.Release || v.Channel != turn.Channel {
						return false
					}
					if n < len(turn.First) && v.Cell != turn.First[n] || n == 0 && v.Reason != turn.Reason {
						t.Errorf("seed %d: %+v does not begin with %+v", seed, turn, v)
					}
					n++
					return true
				})
				if turn.Cells != n {
					t.Errorf("seed %d: %+v has %d cells", seed, turn, n)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d at %s, brief:\n%+v\nwhole:\n%+v", seed, now.Format(time.TimeOnly), got, want)
			}
			o.Replaced = []string{}
			plan.Carry(o, &got)
			now = now.Add(time.Duration(random.IntN(180)) * time.Second)
			for range random.IntN(40) {
				name := names[random.IntN(len(names))]
				o.SetCell(name, reportAtRandom(random, name, o.Cells[name], now))
			}
		}
	}
}

// reportAtRandom returns what a cell's state may be after a report at now; nil: it was lost.
func reportAtRandom(random *rand.Rand, name string, before *plan.CellState, now time.Time) *plan.CellState {
	if before == nil {
		return &plan.CellState{Name: name, State: cells.StatePending, LastReport: now}
	}
	s := *before
	s.LastReport, s.Owner = now, nil
	switch random.IntN(10) {
	case 0:
		s.State, s.HealthySince, s.Soaked = cells.StateUnhealthy, time.Time{}, 0
	case 1:
		s.Owner = &cells.Owner{Paused: "not now"}
	case 2:
		if random.IntN(10) == 0 {
			return nil
		}
	case 3:
		if s.Granted != nil {
			s.Failures = append(slices.Clip(s.Failures), plan.Failure{Seen: now,
				Failure: cells.Failure{Assignment: *s.Granted, Cause: cells.CauseCell, Reason: "no disk"}})
			s.Applying = nil
		}
	case 4, 5:
		if s.Granted != nil && s.Running != s.Granted {
			s.State, s.Applying, s.StartedAt, s.Taken = cells.StateApplying, s.Granted, now, s.Granted.Key()
		}
	default:
		if a := s.Granted; a != nil {
			s.Running, s.Applying, s.Sequence, s.Release, s.Digest = a, nil, a.Sequence, a.Release, a.Digest
			s.StartedAt, s.Channel = time.Time{}, a.Channel
		}
		if s.State = cells.StateHealthy; s.HealthySince.IsZero() {
			s.HealthySince = now
		}
		s.Soaked = now.Sub(s.HealthySince)
	}
	return &s
}

// Of more replaced states than there are cells, the names are of no use.
func TestReplacedIsBounded(t *testing.T) {
	o := plan.Observed{Cells: map[string]*plan.CellState{}, Replaced: []string{}}
	for range 3 {
		o.SetCell("s1", &plan.CellState{Name: "s1"})
	}
	if o.Replaced != nil {
		t.Errorf("kept %v", o.Replaced)
	}
	o.Replaced = []string{}
	if o.SetCell("s1", nil); len(o.Cells) > 0 || !slices.Equal(o.Replaced, []string{"s1"}) {
		t.Errorf("%v, replaced %v", o.Cells, o.Replaced)
	}
}
