package lookcmd

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

// In fleets larger than manyCells, fewOfEach cells of each condition are named, and the healthy ones are
// counted.
const (
	manyCells = 30
	fewOfEach = 8
)

// conditions are in the order in which people should look at them.
var conditions = [...]view.Condition{
	view.ConditionShutOut, view.ConditionFailing, view.ConditionSilent, view.ConditionUpdating,
	view.ConditionHeld, view.ConditionBehind, view.ConditionNew, view.ConditionHealthy,
}

// conditionWord returns a condition as tables show it.
func conditionWord(is view.Condition) string { return strings.ReplaceAll(string(is), "-", " ") }

// drawCells prints the cells, with those that need attention first.
func drawCells(p cli.Printer, s view.Status, form StatusForm) {
	sorted := slices.Clone(s.Cells)
	rank := func(c view.CellStatus) int { return slices.Index(conditions[:], c.Condition) }
	slices.SortStableFunc(sorted, func(a, b view.CellStatus) int { return cmp.Compare(rank(a), rank(b)) })
	all := form.All || len(sorted) <= manyCells
	shown, left := map[view.Condition]int{}, map[view.Condition]int{}
	var rows [][]cli.Field
	for _, c := range sorted {
		if !all && (shown[c.Condition] == fewOfEach || c.Condition == view.ConditionHealthy) {
			left[c.Condition]++
			continue
		}
		shown[c.Condition]++
		row := []cli.Field{cli.Coloured(c.Name, cli.Bold), cli.Text(c.Channel), cli.Text(cli.OrDash(c.Release)),
			stateField(c), cli.Text(cli.Ago(s.Now, c.LastReport))}
		if form.Wide {
			row = append(row, wideFields(c, s.Now)...)
		}
		rows = append(rows, append(row, noteField(c, s.Now)))
	}
	heading := []string{"CELL", "CHANNEL", "RELEASE", "STATE", "HEARD"}
	if form.Wide {
		heading = append(heading, "SEQUENCE", "DIGEST", "PROFILE", "HEALTHY FOR", "GRANTED", "FAILED", "CLOCK",
			"EXPORTS")
	}
	if len(rows) > 0 {
		p.PrintTable(append(heading, "NOTE"), rows)
	}
	var more []string
	for _, is := range conditions {
		if left[is] > 0 {
			more = append(more, fmt.Sprintf("%d %s", left[is], conditionWord(is)))
		}
	}
	if len(more) > 0 {
		p.PrintLine("%s", p.Paint(cli.Faint,
			"not named: "+strings.Join(more,
				", ")+"; --all names every cell, --channel CHANNEL those of one channel; sluice why CELL explains one"))
	}
}

// wideFields are the columns of a cell that --wide adds.
func wideFields(c view.CellStatus, now time.Time) []cli.Field {
	sequence, healthy, granted, failed, clock := "-", "-", "-", cli.Text("-"), cli.Text("-")
	if c.Sequence > 0 {
		sequence = fmt.Sprint(c.Sequence)
	}
	if c.State == cells.StateHealthy {
		healthy = cli.Ago(now, c.HealthySince)
	}
	if c.Granted != "" {
		granted = c.Granted
		if !c.GrantedAt.IsZero() {
			granted += " " + cli.Ago(now, c.GrantedAt) + " ago"
		}
	}
	if f := c.LastFailure; f != nil {
		failed = cli.Coloured(f.Release+" ("+cmp.Or(string(f.Cause), string(cells.CauseUnknown))+")", cli.Yellow)
		if !f.At.IsZero() {
			failed.Text += " " + cli.Ago(now, f.At) + " ago"
		}
		if c.Failures > 1 {
			failed.Text += fmt.Sprintf(", %d in all", c.Failures)
		}
	}
	if !c.LastReport.IsZero() {
		clock = cli.Text(fmt.Sprintf("%+.0fs", c.SkewSeconds))
		if math.Abs(c.SkewSeconds) > maxPlainSkew {
			clock.Colour = cli.Yellow
		}
	}
	return []cli.Field{cli.Text(sequence), cli.Text(cli.OrDash(cli.ShortID(string(c.Digest)))),
		cli.Text(cmp.Or(c.Profile, "default")), cli.Text(healthy), cli.Text(granted), failed, clock,
		exportsField(c.Exports, now)}
}

