package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
)

// Fleets larger than manyCells are summed up: fewOfEach cells of each condition are named, and the healthy ones counted.
const (
	manyCells = 30
	fewOfEach = 8
)

// conditions in the order in which somebody should look at them.
var conditions = [...]view.Condition{
	view.ConditionShutOut, view.ConditionFailing, view.ConditionSilent, view.ConditionUpdating,
	view.ConditionHeld, view.ConditionBehind, view.ConditionNew, view.ConditionHealthy,
}

// conditionWord is a condition as a table shows it.
func conditionWord(is view.Condition) string { return strings.ReplaceAll(string(is), "-", " ") }

// drawCells names cells, those first that somebody should look at.
func drawCells(p printer, s view.Status, all bool) {
	sorted := slices.Clone(s.Cells)
	rank := func(c view.CellStatus) int { return slices.Index(conditions[:], c.Condition) }
	slices.SortStableFunc(sorted, func(a, b view.CellStatus) int { return cmp.Compare(rank(a), rank(b)) })
	all = all || len(sorted) <= manyCells
	shown, left := map[view.Condition]int{}, map[view.Condition]int{}
	var rows [][]field
	for _, c := range sorted {
		if !all && (shown[c.Condition] == fewOfEach || c.Condition == view.ConditionHealthy) {
			left[c.Condition]++
			continue
		}
		shown[c.Condition]++
		rows = append(rows, []field{{c.Name, bold}, text(c.Channel), text(orDash(c.Release)), stateField(c), text(ago(s.Now, c.LastReport)), cellNote(c, s.Now)})
	}
	if len(rows) > 0 {
		p.table([]string{"CELL", "CHANNEL", "RELEASE", "STATE", "HEARD", "NOTE"}, rows)
	}
	var more []string
	for _, is := range conditions {
		if left[is] > 0 {
			more = append(more, fmt.Sprintf("%d %s", left[is], conditionWord(is)))
		}
	}
	if len(more) > 0 {
		p.line("%s", p.paint(faint, "not named: "+strings.Join(more, ", ")+"; --all names every cell, --channel CHANNEL those of one, sluice why CELL tells about one"))
	}
}

// stateField is what a cell said last and, where that is not the point, what is with it.
func stateField(c view.CellStatus) field {
	switch c.Condition {
	case view.ConditionShutOut, view.ConditionSilent:
		return field{conditionWord(c.Condition), red}
	case view.ConditionNew:
		return field{conditionWord(c.Condition), yellow}
	case view.ConditionFailing, view.ConditionUpdating, view.ConditionHeld, view.ConditionBehind, view.ConditionHealthy:
	}
	switch c.State {
	case cells.StateHealthy:
		return field{string(c.State), green}
	case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
		return field{string(c.State), red}
	case cells.StateApplying:
		return field{string(c.State), yellow}
	case cells.StatePending:
	}
	return text(string(c.State))
}

func cellNote(c view.CellStatus, now time.Time) field {
	switch {
	case c.Condition == view.ConditionShutOut:
		return field{"its key is not good any more: sluice why " + c.Name, red}
	case c.Condition == view.ConditionSilent:
		return text("last said " + string(c.State))
	case c.Applying != "":
		return field{"applying " + c.Applying, yellow}
	case c.Message != "":
		return text(c.Message)
	case len(c.Blocked) > 0:
		return field{soon(c.Blocked[0], now), yellow}
	case c.Condition == view.ConditionFailing && c.State == cells.StateHealthy:
		return field{"went back to it: sluice why " + c.Name, red}
	case c.Granted != "" && c.Granted != c.Release:
		return field{"granted " + c.Granted, yellow}
	case c.State == cells.StateHealthy && c.SoakSeconds > 0:
		return field{"healthy for " + span(time.Duration(c.SoakSeconds*float64(time.Second))), faint}
	}
	return text("")
}

// soon says a verdict about what waits.
func soon(v channels.Verdict, now time.Time) string {
	return v.Gate + ": " + until(v.Reason, v.Until, now)
}

// until adds to a reason when it may be over, if that is known, and how far away that is.
func until(reason string, t, now time.Time) string {
	if t.IsZero() {
		return reason
	}
	if at := t.Format(time.RFC3339); !strings.HasSuffix(reason, at) {
		reason += ", until " + at
	}
	if t.After(now) {
		reason += " (in " + span(t.Sub(now)) + ")"
	}
	return reason
}

// counted says how many there are of something: 1 cell, 3 cells.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
