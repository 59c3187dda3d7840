package flags

import (
	"strings"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Percent gives the share of a gate's users, or cells, that is in at an instant: 0 before its time, 100 without a ramp or a time.
func (g *Gate) Percent(at int64) int {
	switch {
	case at < g.At:
		return 0
	case g.At == 0 || len(g.Steps) == 0:
		return 100
	}
	percent := 0
	for _, s := range g.Steps {
		if at-g.At < s.After {
			break
		}
		percent = s.Percent
	}
	return percent
}

// Includes tells whether a share of so many percent has a user, by targeting key, or a cell, by name: by flagd's bucket of
// the announcement's ID and the key, so that one user gets all of an announcement, and keeps it while the share grows (R44).
// Spaces around both do not count, as in the document's rule.
func (g *Gate) Includes(key string, percent int) bool {
	return percent >= 100 || percent > 0 && int(jsonlogic.Bucket(strings.TrimSpace(g.ID+key), 100)) < percent
}

// percentInCell is Percent as a cell sees it: a ramp by cells is all or nothing there.
func (g *Gate) percentInCell(cell string, at int64) int {
	percent := g.Percent(at)
	switch {
	case g.By != ByCell:
		return percent
	case g.Includes(cell, percent):
		return 100
	}
	return 0
}

// nextChange gives the earliest later instant at which share changes, or the gate's time has come; 0: none.
func (g *Gate) nextChange(cell string, at int64) int64 {
	if at < g.At {
		return g.At
	}
	now := g.percentInCell(cell, at)
	for _, s := range g.Steps {
		if t := g.At + s.After; t > at && g.percentInCell(cell, t) != now {
			return t
		}
	}
	return 0
}
