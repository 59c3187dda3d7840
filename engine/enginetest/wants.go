package enginetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// One returns a world with a single channel at 1.0.0 with two cells.
func One(t testing.TB, text string, more ...map[string]string) *World {
	w := NewWorld(t, Union(append([]map[string]string{
		Policy("staging", text), CellFiles("staging", "s1", "s2"), Release("1.0.0"), Head("staging", "1.0.0"),
	}, more...)...)).ReportInstalled()
	w.InstallAll()
	return w
}

// InstallAll makes every cell install what it was granted, and settles.
func (w *World) InstallAll() {
	w.T.Helper()
	w.Settle()
	w.Now = w.Now.Add(time.Minute)
	for name := range w.Desired().Cells {
		w.Report(name, cells.StateHealthy)
	}
	w.Settle()
}

// CutAndInstall cuts a release, and makes the channel take it and all its cells run it.
func (w *World) CutAndInstall(channel, version string, more ...string) {
	w.T.Helper()
	w.Commit("bob", "cut "+version, Release(version, more...))
	w.InstallAll()
	w.WantHead(channel, version)
}

func (w *World) Unhold() {
	w.T.Helper()
	lift := map[string]string{}
	for name := range w.Files {
		if strings.Contains(name, "/holds/") {
			lift[name] = ""
		}
	}
	w.Commit("eve", "lift", lift)
}

func (w *World) RequestRelease(channel, version string) {
	w.T.Helper()
	head := "channels/" + channel + "/head.yaml"
	w.Commit("eve", "ask for "+version, map[string]string{head: "release: " + version + "\n"})
}

// ReportFirst makes a cell report, possibly for the first time: pending, or healthy on what it was granted.
func (w *World) ReportFirst(name string) {
	w.T.Helper()
	state := cells.StatePending
	prev := w.Obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: state}
	if g := prev.Last(); g != nil {
		r.State, r.Running = cells.StateHealthy, g
	}
	w.Obs.Cells[name] = w.Receive(prev, r)
}

func (w *World) WantHead(channel, release string) {
	w.T.Helper()
	if got := w.Desired().Channels[channel].Effective.Release; got != release {
		w.T.Fatalf("%s is at %s, want %s", channel, got, release)
	}
}

// TwoChannels returns a world with staging before dedicated, which asks for an hour's soak; both run 1.0.0.
func TwoChannels(t testing.TB, more ...map[string]string) *World {
	return NewWorld(t, Union(append([]map[string]string{
		Policy("staging", ""),
		Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, cells: 2}\n"),
		CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme", "beta"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"),
	}, more...)...))
}

// ReportInstalled makes all cells report that they run their channel's head.
func (w *World) ReportInstalled() *World {
	w.T.Helper()
	d := w.Desired()
	for name, cell := range d.Cells {
		e := d.Channels[cell.Channel].Effective
		a := plan.Assign(d, cell, e, nil)
		w.Obs.Cells[name] = w.Receive(nil, cells.Report{Cell: name, State: cells.StateHealthy, Running: &a})
	}
	return w
}

func Kinds(p plan.Plan) string {
	var all []string
	for _, a := range p.Actions {
		s := string(a.Kind) + " " + a.Release + " " + a.Channel
		if a.Kind == plan.Grant {
			s += " " + strings.Join(a.Cells, "+")
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

func (w *World) WantActions(want string) plan.Plan {
	w.T.Helper()
	p := w.Run()
	if got := Kinds(p); got != want {
		w.T.Fatalf("at %s: actions %q, want %q\nblocked: %v", w.Now.Format(time.RFC3339), got, want, p.Blocked)
	}
	return p
}

func (w *World) WantBlocked(channel, gate, reason string) {
	w.T.Helper()
	for _, b := range w.Plan().Blocked {
		if b.Channel == channel && b.Gate == gate && strings.Contains(b.Reason, reason) {
			return
		}
	}
	w.T.Fatalf("no verdict of %s about %s with %q in %v", gate, channel, reason, w.Plan().Blocked)
}

func (w *World) WantBlockedAfterNext(channel, gate string) {
	w.T.Helper()
	w.Commit("bob", "cut", Release("1.9.0"))
	w.WantBlocked(channel, gate, "")
}

// Granted runs a plan that must only grant the head, and returns to which cells.
func (w *World) Granted() []string {
	w.T.Helper()
	p := w.Run()
	if len(p.Actions) == 0 {
		return nil
	}
	if len(p.Actions) != 1 || p.Actions[0].Kind != plan.Grant || p.Actions[0].Release != "1.1.0" {
		w.T.Fatalf("did %s, want a grant of 1.1.0", Kinds(p))
	}
	return p.Actions[0].Cells
}

// WaitWithout lets time pass while all cells but the named ones report; a cell with a grant runs it.
func (w *World) WaitWithout(d time.Duration, silent ...string) {
	w.T.Helper()
	for end := w.Now.Add(d); w.Now.Before(end); {
		w.Now = w.Now.Add(time.Minute)
		for name := range w.Desired().Cells {
			if w.Obs.Cells[name] != nil && !slices.Contains(silent, name) {
				w.Report(name, cells.StateHealthy)
			}
		}
	}
}

// ReportPending makes a cell report that it has nothing installed.
func (w *World) ReportPending(name string) {
	w.Obs.Cells[name] = w.Receive(w.Obs.Cells[name], cells.Report{Cell: name, State: cells.StatePending})
}

// blockedCell returns the plan's verdict about a cell.
func (w *World) blockedCell(name string) channels.Verdict {
	w.T.Helper()
	for _, b := range w.Plan().Blocked {
		if b.Cell == name {
			return b
		}
	}
	return channels.Verdict{}
}

func (w *World) WantGate(name, gate, reason string) channels.Verdict {
	w.T.Helper()
	v := w.blockedCell(name)
	if v.Gate != gate || !strings.Contains(v.Reason, reason) {
		w.T.Errorf("%s: %q, want %s blocked: %s", name, v.String(), gate, reason)
	}
	return v
}

func (w *World) WantBlockedOrIdle(channel, gate string) {
	w.T.Helper()
	for _, b := range w.Plan().Blocked {
		if b.Channel == channel && b.Gate != gate {
			w.T.Errorf("%s, want %s", b.String(), gate)
		}
	}
}

// SetOwnerDecision makes a cell's owner decide something.
func (w *World) SetOwnerDecision(name string, o *cells.Owner) {
	w.T.Helper()
	s := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(s, cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: s.State,
		Running: s.Running, Owner: o})
}

// ReportBegun makes a cell report that it has begun its grant.
func (w *World) ReportBegun(name string) {
	w.T.Helper()
	prev := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(prev, cells.Report{Cell: name, State: cells.StateApplying, Running: prev.Running,
		Applying: prev.Last()})
}

// ReportMemory makes a cell report what it runs and remembers, whatever it was granted.
func (w *World) ReportMemory(name string) {
	w.T.Helper()
	s := w.Obs.Cells[name]
	w.Obs.Cells[name] = w.Receive(s, cells.Report{Cell: name, State: cells.StateHealthy, Running: s.Running,
		Failures: Plain(s.Failures)})
}

// CutAndInstallWithout cuts a release, and makes all cells of staging but the named ones run it.
func (w *World) CutAndInstallWithout(t *testing.T, version string, silent ...string) {
	t.Helper()
	w.Commit("bob", "cut "+version, Release(version))
	w.Settle()
	w.WaitWithout(time.Minute, silent...)
	w.Settle()
	w.WantHead("staging", version)
}
