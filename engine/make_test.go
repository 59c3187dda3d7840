package engine

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

func TestReleaseGoesThroughStagingIntoDedicated(t *testing.T) {
	w := twoChannels(t).installed()
	w.wait(2*time.Minute, "staging", "dedicated")
	w.settle()
	w.commit("bob", "cut 1.1.0", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1+s2")
	w.wantActions("")
	w.wantBlocked("dedicated", "soak", "staging")
	w.wait(30*time.Minute, "staging", "dedicated")
	w.wantActions("")
	w.wait(31*time.Minute, "staging", "dedicated")
	p := w.wantActions("promote 1.1.0 dedicated")
	if e := p.Actions[0].Evidence; !slices.Contains(e, "soak held, 2 of 2 cells healthy for 1h") {
		t.Errorf("evidence %q", e)
	}
	if a := p.Actions[0]; !strings.HasPrefix(a.From, "staging@") || a.Replaces != "1.0.0" || a.Sequence != 8 {
		t.Errorf("action %+v", a)
	}
	w.wantActions("grant 1.1.0 dedicated acme+beta")
	w.wantActions("")
	w.wait(2*time.Minute, "dedicated", "staging")
	if plan := w.settle(); len(plan.Blocked) != 0 {
		t.Errorf("blocked %v", plan.Blocked)
	}
}

// R9: a cell that falls silent or ill loses its soak.
func TestSoakStartsAgain(t *testing.T) {
	for name, interrupt := range map[string]func(*world){
		"silence": func(w *world) { w.wait(6 * time.Minute) },
		"illness": func(w *world) { w.report("s1", cells.StateUnhealthy) },
	} {
		t.Run(name, func(t *testing.T) {
			w := twoChannels(t).installed()
			w.settle()
			w.commit("bob", "cut", release("1.1.0"))
			w.settle()
			w.wait(59*time.Minute, "staging", "dedicated")
			interrupt(w)
			w.wait(59*time.Minute, "staging", "dedicated")
			w.wantActions("")
			w.wait(2*time.Minute, "staging", "dedicated")
			w.wantActions("promote 1.1.0 dedicated")
		})
	}
}

// A bad release is stopped in staging: rolled back, quarantined, never in dedicated.
func TestBadReleaseGoesBack(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	w.wantActions("grant 1.1.0 staging s1+s2")
	w.now = w.now.Add(time.Minute)
	w.fails("s1", "health: exit 1")
	p := w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	if p.Actions[0].Sequence != 9 || !strings.Contains(p.Actions[0].Reason, "health: exit 1") {
		t.Errorf("rollback %+v", p.Actions[0])
	}
	w.wantActions("grant 1.0.0 staging s1+s2")
	w.wait(3*time.Hour, "staging", "dedicated")
	w.wantActions("")
	if h := w.desired().Channels["dedicated"].Effective; h.Release != "1.0.0" {
		t.Errorf("dedicated is at %s", h.Release)
	}
	w.wantBlocked("staging", "quarantine", "health: exit 1")
	w.commit("bob", "fix", release("1.1.1"))
	w.wantActions("promote 1.1.1 staging")
}

// R20, R19: where there is no way back the channel halts, once.
func TestHaltWhereThereIsNoWayBack(t *testing.T) {
	for name, more := range map[string]string{"forward-only": "rollback: forward-only\n", "first": ""} {
		t.Run(name, func(t *testing.T) {
			w := twoChannels(t).installed()
			w.settle()
			if name == "first" {
				w.commit("bob", "hold on to nothing", map[string]string{"quarantine/1.0.0.yaml": "digest: @digest:1.0.0\nreason: bad\nchannels: [staging]\nfailedIn: dedicated\n"})
			}
			w.commit("bob", "cut", release("1.1.0", more))
			w.wantActions("promote 1.1.0 staging")
			w.settle()
			w.fails("s1", "migration failed")
			p := w.run()
			if p.Actions[0].Kind != Halt {
				t.Fatalf("actions %s", kinds(p))
			}
			w.wantActions("")
			w.wantBlockedAfterNext("staging", "hold")
		})
	}
}

// R1: a revert asks for a rollback, is answered once, and holds the channel until a person lifts it.
func TestRevertIsARollbackRequest(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.wait(2*time.Minute, "staging", "dedicated")
	before := map[string]string{"channels/staging/head.yaml": w.files["channels/staging/head.yaml"], "channels/staging/decision.json": ""}
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wait(2*time.Minute, "staging", "dedicated")
	w.settle()
	w.commit("eve", "Revert \"promote 1.1.0 to staging\"", before)
	if e := w.desired().Channels["staging"].Effective; e.Release != "1.1.0" {
		t.Fatalf("a hand's head is effective: %+v", e)
	}
	p := w.wantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Requested != "eve" || a.Sequence != 9 {
		t.Errorf("answer %+v", a)
	}
	w.settle()
	w.wait(2*time.Minute, "staging", "dedicated")
	w.wantBlocked("staging", "hold", "rolled back by hand")
	lift := map[string]string{}
	for name := range w.files {
		if strings.Contains(name, "/holds/") {
			lift[name] = ""
		}
	}
	w.commit("eve", "lift", lift)
	w.wantActions("promote 1.1.0 staging")
}

// Fault 42: a hand-written head that makes no sense is a request, answered by a verdict.
func TestHandEditedHead(t *testing.T) {
	for name, c := range map[string]struct{ head, reason string }{
		"unknown release": {"release: 9.9.9\n", "9.9.9, which is not in the repository"},
		"same release":    {"release: 1.0.0\nsequence: 99\n", "the head already"},
		"no head at all":  {"nonsense: true\n", "release is required"},
		"removed":         {"", "was removed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoChannels(t).installed()
			w.settle()
			w.commit("eve", "edit", map[string]string{"channels/dedicated/head.yaml": c.head})
			w.wantActions("")
			w.wantBlocked("dedicated", "request", c.reason)
			if e := w.desired().Channels["dedicated"].Effective; e == nil || e.Release != "1.0.0" || e.Sequence != 7 {
				t.Errorf("effective head %+v", e)
			}
		})
	}
}

