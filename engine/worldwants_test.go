package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
)

// one is a single channel at 1.0.0 with two cells.
func one(t testing.TB, text string, more ...map[string]string) *world {
	w := newWorld(t, union(append([]map[string]string{
		policy("staging", text), cellFiles("staging", "s1", "s2"), release("1.0.0"), head("staging", "1.0.0"),
	}, more...)...)).installed()
	w.through()
	return w
}

// through lets what was granted be installed everywhere, and settles.
func (w *world) through() {
	w.t.Helper()
	w.settle()
	w.now = w.now.Add(time.Minute)
	for name := range w.desired().Cells {
		w.report(name, cells.StateHealthy)
	}
	w.settle()
}

// takes cuts a release, and has the channel take it and all its cells run it.
func (w *world) takes(channel, version string, more ...string) {
	w.t.Helper()
	w.commit("bob", "cut "+version, release(version, more...))
	w.through()
	w.wantHead(channel, version)
}

func (w *world) unhold() {
	w.t.Helper()
	lift := map[string]string{}
	for name := range w.files {
		if strings.Contains(name, "/holds/") {
			lift[name] = ""
		}
	}
	w.commit("eve", "lift", lift)
}

func (w *world) ask(channel, version string) {
	w.t.Helper()
	w.commit("eve", "ask for "+version, map[string]string{"channels/" + channel + "/head.yaml": "release: " + version + "\n"})
}

// arrive lets a cell report for the first time, or again: pending, or healthy on what it was granted.
func (w *world) arrive(name string) {
	w.t.Helper()
	state := cells.StatePending
	prev := w.obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.now, State: state}
	if g := prev.last(); g != nil {
		r.State, r.Running = cells.StateHealthy, g
	}
	w.obs.Cells[name] = w.receive(prev, r)
}

// sideBySide is two channels that have nothing to do with each other, at 1.0.0: alpha comes first in a chain.
func sideBySide(t testing.TB, alpha, beta string, more ...map[string]string) *world {
	return newWorld(t, union(append([]map[string]string{
		policy("alpha", alpha), policy("beta", beta), cellFiles("alpha", "a1"), cellFiles("beta", "b1"),
		release("1.0.0"), head("alpha", "1.0.0"), head("beta", "1.0.0"),
	}, more...)...)).installed()
}

func (w *world) wantHead(channel, release string) {
	w.t.Helper()
	if got := w.desired().Channels[channel].Effective.Release; got != release {
		w.t.Fatalf("%s is at %s, want %s", channel, got, release)
	}
}

// twoChannels is staging before dedicated, which asks for an hour's soak; both run 1.0.0.
func twoChannels(t testing.TB, more ...map[string]string) *world {
	return newWorld(t, union(append([]map[string]string{
		policy("staging", ""),
		policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, cells: 2}\n"),
		cellFiles("staging", "s1", "s2"), cellFiles("dedicated", "acme", "beta"),
		release("1.0.0"), head("staging", "1.0.0"), head("dedicated", "1.0.0"),
	}, more...)...))
}

// installed lets all cells report that they run their channel's head.
func (w *world) installed() *world {
	w.t.Helper()
	d := w.desired()
	for name, cell := range d.Cells {
		e := d.Channels[cell.Channel].Effective
		a := Assign(d, cell, e, nil)
		w.obs.Cells[name] = w.receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: &a})
	}
	return w
}

