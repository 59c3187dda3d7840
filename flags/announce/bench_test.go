package announce

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// largeWorld returns 10,000 cells in two channels and 100 published announcements, with reports; one in ten is for some
// cells only.
func largeWorld(tb testing.TB) *world {
	w := newWorld(tb)
	w.cells = nil
	features := []string{}
	for i := range 100 {
		features = append(features, fmt.Sprintf("f%02d", i))
	}
	var set strings.Builder
	set.WriteString("flags:\n")
	for i, f := range features {
		id, lines := fmt.Sprintf("news%02d", i), []string{"channels: {staging: ready}", "approvals: {count: 0}"}
		if i%10 == 0 {
			lines = append(lines, "cells: {labels: {tier: gold}}")
		}
		w.files["announcements/"+id+".yaml"] = strings.Replace(newsYAML(lines...), "[f]", "["+f+"]", 1)
		for j := range 3 {
			fmt.Fprintf(&set,
				"  %s-%d:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\"\n    metadata: {feature: %s, off: \"off\"}\n",
				f, j, f)
		}
	}
	w.files["flags/all.yaml"] = set.String()
	w.releases = []Release{{Version: "2.0.0", Features: features}}
	for i := range 10_000 {
		states := map[string]flags.CellState{}
		for j := range 100 {
			states[fmt.Sprintf("news%02d", j)] = flags.On
		}
		c := Cell{
			Name: fmt.Sprintf("c%05d", i), Channel: "dedicated", Known: true, Release: "2.0.0", Features: features,
			Labels: map[string]string{"tier": []string{"gold", "iron"}[i%2]}, Report: &Report{States: states},
		}
		if i < 100 {
			c.Channel = "staging"
		}
		w.cells = append(w.cells, c)
	}
	w.commit().planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.advanceTo(noon().Add(time.Hour)).planUntilSettled()
	return w
}

func BenchmarkMake(b *testing.B) {
	in := largeWorld(b).input()
	b.ReportAllocs()
	for b.Loop() {
		Make(in)
	}
}

// Equal cells share one Told, and cells with the same gates share one Bundle.
func TestShared(t *testing.T) {
	w := largeWorld(t)
	w.kills = []repository.Override{{Flag: "f00-0", Reason: "no",
		Cells: repository.Selector{Names: []string{"c00500"}}}}
	p := w.planUntilSettled()
	told, bundles := map[*CellFlags]bool{}, map[*flags.Bundle]bool{}
	for _, x := range p.CellFlags {
		told[x], bundles[x.Bundle] = true, true
	}
	if len(told) != 5 || len(bundles) != 4 { // gold and iron in two channels; and the one with the kill
		t.Errorf("%d are told, with %d bundles", len(told), len(bundles))
	}
	if got := len(p.CellFlags["c00500"].Bundle.Gates); got != 100 {
		t.Errorf("%d gates", got)
	}
	if got := len(p.CellFlags["c00501"].Bundle.Gates); got != 90 {
		t.Errorf("%d gates", got)
	}
}
