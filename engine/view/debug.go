package view

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// DebugStatus is a request for debug access that is not over, as the cell reports it.
type DebugStatus struct {
	Request string    `json:"request" doc:"its ID"`
	State   string    `json:"state" enum:"open,permitted,live" doc:"open: it waits for the cell's owner"`
	Until   time.Time `json:"until,omitzero" doc:"when a session that lasts has to end at the latest"`
}

// cellDebug returns a cell's requests that are not over, a session that lasts first.
func cellDebug(s *plan.CellState) (all []DebugStatus) {
	if s == nil {
		return nil
	}
	for _, state := range []string{cells.DebugLive, cells.DebugPermitted, cells.DebugOpen} {
		for _, d := range s.Debug {
			if d.State == state {
				all = append(all, DebugStatus{d.ID, d.State, s.OurTime(d.Until)})
			}
		}
	}
	return all
}

// String says it in one line.
func (d DebugStatus) String() string {
	switch d.State {
	case cells.DebugLive:
		return fmt.Sprintf("debug access: a session is live until %s at the latest (request %s)",
			words.FormatTime(d.Until), words.OneLine(d.Request))
	case cells.DebugPermitted:
		return fmt.Sprintf("debug access: request %s is permitted, and its session has not begun",
			words.OneLine(d.Request))
	}
	return fmt.Sprintf("debug access: request %s waits for the cell's owner", words.OneLine(d.Request))
}

func debugLines(s *plan.CellState) (lines []string) {
	for _, d := range cellDebug(s) {
		lines = append(lines, d.String())
	}
	return lines
}
