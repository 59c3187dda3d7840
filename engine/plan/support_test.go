package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
)

// infrastructureUpdate returns the files of an infrastructure update.
func infrastructureUpdate(n int, more string) map[string]string {
	dir := fmt.Sprintf("infrastructure/%d/", n)
	return map[string]string{
		dir + "infrastructure.yaml": fmt.Sprintf("apiVersion: sluice/v1\nkind: Infrastructure\nnumber: %d\n"+
			"notes: newer nodes\nimpact: none\norder: [instance]\n%s", n, more),
		dir + "instance.yaml": "Resources: {}\n",
	}
}

// notified returns the record of a cell that was notified of an update at an instant, and has 14 days.
func notified(w *World, cell string, n int, at time.Time) {
	w.T.Helper()
	due := at.Add(14 * 24 * time.Hour)
	w.Commit("sluice", "notify "+cell, map[string]string{"cells/" + cell + "/infrastructure.yaml": fmt.Sprintf(
		"apiVersion: sluice/v1\nkind: InfrastructureRecord\nupdates:\n  - {number: %d, noticed: %s, by: mail, "+
			"delivered: %[2]s, due: %s}\n", n, at.Format(time.RFC3339), due.Format(time.RFC3339))})
}

// has makes a cell report that it has executed an update.
func has(w *World, cell string, n int) {
	w.Obs.Cells[cell].Infrastructure = n
	w.Report(cell, cells.StateHealthy)
}

func supportVerdicts(w *World) (all []string) {
	for _, v := range w.Plan().Blocked {
		if v.Code == reason.InfrastructureOverdue {
			all = append(all, strings.TrimSpace(v.Cell+" "+v.Release))
		}
	}
	return all
}

// R62: an overdue cell gets no new head; the others do, and nothing waits for it. It keeps what it runs, still goes
// back, and gets the head within one report of the executed update.
func TestR62OverdueCellGetsNoNewHead(t *testing.T) {
	w := NewWorld(t, Union(
		Policy("staging", ""), Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h}\n"),
		CellFiles("staging", "s1", "s2"), CellFiles("dedicated", "acme"),
		Release("1.0.0"), Head("staging", "1.0.0"), Head("dedicated", "1.0.0"), infrastructureUpdate(7, ""),
	)).ReportInstalled()
	w.Settle()
	has(w, "s1", 7)
	has(w, "acme", 7)
	notified(w, "s2", 7, w.Now)
	// the plan wakes by itself: first when the cell is due soon, then at the deadline
	p := w.Settle()
	if soon := w.Now.Add(11 * 24 * time.Hour); !p.NextInContact.Equal(soon) {
		t.Errorf("the next plan in contact is at %s, want %s", p.NextInContact, soon)
	}
	w.Now = w.Now.Add(14*24*time.Hour - time.Second)
	for _, name := range []string{"s1", "s2", "acme"} {
		w.Report(name, cells.StateHealthy)
	}
	if got := supportVerdicts(w); len(got) != 0 {
		t.Fatalf("a second before the deadline: %v", got)
	}
	w.Now = w.Now.Add(time.Second)
	if got := supportVerdicts(w); !slices.Equal(got, []string{"s2"}) {
		t.Fatalf("at the deadline, with nothing to grant: %v", got)
	}

	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.WantActions("grant 1.1.0 staging s1")
	if got := supportVerdicts(w); !slices.Equal(got, []string{"s2 1.1.0"}) {
		t.Errorf("while it waits for a head: %v", got)
	}
	v := w.WantGate("s2", "support", "infrastructure update 7 was due, and the cell has 0")
	if !strings.Contains(v.Reason, "sluice infra show s2") {
		t.Errorf("the verdict has no next step: %s", v.Reason)
	}
	w.Wait(62*time.Minute, "staging", "dedicated") // one laggard blocks no channel (R16)
	w.WantActions("promote 1.1.0 dedicated")
	w.Settle()

	has(w, "s2", 7)
	w.WantActions("grant 1.1.0 staging s2")
	if got := supportVerdicts(w); len(got) != 0 {
		t.Errorf("after the update: %v", got)
	}
	w.InstallAll()

	has(w, "s2", 6) // an older stack again: the old deadline counts
	w.Commit("eve", "bad", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: bad\n"})
	w.Settle()
	if g := w.Obs.Cells["s2"].Granted; g.Release != "1.0.0" {
		t.Errorf("out of support it does not go back: it was granted %s", g.Release)
	}
}

