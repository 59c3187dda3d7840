package engine

import (
	"testing"
)

// Fault 6: while the branch is not what it was, a cell is not told of the new branch's head, and told why it waits.
func TestDivergedTellsNoHead(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.obs.Diverged = &Divergence{Seen: "4f0c", Tip: w.tip}
	v := &View{Desired: w.desired(), Observed: &w.obs, Plan: w.plan()}
	w.obs.Cells["s1"].Granted = w.obs.Cells["s1"].Running
	d, _, ok := v.Cell("s1")
	if !ok || len(d.Head.Payload) > 0 || d.Hold == nil || d.Hold.Gate != "diverged" || d.Assignment == nil || d.Assignment.Release != "1.0.0" {
		t.Errorf("desired of s1 is %+v, hold %+v", d, d.Hold)
	}
}
