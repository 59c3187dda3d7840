package cellapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// rolloutView returns a view of a channel whose n cells wait for the release after the one that they run.
func rolloutView(n, number int) *view.View {
	version := func(n int) (string, releases.Digest) {
		v := fmt.Sprintf("1.%d.0", n)
		return v, releases.DigestBytes([]byte(v))
	}
	head := plan.EffectiveHead{Kind: plan.Promote, Written: fmt.Sprint(number), Moved: time.Unix(int64(number), 0)}
	head.Release, head.Digest = version(number)
	head.Commit, head.Sequence = head.Written, int64(number)
	c := &plan.Channel{State: channels.State{Name: "fleet"}, Effective: &head, History: []plan.EffectiveHead{head}}
	v := &view.View{
		Desired: &plan.Desired{Commit: head.Written, Channels: map[string]*plan.Channel{"fleet": c},
			Order: []string{"fleet"}, Cells: map[string]*plan.Cell{}},
		Observed: &plan.Observed{Cells: map[string]*plan.CellState{}},
	}
	runs, digest := version(number - 1)
	for i := range n {
		cell := &plan.Cell{}
		cell.Name, cell.Channel = fmt.Sprintf("cell-%05d", i), "fleet"
		v.Desired.Cells[cell.Name] = cell
		v.Observed.Cells[cell.Name] = &plan.CellState{Name: cell.Name, Granted: &cells.Assignment{Channel: "fleet",
			Epoch: 1, Sequence: int64(number - 1), Release: runs, Digest: digest,
			Values: map[string]any{"domain": cell.Name + ".example.com", "replicas": 3}, Revision: "r1"}}
		v.Plan.Blocked = append(v.Plan.Blocked, channels.Verdict{Channel: "fleet", Cell: cell.Name,
			Release: head.Release, Gate: "wave", Reason: "wave 2 opens later"})
	}
	return v
}

// BenchmarkTellCells measures what is made for ten thousand cells that a new head is told, without TLS and sockets.
func BenchmarkTellCells(b *testing.B) {
	const n = 10_000
	views := []*view.View{rolloutView(n, 2), rolloutView(n, 3)}
	var entries []*cellEntry
	for name := range views[0].Desired.Cells {
		entries = append(entries, &cellEntry{name: name, hash: hashName(name)})
	}
	b.ReportAllocs()
	var made event
	for generation := uint64(1); b.Loop(); generation++ {
		snap := &snapshot{view: views[generation%2], generation: generation, shared: newSharedParts()}
		for _, e := range entries {
			tag, _ := snap.refreshEntry(e, &made.answer)
			var err error
			if made.text, err = snap.appendEvent(made.text[:0], e, &made.answer, tag.etag); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/cell")
}
