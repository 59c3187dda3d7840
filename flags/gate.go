package flags

import (
	"strings"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Percent returns the share of the gate's users or cells at an instant: 0 before the gate's time, 100 without a ramp or
// a time.
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

// Includes reports whether a share of percent includes a user, by targeting key, or a cell, by name. Membership is
// flagd's bucket of announcement ID and key, so that one user gets all features of an announcement and keeps them while
// the share grows (R44). Spaces around both don't count, as in the document's rule.
func (g *Gate) Includes(key string, percent int) bool {
	return percent >= 100 || percent > 0 && int(jsonlogic.Bucket(strings.TrimSpace(g.ID+key), 100)) < percent
}

// percentInCell is Percent within one cell: a ramp by cells is all or nothing there.
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

// nextChange returns the earliest later instant at which percentInCell changes or the gate's time comes; 0: none.
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