// R1: a request upward passes the gates like any release, and is answered by a commit that names who asked.
func TestRequestUpward(t *testing.T) {
	w := twoChannels(t, policy("staging", "promote: manual\n")).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("")
	w.wantBlocked("staging", "manual", "sluice promote 1.1.0")
	w.commit("eve", "ask", map[string]string{"channels/staging/head.yaml": strings.Replace(w.files["channels/staging/head.yaml"], "1.0.0", "1.1.0", 1)})
	p := w.wantActions("promote 1.1.0 staging")
	if p.Actions[0].Requested != "eve" {
		t.Errorf("answer %+v", p.Actions[0])
	}
	w.wantActions("grant 1.1.0 staging s1+s2")
	w.wantActions("")
}

// R7, fault 55: staging moved on before dedicated's window opened: what it accepted stays accepted.
func TestAcceptanceLatches(t *testing.T) {
	w := newWorld(t, union(
		policy("staging", "advance: newest\n"),
		policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n  - window: {opens: \"0 9 * * *\", for: 1h}\n"),
		cellFiles("staging", "s1"), cellFiles("dedicated", "acme"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	)).installed()
	w.now = w.now.Add(2 * time.Hour) // 11:30: closed
	w.installed().settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wait(2*time.Hour, "staging", "dedicated")
	w.settle()
	w.wantBlocked("dedicated", "window", "opens")
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("promote 1.2.0 staging")
	w.settle()
	w.now = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	w.report("acme", cells.StateHealthy)
	w.wantActions("promote 1.1.0 dedicated")
}

// R8: settled keeps a head until downstream accepted it; newest does not wait.
func TestSettled(t *testing.T) {
	w := twoChannels(t).installed()
	w.wait(time.Hour, "staging", "dedicated")
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.commit("bob", "cut", release("1.2.0"))
	w.wait(time.Minute, "staging", "dedicated")
	w.wantActions("")
	w.wantBlocked("staging", "settled", "keeps 1.1.0 until dedicated accepted it")
	w.wait(time.Hour, "staging", "dedicated")
	w.wantActions("promote 1.2.0 staging; promote 1.1.0 dedicated")
}

// R6: a channel whose policy is invalid promotes and grants nothing; others go on.
func TestInvalidPolicy(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "mistype", policy("staging", "freezes: [{form: 2026-12-20T00:00:00Z}]\n"))
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("")
	w.wantBlocked("staging", "invalid", "channels/staging/channel.yaml:3")
}

// R13, fault 52: a typo in one cell's values: only that cell goes back, and the release is not blamed.
func TestValuesAloneAreNotTheReleasesFault(t *testing.T) {
	w := twoChannels(t, release("1.0.0", "parameters:\n  domain: {type: string}\n")).installed()
	w.settle()
	cell := w.files["cells/acme/cell.yaml"]
	w.commit("eve", "values", map[string]string{"cells/acme/cell.yaml": cell + "values: {domain: acme.example}\n"})
	w.wantActions("grant 1.0.0 dedicated acme")
	w.now = w.now.Add(time.Minute)
	w.fails("acme", "no such domain")
	w.wantActions("")
	w.commit("eve", "values", map[string]string{"cells/acme/cell.yaml": cell + "values: {domian: acme.example}\n"})
	w.wantActions("")
	w.wantBlocked("dedicated", "values", "domian")
}

// R2: a cell that moves from a channel at a higher sequence takes a grant of a higher epoch.
func TestMoveBetweenChannels(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.commit("eve", "move", cellFiles("dedicated", "s2"))
	w.wantActions("grant 1.0.0 dedicated s2")
	if g := w.obs.Cells["s2"].Granted; g.Epoch != 1 || g.Sequence != 7 || g.Channel != "dedicated" {
		t.Errorf("grant %+v", g)
	}
	w.wantActions("")
}

// R5: after a force-push nothing moves.
func TestDiverged(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.obs.Diverged = &Divergence{Seen: "4f0c", Tip: w.tip}
	w.wantActions("")
	w.wantBlocked("staging", "diverged", "Acknowledge-Divergence: 4f0c")
}

// R10: clocks that can't be trusted block what time decides.
func TestClock(t *testing.T) {
	w := twoChannels(t).installed()
	w.wait(2*time.Hour, "staging", "dedicated")
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wait(2*time.Hour, "staging", "dedicated")
	w.obs.Clock.Step = 2 * time.Minute
	w.wantActions("")
	w.wantBlocked("dedicated", "clock", "stepped by 2m")
	w.obs.Clock = Clock{}
	w.wantActions("promote 1.1.0 dedicated")
}

// R2: sequences rise above any that was ever served.
func TestSequenceRisesAboveServed(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.obs.Served["staging"] = 120
	w.commit("bob", "cut", release("1.1.0"))
	if p := w.wantActions("promote 1.1.0 staging"); p.Actions[0].Sequence != 121 {
		t.Errorf("sequence %d", p.Actions[0].Sequence)
	}
}

// Invariant 2: the same inputs give the same bytes.
func TestSameBytes(t *testing.T) {
	w := twoChannels(t).installed()
	w.commit("bob", "cut", release("1.1.0"))
	var first []byte
	for range 5 {
		data, err := json.Marshal(w.plan())
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