// R16, R62: a release that requires a greater infrastructure is held for that before any deadline, and for both after.
func TestR62RequirementAndDeadline(t *testing.T) {
	w := One(t, "", infrastructureUpdate(7, "")).ReportInstalled()
	w.Settle()
	has(w, "s2", 7)
	w.Commit("bob", "cut", Release("1.1.0", "requires: {infrastructure: 7}\n"))
	w.Settle()
	w.WantGate("s1", "requires", "needs infrastructure 7, the cell has 0")
	notified(w, "s1", 7, w.Now.Add(-15*24*time.Hour))
	var gates []string
	for _, b := range w.Plan().Blocked {
		if b.Cell == "s1" {
			gates = append(gates, b.Gate)
		}
	}
	if slices.Sort(gates); !slices.Equal(gates, []string{"requires", "support"}) {
		t.Errorf("verdicts of %v, want both", gates)
	}
}

// R62: the actual infrastructure is what the ladder goes by: while an update is executed, after it was rolled back and
// with drift it does not count, and the deadline goes on; once executed it is not taken back by drift or a failed read.
func TestR62ActualInfrastructure(t *testing.T) {
	w := One(t, "", infrastructureUpdate(7, "")).ReportInstalled()
	w.Settle()
	has(w, "s2", 7)
	notified(w, "s1", 7, w.Now)
	w.Now = w.Now.Add(14 * 24 * time.Hour)
	w.Commit("bob", "cut", Release("1.1.0", "requires: {infrastructure: 7}\n"))
	w.Settle()
	const file = cells.SourceFile
	for _, c := range []struct {
		what string
		is   cells.ActualInfrastructure
		want deadline.State
		held bool // by the requirement, and out of support
	}{
		{"a claim of an older agent", cells.ActualInfrastructure{Number: 6}, deadline.Overdue, true},
		{"just started", cells.ActualInfrastructure{Source: file, Fault: "not yet"}, deadline.Overdue, true},
		{"begun", cells.ActualInfrastructure{Number: 6, Source: file, Status: cells.InfrastructureApplying},
			deadline.Applying, true},
		{"nearly there", cells.ActualInfrastructure{Number: 7, Source: file, Status: cells.InfrastructureApplying},
			deadline.Applying, true},
		{"rolled back", cells.ActualInfrastructure{Number: 7, Source: file, Status: cells.InfrastructureFailed},
			deadline.Failed, true},
		{"drifted at first sight", cells.ActualInfrastructure{Number: 7, Source: file,
			Status: cells.InfrastructureApplied, Drift: []string{"NodeGroup"}}, deadline.Failed, true},
		{"applied", cells.ActualInfrastructure{Number: 7, Source: file, Status: cells.InfrastructureApplied},
			deadline.Current, false},
		{"drifted later", cells.ActualInfrastructure{Number: 7, Source: file, Status: cells.InfrastructureDrifted},
			deadline.Failed, false},
		{"restarted, and unreadable", cells.ActualInfrastructure{Source: file, Fault: "denied"}, deadline.Current,
			false},
		{"unreadable", cells.ActualInfrastructure{Number: 7, Source: file, Status: cells.InfrastructureApplied,
			Fault: "denied"}, deadline.Current, false},
		{"lower than before", cells.ActualInfrastructure{Number: 6, Source: file, Status: cells.InfrastructureApplied},
			deadline.Overdue, true},
	} {
		w.Now = w.Now.Add(10 * time.Second)
		prev := w.Obs.Cells["s1"]
		c.is.At = w.Now.Add(-time.Hour) // the cell's clock is an hour slow
		next := w.Receive(prev, cells.Report{Cell: "s1", Boot: "b", Sent: w.Now.Add(-time.Hour),
			State: cells.StateHealthy, Running: prev.Running, Infrastructure: c.is})
		w.Obs.Cells["s1"] = next
		is := w.Desired().Standing(w.Desired().Cells["s1"], next, w.Now)
		if is.State != c.want || is.OutOfSupport != c.held || !plan.StatesDiffer(prev, next) {
			t.Errorf("%s: %+v, news: %t; want %s, out of support: %t", c.what, is, plan.StatesDiffer(prev, next),
				c.want,
				c.held)
		}
		if next.Actual != nil && !next.Actual.At.Equal(w.Now) {
			t.Errorf("%s: read at %s, and it was %s", c.what, next.Actual.At, w.Now)
		}
		held := slices.ContainsFunc(w.Plan().Blocked, func(v channels.Verdict) bool {
			return v.Cell == "s1" && v.Gate == "requires"
		})
		if held != c.held {
			t.Errorf("%s: held by what the release requires: %t", c.what, held)
		}
	}
}

