package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// MaintenanceStatus is what a cell reports of its maintenances for updates, by our clock.
type MaintenanceStatus struct {
	Phase   maintenance.Phase `json:"phase,omitempty" enum:"announced,draining,drained" doc:"none: there is no maintenance now"`
	Release string            `json:"release,omitempty" doc:"the release that it is for"`
	Since   time.Time         `json:"since,omitzero" doc:"when operations are refused, or were first"`
	Until   time.Time         `json:"until,omitzero" doc:"when operations are accepted again at the latest; none: it has not begun"`
	Refuses []string          `json:"refuses,omitempty" doc:"kinds of operation that are refused, or will be"`
	Overran time.Time         `json:"overran,omitzero" doc:"when one ended while its update is still not through"`

	Totals maintenance.Totals `json:"totals,omitzero" doc:"of all maintenances of the cell so far"`
}

// cellMaintenance returns what a cell reports of its maintenances; nil: nothing.
func (v *View) cellMaintenance(s *plan.CellState) *MaintenanceStatus {
	if s == nil || s.Maintenance == nil {
		return nil
	}
	r := s.Maintenance
	m := &MaintenanceStatus{Phase: r.Phase, Overran: s.OurTime(r.Overran), Totals: r.Totals}
	if r.Phase == "" {
		return m
	}
	m.Release, m.Since, m.Until = r.Release, s.OurTime(r.Begins), s.OurTime(r.Until)
	m.Refuses = maintenance.DefaultKinds()
	if release := v.Desired.Releases[r.Release]; release != nil && len(release.Release.Maintenance.Refuses) > 0 {
		m.Refuses = release.Release.Maintenance.Refuses
	}
	return m
}

// String says in one line what is under way; empty: nothing is.
func (m *MaintenanceStatus) String() string {
	if m == nil {
		return ""
	}
	switch m.Phase {
	case maintenance.Announced:
		return fmt.Sprintf("maintenance for %s, announced: it begins at %s at the earliest", m.Release,
			words.FormatTime(m.Since))
	case maintenance.Draining, maintenance.Drained:
		return fmt.Sprintf("maintenance for %s, %s: %s refused since %s, until %s at the latest", m.Release, m.Phase,
			isOrAre(m.Refuses), words.FormatTime(m.Since), words.FormatTime(m.Until))
	}
	return ""
}

// isOrAre returns names as the subject of a sentence.
func isOrAre(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are"
}

// lines say what is under way, what went wrong, and how the maintenances so far were.
func (m *MaintenanceStatus) lines() (lines []string) {
	if m == nil {
		return nil
	}
	if now := m.String(); now != "" {
		lines = append(lines, now)
	}
	if !m.Overran.IsZero() {
		lines = append(lines, "its maintenance overran at "+words.FormatTime(m.Overran)+
			": operations are accepted, and the update is not through; see that it gets through, or take it back")
	}
	t := m.Totals
	if t.Begun == 0 {
		return lines
	}
	so := fmt.Sprintf("%s so far, %s in all", words.Count(int(t.Begun), "maintenance"), seconds(t.Seconds))
	if last := t.Last; last != nil {
		so += fmt.Sprintf(", the last that was through %s, for %s", seconds(last.Seconds), last.Release)
	}
	if t.PutOff > 0 {
		so += "; put off " + words.Count(int(t.PutOff), "time")
	}
	if t.Overran > 0 {
		so += "; overran " + words.Count(int(t.Overran), "time")
	}
	var refused []string
	for _, kind := range slices.Sorted(maps.Keys(t.Refused)) {
		refused = append(refused, fmt.Sprintf("%d %s", t.Refused[kind], kind))
	}
	if len(refused) > 0 {
		so += "; refused: " + words.Some(refused, 5)
	}
	lines = append(lines, so)
	if t.Unasked > 0 {
		lines = append(lines, "in "+words.Count(int(t.Unasked), "maintenance")+" no program of the cell asked whether "+
			"it may start something: what the product was doing was not waited for")
	}
	if t.Ignored > 0 {
		lines = append(lines, words.Count(int(t.Ignored), "operation")+" ran although refused: the product does not "+
			"heed refusals")
	}
	return lines
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }
