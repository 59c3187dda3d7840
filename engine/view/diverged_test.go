package view_test

import (
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// Fault 6: after a force-push, a cell gets no head of the new branch, and a hold that says why.
func TestDivergedTellsNoHead(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Obs.Diverged = &plan.Divergence{Seen: "4f0c", Tip: w.Tip}
	v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}
	w.Obs.Cells["s1"].Granted = w.Obs.Cells["s1"].Running
	d, _, ok := v.Cell("s1")
	if !ok || len(d.Head.Payload) > 0 || d.Hold == nil || d.Hold.Gate != "diverged" || d.Assignment == nil ||
		d.Assignment.Release != "1.0.0" {
		t.Errorf("desired of s1 is %+v, hold %+v", d, d.Hold)
	}
}
