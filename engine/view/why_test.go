package view_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
)

// Invariant 10: whatever holds something has its why, in why, status, rollout status and plan alike, even if nothing
// waits for it now. What a person said is told in that person's words.
func TestEverythingHeldHasAWhy(t *testing.T) {
	freeze := "freezes: [{from: 2026-11-20T00:00:00Z, until: 2026-12-01T00:00:00Z, reason: their fair}]\n"
	for name, tt := range map[string]struct {
		change func(*World)
		unread *view.Unread
		code   reason.Code
		says   string
		about  string // the cell or the channel
	}{
		"a hold": {func(w *World) {
			w.Commit("eve", "hold", map[string]string{
				"channels/staging/holds/x.yaml": "reason: incident 512\nby: Eve\n",
			})
		}, nil, reason.Hold, "incident 512 (Eve, x)", "staging"},
		"a second hold": {func(w *World) {
			w.Commit("eve", "hold", map[string]string{
				"channels/staging/holds/a.yaml": "reason: first\n", "channels/staging/holds/b.yaml": "reason: second\n",
			})
			w.Commit("bob", "cut", Release("1.2.0"))
		}, nil, reason.Hold, "second", "staging"},
		"a hold of a cell": {func(w *World) {
			w.Commit("eve", "hold", map[string]string{
				"channels/staging/holds/x.yaml": "reason: their audit\ncells: [s1]\n",
			})
		}, nil, reason.Hold, "their audit", "s1"},
		"a freeze": {func(w *World) { w.Commit("eve", "freeze", Policy("staging", freeze)) }, nil, reason.Frozen,
			"their fair", "staging"},
		"a freeze of everything": {func(w *World) {
			w.Commit("eve", "freeze", map[string]string{"sluice.yaml": w.Files["sluice.yaml"] + freeze})
		}, nil, reason.Frozen, "their fair", "dedicated"},
		"a pause by the vendor": {func(w *World) {
			file := "cells/s1/cell.yaml"
			w.Commit("eve", "pause", map[string]string{file: w.Files[file] + "paused: no disk\n"})
		}, nil, reason.CellPaused, "no disk", "s1"},
		"a pause by the owner": {func(w *World) { w.SetOwnerDecision("s1", &cells.Owner{Paused: "audit"}) }, nil,
			reason.OwnerPaused, "audit", "s1"},
		"a request": {func(w *World) {
			w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
			w.Commit("bob", "cut", Release("1.2.0"))
			w.Commit("Eve", "promote 1.2.0 to staging\n\nthe customer waits\n\nCo-authored-by: Bob <bob@example.com>\n",
				map[string]string{"channels/staging/head.yaml": "release: 1.2.0\n"})
		}, nil, reason.RequestWaits, "Eve asked for 1.2.0 in ", "staging"},
		"a maintenance": {func(w *World) {
			w.Commit("bob", "cut", Release("1.1.0"))
			w.Settle()
			prev := w.Obs.Cells["s1"]
			w.Obs.Cells["s1"] = w.Receive(prev, cells.Report{Cell: "s1", Boot: "b", Sent: w.Now,
				State: cells.StateHealthy, Running: prev.Running, Acknowledged: prev.Granted,
				Maintenance: &cells.MaintenanceReport{Phase: maintenance.Draining, Release: "1.1.0", Begins: w.Now,
					Until: w.Now.Add(time.Hour)}})
		}, nil, reason.MaintenanceDraining, "operations are refused", "s1"},
		"a quarantine": {func(w *World) {
			w.Commit("bob", "cut", Release("1.2.0"))
			w.Commit("eve", "quarantine", map[string]string{
				"quarantine/1.2.0.yaml": "digest: " + string(w.Digest("1.2.0")) + "\nreason: loses data\nby: Eve\n",
			})
		}, nil, reason.Quarantine, "loses data (Eve)", "staging"},
		"a release below the head": {func(w *World) { w.Commit("bob", "cut", Release("0.9.0")) }, nil,
			reason.VersionPassed, "it is below the head 1.0.0", "staging"},
		"a pre-release that no channel takes": {func(w *World) { w.Commit("bob", "cut", Release("2.0.0-rc.1")) }, nil,
			reason.Prerelease, "staging takes no pre-releases", "staging"},
		"an unreadable repository": {func(*World) {}, &view.Unread{Since: Start, Reason: "no route to host"},
			reason.RepositoryUnread, "no route to host", "staging"},
	} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t).ReportInstalled()
			w.Settle()
			tt.change(w)
			v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan(), Unread: tt.unread}
			isIt := func(b channels.Verdict) bool { return b.Code == tt.code && strings.Contains(b.Reason, tt.says) }
			if !slices.ContainsFunc(v.Verdicts(), isIt) {
				t.Errorf("plan: %v", v.Verdicts())
			}
			why, ok := view.Why(v, tt.about, time.Time{})
			if !ok || !strings.Contains(strings.Join(why.Lines, "\n"), tt.says) ||
				!slices.ContainsFunc(why.Blocked, isIt) {
				t.Errorf("why: %q %v", why.Lines, why.Blocked)
			}
			inStatus := tt.unread != nil
			s := view.StatusOf(v, view.StatusPage{})
			for _, c := range s.Channels {
				inStatus = inStatus || c.Name == tt.about && slices.ContainsFunc(c.Blocked, isIt)
			}
			for _, c := range s.Cells {
				inStatus = inStatus || c.Name == tt.about && slices.ContainsFunc(c.Blocked, isIt)
			}
			if !inStatus {
				t.Errorf("status: %v", s)
			}
			inRollouts := false
			for _, p := range view.Rollouts(v, "") {
				inRollouts = inRollouts || slices.ContainsFunc(p.Blocked, isIt)
				for _, n := range p.Waiting {
					inRollouts = inRollouts || n.Code == tt.code && slices.Contains(n.Cells, tt.about)
				}
			}
			if !inRollouts {
				t.Errorf("rollouts: %v", view.Rollouts(v, ""))
			}
		})
	}
}

