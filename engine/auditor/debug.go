package auditor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	debugPrefix   = "debug/"
	maxDebugRows  = 64             // of one cell, in debugRowsFor: a cell makes up as many requests as it likes
	debugRowsFor  = 48 * time.Hour // longer than a cell reports a request that is over
	maxDebugNamed = 40             // bytes of an ID
)

// findDebug returns a row for each state of a request for debug access that a cell reports and that has none yet. Who
// asked has a row of its own.
func findDebug(d *plan.Desired, states map[string]*plan.CellState, known map[string]memo, now time.Time) (
	found []finding) {
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if d.Cells[name] == nil || len(states[name].Debug) == 0 {
			continue
		}
		key := debugPrefix + name
		m := known[key]
		for _, r := range states[name].Debug {
			told := words.Clip(words.OneLine(r.ID), maxDebugNamed) + " " + r.State
			if _, had := m.Told[told]; had || r.State == cells.DebugOpen {
				continue
			}
			m.Told = maps.Clone(m.Told)
			if m.Told == nil {
				m.Told = map[string]time.Time{}
			}
			maps.DeleteFunc(m.Told, func(_ string, at time.Time) bool { return now.Sub(at) > debugRowsFor })
			full := len(m.Told) == maxDebugRows-1
			if len(m.Told) >= maxDebugRows {
				break
			}
			m.Told[told] = now
			who := "the owner of cell " + name
			if strings.HasPrefix(r.Why, cells.DebugRefusal) {
				who = "cell " + name
			}
			what := describeDebug(r)
			if full {
				what += fmt.Sprintf("; it is the last of %d states within %s that are recorded of this cell", maxDebugRows,
					words.ExactDuration(debugRowsFor))
			}
			m.Stored, m.Entry = false, audit.Clip(access.Entry{At: now, Who: who, What: what,
				From: "the cell's report"})
			found = append(found, finding{key, m})
		}
	}
	return found
}

// describeDebug returns a state in words. The words are the cell's, and so are cleaned and short.
func describeDebug(r cells.DebugState) string {
	text := fmt.Sprintf("debug access %s: ", words.OneLine(r.ID))
	switch r.State {
	case cells.DebugPermitted:
		return text + "permitted"
	case cells.DebugLive:
		return text + "a session began, until " + words.FormatTime(r.Until) + " by the cell's clock at the latest"
	case cells.DebugDenied:
		text += "denied"
	case cells.DebugExpired:
		text += "no session began in time"
	default:
		text += "the session ended"
	}
	if r.Why != "" {
		text += ": " + words.OneLine(r.Why)
	}
	if r.Hash != "" {
		text += fmt.Sprintf("; record %s of %d bytes", words.OneLine(r.Hash), r.Length)
	}
	return text
}