func kinds(p Plan) string {
	var all []string
	for _, a := range p.Actions {
		s := string(a.Kind) + " " + a.Release + " " + a.Channel
		if a.Kind == Grant {
			s += " " + strings.Join(a.Cells, "+")
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

func (w *world) wantActions(want string) Plan {
	w.t.Helper()
	p := w.run()
	if got := kinds(p); got != want {
		w.t.Fatalf("at %s: actions %q, want %q\nblocked: %v", w.now.Format(time.RFC3339), got, want, p.Blocked)
	}
	return p
}

func (w *world) wantBlocked(channel, gate, reason string) {
	w.t.Helper()
	for _, b := range w.plan().Blocked {
		if b.Channel == channel && b.Gate == gate && strings.Contains(b.Reason, reason) {
			return
		}
	}
	w.t.Fatalf("no verdict of %s about %s with %q in %v", gate, channel, reason, w.plan().Blocked)
}

func (w *world) wantBlockedAfterNext(channel, gate string) {
	w.t.Helper()
	w.commit("bob", "cut", release("1.9.0"))
	w.wantBlocked(channel, gate, "")
}

// many is a channel at 1.0.0 with n cells, c00 and so on, installed and soaked, and 1.1.0 cut.
func many(t testing.TB, n int, text string, more ...map[string]string) *world {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("c%02d", i))
	}
	w := newWorld(t, union(append([]map[string]string{policy("staging", text), cellFiles("staging", names...), release("1.0.0"), head("staging", "1.0.0")}, more...)...)).installed()
	w.through()
	w.commit("bob", "cut", release("1.1.0"))
	w.wantActions("promote 1.1.0 staging")
	return w
}

// granted runs a plan that does nothing but grant the head, and gives to whom.
func (w *world) granted() []string {
	w.t.Helper()
	p := w.run()
	if len(p.Actions) == 0 {
		return nil
	}
	if len(p.Actions) != 1 || p.Actions[0].Kind != Grant || p.Actions[0].Release != "1.1.0" {
		w.t.Fatalf("did %s, want a grant of 1.1.0", kinds(p))
	}
	return p.Actions[0].Cells
}

// others lets time go by; all cells report but those named. Who was granted something runs it.
func (w *world) others(d time.Duration, silent ...string) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Minute)
		for name := range w.desired().Cells {
			if w.obs.Cells[name] != nil && !slices.Contains(silent, name) {
				w.report(name, cells.StateHealthy)
			}
		}
	}
}

// pending lets a cell report that it has nothing installed.
func (w *world) pending(name string) {
	w.obs.Cells[name] = w.receive(w.obs.Cells[name], cells.Report{Cell: name, State: cells.StatePending})
}

// blockedCell gives the plan's verdict about a cell.
func (w *world) blockedCell(name string) channels.Verdict {
	w.t.Helper()
	for _, b := range w.plan().Blocked {
		if b.Cell == name {
			return b
		}
	}
	return channels.Verdict{}
}

func (w *world) wantGate(name, gate, reason string) channels.Verdict {
	w.t.Helper()
	v := w.blockedCell(name)
	if v.Gate != gate || !strings.Contains(v.Reason, reason) {
		w.t.Errorf("%s: %q, want %s blocked: %s", name, v.String(), gate, reason)
	}
	return v
}

func (w *world) wantBlockedOrIdle(channel, gate string) {
	w.t.Helper()
	for _, b := range w.plan().Blocked {
		if b.Channel == channel && b.Gate != gate {
			w.t.Errorf("%s, want %s", b.String(), gate)
		}
	}
}

// slots are the cells whose offers take a slot, of which there are limit.
func slots(a Action, limit int) (names []string) {
	for _, o := range a.Offers {
		switch o.Cap {
		case 0:
		case limit:
			names = append(names, o.Cell)
		default:
			names = append(names, fmt.Sprintf("%s with a cap of %d", o.Cell, o.Cap))
		}
	}
	return names
}

// says lets a cell's owner decide something.
func (w *world) says(name string, o *cells.Owner) {
	w.t.Helper()
	s := w.obs.Cells[name]
	w.obs.Cells[name] = w.receive(s, cells.Report{Cell: name, Boot: "b", Sent: w.now, State: s.State, Running: s.Running, Owner: o})
}

// begins lets a cell say that it has begun its grant.
func (w *world) begins(name string) {
	w.t.Helper()
	prev := w.obs.Cells[name]
	w.obs.Cells[name] = w.receive(prev, cells.Report{Cell: name, State: cells.StateApplying, Running: prev.Running, Applying: prev.last()})
}

// keeps lets a cell report what it runs and remembers, whatever it was granted.
func (w *world) keeps(name string) {
	w.t.Helper()
	s := w.obs.Cells[name]
	w.obs.Cells[name] = w.receive(s, cells.Report{Cell: name, State: cells.StateHealthy, Running: s.Running, Failures: plain(s.Failures)})
}

func hotfix(channel, version, more string) map[string]string {
	return map[string]string{"channels/" + channel + "/hotfixes/" + version + ".yaml": "digest: @digest:" + version + "\nreason: CVE-1\nexpiry: 2026-11-23T12:00:00Z\n" + more}
}