// exportsField says when a cell exported last.
func exportsField(s *cells.ExportStanding, now time.Time) cli.Field {
	if s == nil {
		return cli.Text("-")
	}
	f := cli.Text(cli.Ago(now, s.Received) + " ago")
	if s.State == cells.ExportsQuiet {
		f.Colour = cli.Yellow
	}
	if s.Gap != nil {
		f.Text += ", with a gap"
	}
	return f
}

// drawExports counts the cells that export.
func drawExports(p cli.Printer, all []view.CellStatus) {
	var quiet []string
	flowing := 0
	for _, c := range all {
		switch {
		case c.Exports == nil:
		case c.Exports.State == cells.ExportsQuiet:
			quiet = append(quiet, c.Name)
		default:
			flowing++
		}
	}
	if flowing+len(quiet) == 0 {
		return
	}
	line := fmt.Sprintf("exports: %d of %s", flowing, words.Count(len(all), "cell"))
	if len(quiet) > 0 {
		line += "; for two hours nothing came from " + words.Some(quiet, fewOfEach)
	}
	p.PrintLine("\n%s", line)
}

// maxPlainSkew is how far a cell's clock may be off, in seconds, before --wide colours it.
const maxPlainSkew = 5

// stateField returns a cell's last reported state or, where that misleads, its condition.
func stateField(c view.CellStatus) cli.Field {
	switch c.Condition {
	case view.ConditionShutOut, view.ConditionSilent:
		return cli.Coloured(conditionWord(c.Condition), cli.Red)
	case view.ConditionNew:
		return cli.Coloured(conditionWord(c.Condition), cli.Yellow)
	case view.ConditionFailing, view.ConditionUpdating, view.ConditionHeld, view.ConditionBehind, view.ConditionHealthy:
	}
	switch c.State {
	case cells.StateHealthy:
		return cli.Coloured(string(c.State), cli.Green)
	case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
		return cli.Coloured(string(c.State), cli.Red)
	case cells.StateApplying:
		return cli.Coloured(string(c.State), cli.Yellow)
	case cells.StatePending:
	}
	return cli.Text(string(c.State))
}

func noteField(c view.CellStatus, now time.Time) cli.Field {
	switch {
	case c.Condition == view.ConditionShutOut:
		return cli.Coloured("its key is refused: sluice why "+c.Name, cli.Red)
	case c.Condition == view.ConditionSilent:
		return cli.Text("last reported " + string(c.State))
	case c.Maintenance.String() != "":
		return cli.Coloured(c.Maintenance.String(), cli.Yellow)
	case len(c.Debug) > 0 && c.Debug[0].State == cells.DebugLive:
		return cli.Coloured(c.Debug[0].String(), cli.Yellow)
	case c.Applying != "":
		return cli.Coloured("applying "+c.Applying, cli.Yellow)
	case c.Message != "":
		return cli.Text(c.Message)
	case len(c.Blocked) > 0:
		return cli.Coloured(verdictText(c.Blocked[0], now), cli.Yellow)
	case c.Condition == view.ConditionFailing && c.State == cells.StateHealthy:
		return cli.Coloured("went back to this release: sluice why "+c.Name, cli.Red)
	case c.Granted != "" && c.Granted != c.Release:
		return cli.Coloured("granted "+c.Granted, cli.Yellow)
	case c.State == cells.StateHealthy && c.SoakSeconds > 0:
		return cli.Coloured("healthy for "+cli.FormatDuration(time.Duration(c.SoakSeconds*float64(time.Second))),
			cli.Faint)
	}
	return cli.Text("")
}

func verdictText(v channels.Verdict, now time.Time) string {
	return v.Gate + ": " + cli.WithUntil(v.Reason, v.Until, now)
}