// why and status name a maintenance by its phase, since when and until when, the operations that are refused, and what
// came of the earlier ones.
func TestMaintenanceIsNamed(t *testing.T) {
	w := One(t, "", Release("1.1.0", "maintenance: {refuses: [start, fork]}\n"))
	totals := maintenance.Totals{Begun: 3, PutOff: 1, Overran: 1, Seconds: 130,
		Refused: map[string]int64{"start": 12, "fork": 3}, Last: &maintenance.Lasted{Release: "0.9.0", Seconds: 42}}
	history := "3 maintenances so far, 2m10s in all, the last that was through 42s, for 0.9.0; put off 1 time; " +
		"overran 1 time; refused: 3 fork, 12 start"
	for _, c := range []struct {
		report cells.MaintenanceReport
		lines  []string
		note   string
	}{
		{cells.MaintenanceReport{Phase: maintenance.Announced, Release: "1.1.0", Begins: w.Now.Add(time.Hour)},
			[]string{"maintenance for 1.1.0, announced: it begins at "}, "announced"},
		{cells.MaintenanceReport{Phase: maintenance.Draining, Release: "1.1.0", Begins: w.Now,
			Until: w.Now.Add(time.Hour), Totals: totals},
			[]string{"maintenance for 1.1.0, draining: start and fork are refused since ", history}, "draining"},
		{cells.MaintenanceReport{Phase: maintenance.Drained, Release: "of no repository", Begins: w.Now,
			Until: w.Now.Add(time.Hour)}, []string{"snapshot, start and stop are refused since "}, "drained"},
		{cells.MaintenanceReport{Overran: w.Now, Totals: totals}, []string{"its maintenance overran at ", history}, ""},
		{cells.MaintenanceReport{Totals: maintenance.Totals{Begun: 3, Unasked: 2, Ignored: 1}},
			[]string{"in 2 maintenances no program of the cell asked", "1 operation ran although refused"}, ""},
	} {
		w.Obs.Cells["s1"].Maintenance = &c.report
		v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}
		why, _ := view.Why(v, "s1", time.Time{})
		for _, want := range c.lines {
			if !strings.Contains(strings.Join(why.Lines, "\n"), want) {
				t.Errorf("%+v: why lacks %q: %q", c.report, want, why.Lines)
			}
		}
		for _, cell := range view.StatusOf(v, view.StatusPage{}).Cells {
			m := cell.Maintenance
			if cell.Name != "s1" {
				if m != nil {
					t.Errorf("%s: %+v", cell.Name, m)
				}
				continue
			}
			if m == nil || m.Phase != c.report.Phase || !m.Since.Equal(c.report.Begins) ||
				!m.Until.Equal(c.report.Until) || !strings.Contains(m.String(), c.note) ||
				(m.String() == "") != (c.note == "") {
				t.Errorf("status: %+v", m)
			}
		}
	}
}

