package auditor

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// What became of debug access has a row for each state, once, whatever a cell reports and however often.
func TestDebugAccessHasRows(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	report := func(all ...cells.DebugState) { s.Obs.Cells["s1"].Debug = all }
	s.SetOwnerDecision("s1", nil)
	report(cells.DebugState{ID: "1f2e", State: cells.DebugOpen})
	s.run(t, 0)
	report(cells.DebugState{ID: "1f2e", State: cells.DebugPermitted})
	s.run(t, 1)
	until := s.World.Now.Add(time.Hour)
	report(cells.DebugState{ID: "1f2e", State: cells.DebugLive, Until: until},
		cells.DebugState{ID: "33", State: cells.DebugDenied, Why: "not\nnow\x1b[31m"})
	rows := s.run(t, 3)
	const who = "the owner of cell s1"
	wantRow(t, rows[0], who, "debug access 1f2e: permitted")
	wantRow(t, rows[1], who, "debug access 1f2e: a session began, until ")
	wantRow(t, rows[2], who, `debug access 33: denied: not now`)
	report(cells.DebugState{ID: "1f2e", State: cells.DebugEnded, Why: "the owner stopped it", Hash: "ab", Length: 7})
	wantRow(t, s.run(t, 4)[3], who, "debug access 1f2e: the session ended: the owner stopped it; record ab of 7 bytes")

	known, n := map[string]memo{}, 0
	for minute := range 1000 { // a cell that makes requests up
		report(cells.DebugState{ID: fmt.Sprint(minute), State: cells.DebugPermitted})
		now := s.World.Now.Add(time.Duration(minute) * time.Minute)
		for _, f := range findDebug(s.Desired(), s.Obs.Cells, known, now) {
			known[f.key] = f.memo
			n++
		}
	}
	if n != maxDebugRows {
		t.Errorf("%d rows", n)
	}
}