// R62: an open hotfix reaches an overdue cell only where the policy, or the update itself, says so.
func TestR62Hotfixes(t *testing.T) {
	for name, c := range map[string]struct {
		pipeline, update string
		reaches          bool
	}{
		"policy":  {"infrastructure: {hotfixes: true}\n", "", true},
		"update":  {"", "security: true\n", true},
		"neither": {"infrastructure: {deadline: 7d}\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, "", infrastructureUpdate(7, c.update), map[string]string{
				"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n" + c.pipeline})
			w.ReportInstalled()
			w.Settle()
			has(w, "s2", 7)
			notified(w, "s1", 7, w.Now.Add(-15*24*time.Hour))
			w.Commit("bob", "cut", Release("1.0.1", "fixes: [CVE-1]\n"))
			w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", "fixes: [CVE-1]\n"))
			w.Settle()
			if got := w.Obs.Cells["s1"].Last().Release == "1.0.1"; got != c.reaches {
				t.Errorf("the hotfix reaches it: %t, want %t", got, c.reaches)
			}
			w.InstallAll()
			w.Commit("eve", "done", map[string]string{"channels/staging/hotfixes/1.0.1.yaml": ""})
			w.Commit("bob", "cut", Release("1.1.0", "fixes: [CVE-1]\n"))
			w.Settle()
			if w.Obs.Cells["s1"].Last().Release == "1.1.0" {
				t.Error("an ordinary release reached a cell that is out of support")
			}
		})
	}
}

// R62, R47: a record or an update that can't be read is no end of the deadline.
func TestR62UnreadableIsNotOver(t *testing.T) {
	w := One(t, "", infrastructureUpdate(7, "")).ReportInstalled()
	w.Settle()
	has(w, "s2", 7)
	notified(w, "s1", 7, w.Now.Add(-15*24*time.Hour))
	w.Commit("eve", "a mistake", map[string]string{"infrastructure/7/infrastructure.yaml": "number: seven\n"})
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.WantGate("s1", "support", "update 7 was due")
	w.Commit("eve", "another", map[string]string{"cells/s1/infrastructure.yaml": "updates: no\n"})
	w.Settle()
	w.WantGate("s1", "invalid", "cells/s1/infrastructure.yaml")
}

// R52, R62: where the repository lists owners, the record changes by owners and by the engine alone. Who removes or
// renames a cell takes its record along.
func TestR62WhoMayWriteTheRecord(t *testing.T) {
	w := ownedWorld(t, infrastructureUpdate(7, "")).ReportInstalled()
	w.Settle()
	state := func(cell string) deadline.State {
		d := w.Desired()
		return d.Standing(d.Cells[cell], w.Obs.Cells[cell], w.Now).State
	}
	notified(w, "s1", 7, w.Now.Add(-15*24*time.Hour)) // the engine
	file := "cells/s1/infrastructure.yaml"
	if got := state("s1"); got != deadline.Overdue {
		t.Fatalf("after the engine's notice: %s", got)
	}
	was := w.Files[file]
	exempt := "apiVersion: sluice/v1\nkind: InfrastructureRecord\nexempt: we say so\n"
	for _, text := range []string{exempt, ""} {
		w.Commit("bob", "against the engine", map[string]string{file: text})
		if got := state("s1"); got != deadline.Overdue {
			t.Errorf("bob's %q made it %s", text, got)
		}
		wantWithheld(t, w, file)
	}
	w.Commit("bob", "put back", map[string]string{file: was})
	w.Commit("bob", "rename", map[string]string{"cells/s1/cell.yaml": "", file: "",
		"cells/s9/cell.yaml": w.Files["cells/s1/cell.yaml"], "cells/s9/infrastructure.yaml": was})
	if got := state("s9"); got != deadline.Overdue {
		t.Errorf("a rename made it %s", got)
	}
	w.Commit("ada", "exempt", map[string]string{"cells/s9/infrastructure.yaml": exempt})
	if got := state("s9"); got != deadline.Exempt {
		t.Errorf("the owner's commit made it %s", got)
	}
}