// A rollback that a person asked for carries that person's reason into the hold, the commit and why.
func TestRollbackKeepsTheReason(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("promote 1.1.0 staging")
	w.Now = w.Now.Add(time.Minute)
	w.Commit("Eve", "roll back staging\n\nit is slow\n",
		map[string]string{"channels/staging/head.yaml": "release: 1.0.0\n"})
	w.WantActions("rollback 1.0.0 staging")
	why, _ := view.Why(&view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}, "staging", time.Time{})
	if !strings.Contains(strings.Join(why.Lines, "\n"), "it is slow") {
		t.Errorf("why: %q", why.Lines)
	}
}

// why V says of each channel where the release is, or what it waits for.
func TestWhyOfARelease(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: their audit\ncells: [s1]\n"})
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Run()
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Commit("bob", "cut", Release("1.3.0"))
	w.Commit("bob", "cut", Release("0.9.0"))
	w.Commit("bob", "cut", Release("2.0.0-rc.1"))
	v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}
	for version, wants := range map[string][]string{
		"1.0.0": {"staging: had it until ", "and then 1.1.0", "dedicated: runs it since "},
		"1.1.0": {"staging: runs it since ", "staging: hold keeps it from s1: their audit",
			"dedicated: soak blocked: "},
		"1.2.0": {"staging: 1.3.0 goes first, which is greater",
			"dedicated: takes it after staging, where it is not yet"},
		"1.3.0":      {"staging: settled blocked: keeps 1.1.0"},
		"0.9.0":      {"staging: runs 1.1.0, which is greater, and never had it"},
		"2.0.0-rc.1": {"staging: prerelease blocked: staging takes no pre-releases", "dedicated: takes no pre-rel"},
	} {
		why, ok := view.Why(v, version, time.Time{})
		if !ok || why.Kind != view.SubjectRelease {
			t.Errorf("%s: %v", version, why)
		}
		for _, want := range wants {
			if !strings.Contains(strings.Join(why.Lines, "\n"), want) {
				t.Errorf("%s lacks %q:\n%s", version, want, strings.Join(why.Lines, "\n"))
			}
		}
	}
	local := &view.View{Desired: w.Desired(), Observed: &plan.Observed{}, Plan: v.Plan, NotObserved: true}
	why, _ := view.Why(local, "s1", time.Time{})
	if got := strings.Join(why.Lines, "\n"); !strings.Contains(got, view.NotObserved) ||
		strings.Contains(got, "reported") || strings.Contains(got, "sluice cell add") {
		t.Errorf("without observations:\n%s", got)
	}
	if _, ok := view.Why(v, "9.9.9", time.Time{}); ok {
		t.Error("a release that is not there is explained")
	}
}

// The objects that do not work in a cell are a field of their own in why and in the answer about the cell, and lines
// for people; the list of all cells leaves them out.
func TestUnhealthyObjectsAreShown(t *testing.T) {
	w := One(t, "")
	w.Report("s1", cells.StateUnhealthy)
	w.Obs.Cells["s1"].Unhealthy = &cells.Unhealthy{Reason: "2 of 9 objects not healthy", More: 1,
		Objects: []cells.ObjectHealth{{Object: "Deployment shop/web", Reason: "0 of 2 pods are ready",
			Events: []string{"pod web-1: server: ImagePullBackOff"}}}}
	v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}
	e, _ := view.Why(v, "s1", time.Time{})
	text := strings.Join(e.Lines, "\n")
	for _, want := range []string{"not healthy: Deployment shop/web: 0 of 2 pods are ready (pod web-1: server: ",
		"not healthy: and 1 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("why lacks %q:\n%s", want, text)
		}
	}
	if e.Unhealthy == nil || e.Unhealthy.More != 1 || view.CellOf(v, "s1").Unhealthy != e.Unhealthy {
		t.Errorf("why has %+v", e.Unhealthy)
	}
	for _, c := range view.StatusOf(v, view.StatusPage{}).Cells {
		if c.Unhealthy != nil {
			t.Errorf("the list of cells has the objects of %s", c.Name)
		}
	}
}
