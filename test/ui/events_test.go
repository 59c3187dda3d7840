package ui_test

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

// Events returns what a cell reported over the last day: an update that failed at first, and a short illness.
func (s *site) Events(_ context.Context, cell string, _ int) (all []cells.Event, err error) {
	v := s.View()
	state := v.Observed.Cells[cell]
	if state == nil || state.Running == nil {
		return nil, nil
	}
	for _, e := range []struct {
		ago                   time.Duration
		kind, release, detail string
	}{
		{25 * time.Hour, "healthy", "1.0.0", ""}, {24 * time.Hour, maintenance.EventEntered, "1.1.0", ""},
		{1430 * time.Minute, "started", "1.1.0", ""}, {1415 * time.Minute, "failed", "1.1.0", "the hook ended with 1"},
		{1410 * time.Minute, "rolled-back", "1.0.0", ""}, {1400 * time.Minute, maintenance.EventLeft, "", ""},
		{21 * time.Hour, "retried", "1.1.0", "the cell's owner asked for it"},
		{1250 * time.Minute, "applied", "1.1.0", ""},
		{1245 * time.Minute, "healthy", "1.1.0", ""}, {8 * time.Hour, "unhealthy", "1.1.0", "server: 0 of 2 ready"},
		{7 * time.Hour, "healthy", "1.1.0", ""}, {3 * time.Hour, "withheld", "1.2.0", "the owner's window is shut"},
	} {
		all = append(all, cells.Event{At: v.Plan.Now.Add(-e.ago), Kind: e.kind, Release: e.release, Detail: e.detail})
	}
	return all, nil
}