// R62: the cell is told of a deadline that runs, with its instant, and of nothing else; once it has passed, that it is
// out of support. Each changes what is answered to the cell, so that it hears of it.
func TestR62TheCellKnowsItsDeadline(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", ""), CellFiles("staging", "s1", "s2"), Release("1.0.0"),
		Head("staging", "1.0.0"), infrastructureUpdate(7, ""))).ReportInstalled()
	w.Settle()
	answer := func(cell string) (codes, etag string) {
		o := w.Obs
		v := &view.View{Desired: w.Desired(), Observed: &o, Plan: w.Plan()}
		d, etag, _ := v.Cell(cell)
		for _, n := range d.Notices {
			codes += n.Code + ": " + n.Text + "\n"
		}
		return codes, etag
	}
	codes, before := answer("s2")
	if codes != "" {
		t.Errorf("without a deadline: %s", codes)
	}
	notified(w, "s2", 7, w.Now)
	due := w.Now.Add(14 * 24 * time.Hour).UTC().Format("2006-01-02")
	codes, running := answer("s2")
	if !strings.Contains(codes, "infrastructure-due: infrastructure update 7 is due at "+due) || running == before {
		t.Errorf("with a deadline: %s", codes)
	}
	if codes, _ := answer("s1"); codes != "" {
		t.Errorf("another cell: %s", codes)
	}
	w.Now = w.Now.Add(15 * 24 * time.Hour)
	w.Report("s2", cells.StateHealthy)
	codes, over := answer("s2")
	if !strings.HasPrefix(codes, "out-of-support: ") || strings.Contains(codes,
		"infrastructure-due") || over == running {
		t.Errorf("after the deadline: %s", codes)
	}
	has(w, "s2", 7)
	if codes, _ := answer("s2"); codes != "" {
		t.Errorf("after the update: %s", codes)
	}
}

// R52, R62: customers execute templates with all their rights, so where there are owners only they change them: an
// update that nobody of them signed is not there, and a change of one leaves it as it was.
func TestR52WhoMayChangeATemplate(t *testing.T) {
	w := ownedWorld(t, infrastructureUpdate(7, "")).ReportInstalled()
	w.Settle()
	wantUpdates := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, u := range w.Desired().Infrastructure {
			got = append(got, fmt.Sprintf("%d %s %t", u.Number, u.Notes, u.Faulty))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	const seven, template = "infrastructure/7/infrastructure.yaml", "infrastructure/7/instance.yaml"
	was := w.Files[template]
	w.Commit("bob", "a new update", infrastructureUpdate(8, ""))
	wantUpdates("bob adds 8", "7 newer nodes false")
	wantWithheld(t, w, "infrastructure/8/infrastructure.yaml", "infrastructure/8/instance.yaml")
	w.Commit("bob", "another template", map[string]string{template: "Resources: {A: {Type: AWS::EC2::VPC}}\n"})
	wantWithheld(t, w, template, "infrastructure/8/infrastructure.yaml", "infrastructure/8/instance.yaml")
	w.Commit("bob", "remove 7", map[string]string{seven: "", template: ""})
	wantUpdates("bob removes 7", "7 newer nodes false")
	w.Commit("bob", "put back", map[string]string{seven: infrastructureUpdate(7, "")[seven], template: was,
		"infrastructure/8/infrastructure.yaml": "", "infrastructure/8/instance.yaml": ""})
	wantWithheld(t, w)
	w.Commit("ada", "a new update", infrastructureUpdate(8, ""))
	wantUpdates("an owner adds 8", "7 newer nodes false", "8 newer nodes false")
}

// R62: a cell that is offline through its whole window is out of support when it comes back as it was. If its customer
// executed the update meanwhile, the first report says so, and it is granted the head.
func TestR62OfflineThroughTheWindow(t *testing.T) {
	for name, executed := range map[string]bool{"as it was": false, "with the update": true} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld(t, Union(Policy("staging", ""), CellFiles("staging", "s1", "s2"), Release("1.0.0"),
				Head("staging", "1.0.0"), infrastructureUpdate(7, ""))).ReportInstalled()
			w.Settle()
			has(w, "s1", 7)
			notified(w, "s2", 7, w.Now)
			w.Commit("bob", "cut", Release("1.1.0"))
			w.Now = w.Now.Add(20 * 24 * time.Hour) // without a word of s2
			w.Report("s1", cells.StateHealthy)
			w.Settle()
			if got := supportVerdicts(w); !slices.Equal(got, []string{"s2 1.1.0"}) {
				t.Fatalf("while it is offline: %v", got)
			}
			if executed {
				has(w, "s2", 7)
				w.WantActions("grant 1.1.0 staging s2")
				return
			}
			w.Report("s2", cells.StateHealthy)
			w.WantActions("")
			w.WantGate("s2", "support", "infrastructure update 7 was due, and the cell has 0")
		})
	}
}
