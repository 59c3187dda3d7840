package enginetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Fleet returns a pipeline of n channels with cellCount cells in all and n releases: the second half of the channels
// comes after the first.
func Fleet(tb testing.TB, n, cellCount, releaseCount int) (*plan.Desired, *plan.Observed) {
	tb.Helper()
	files := map[string]string{}
	for i := range n {
		text := "gates:\n  - window: {opens: \"0 9 * * MON-THU\", for: 7h, zone: Europe/Berlin}\n"
		if i%2 == 1 {
			text = fmt.Sprintf("after: [c%d]\ngates:\n  - soak: {for: 24h, cells: 3, percent: 95}\n"+
				"  - window: {opens: \"0 9 * * MON-THU\", for: 7h, zone: Europe/Berlin}\n", i-1)
		}
		for name, data := range Policy(fmt.Sprintf("c%d", i), text) {
			files[name] = data
		}
	}
	for i := releaseCount - 2; i < releaseCount; i++ {
		for name, data := range Release(fmt.Sprintf("1.%d.0", i)) {
			files[name] = data
		}
	}
	for i := range n {
		for name, data := range Head(fmt.Sprintf("c%d", i), fmt.Sprintf("1.%d.0", releaseCount-2+(i+1)%2)) {
			files[name] = data
		}
	}
	w := NewWorld(tb, files)
	d := w.Desired()
	for i := range cellCount { // not as files: a map is slow as a folder of a hundred thousand
		cell := &plan.Cell{Cell: cells.Cell{Name: fmt.Sprintf("cell-%06d", i), Channel: fmt.Sprintf("c%d", i%n)}}
		d.Cells[cell.Name] = cell
		d.Channels[cell.Channel].Cells = append(d.Channels[cell.Channel].Cells, cell)
	}
	for i := releaseCount - 3; i >= 0; i-- {
		v, err := releases.ParseVersion(fmt.Sprintf("1.%d.0", i))
		if err != nil {
			tb.Fatal(err)
		}
		r := &plan.Release{StoredRelease: releases.StoredRelease{Release: releases.Release{Version: v}}}
		d.Releases[v.String()] = r
		d.Versions = append([]*plan.Release{r}, d.Versions...)
	}
	o := &plan.Observed{Cells: make(map[string]*plan.CellState, cellCount)}
	for name, cell := range d.Cells {
		a := plan.Assign(d, cell, d.Channels[cell.Channel].Effective, nil)
		o.Cells[name] = &plan.CellState{
			Name: name, Channel: a.Channel, Sequence: a.Sequence, Release: a.Release, Digest: a.Digest,
			State:   cells.StateHealthy,
			Running: &a, Granted: &a, Soaked: 23 * time.Hour, HealthySince: w.Now.Add(-23 * time.Hour),
			LastReport: w.Now.Add(-10 * time.Second),
		}
	}
	return d, o
}

func Plain(failures []plan.Failure) []cells.Failure {
	var all []cells.Failure
	for _, f := range failures {
		all = append(all, f.Failure)
	}
	return all
}
