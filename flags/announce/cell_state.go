package announce

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// inCell is an announcement in one cell.
type inCell struct {
	s *channelState
	c *cell
}

func (s *channelState) in(c *cell) inCell { return inCell{s, c} }

// state says what an announcement is in a cell: by the cell's own word, if that is about what it was last told and no time
// has come since; or else by what is known of it. ok is false where it is not for the cell.
func (i inCell) state() (state flags.CellState, confirmed, ok bool) {
	switch {
	case i.s.rules == nil || i.s.state == "" || i.s.state == Cancelled || i.s.state == Retracted || i.s.state == Missed || i.s.state == Archived && !i.s.sent && !i.s.retired:
		return "", false, false
	case i.s.retired:
		return flags.Retired, false, true
	case !i.s.reach.selects(i.c):
		return "", false, false
	case i.s.sent && i.s.reach.spares(i.c):
		return flags.LeftOut, false, true
	case (i.s.held != "" || len(i.s.holds) > 0) && i.s.holder(i.c) != "":
		return flags.Held, false, true
	case !i.s.sent && i.s.codes[i.c.code] && i.s.state != Publishing:
		return flags.Armed, false, true
	case !i.s.sent:
		return flags.Waiting, false, true
	}
	said := i.said()
	state = i.derive()
	if said == "" || !i.c.Current || overtaken(said, state) {
		return state, false, true
	}
	return said, true, true
}

// said gives what a cell says, or said when it had something else in force; empty: nothing. Of most it says that they are on:
// they are not looked up.
func (i inCell) said() flags.CellState {
	switch {
	case i.c.Report == nil:
		return ""
	case !i.c.Current:
		return i.c.Report.States[i.s.a.id]
	case !i.s.known[i.c.bundle]:
		return "" // it was told nothing of it yet
	case len(i.c.odd) > 8:
		return cmp.Or(i.c.Report.States[i.s.a.id], flags.On)
	}
	for k := range i.c.odd {
		if i.c.odd[k].id == i.s.a.id {
			return i.c.odd[k].state
		}
	}
	return flags.On
}

// derive says what a cell should have, by its releases and the time, and by what it had before.
func (i inCell) derive() flags.CellState {
	switch {
	case slices.ContainsFunc(i.s.dead, func(k repository.Override) bool { return k.Cells.Selects(i.c.Name, i.c.Channel, i.c.Labels) }):
		return flags.Killed
	case !i.s.codes[i.c.code]:
		// Only its outright word counts: what it does not name may be news to it, and never have been on.
		if i.c.Report != nil {
			if said := i.c.Report.States[i.s.a.id]; said == flags.On || said == flags.Ramping || said == flags.Suspended {
				return flags.Suspended
			}
		}
		return flags.Waiting
	case !i.s.tally.due:
		return flags.Armed
	case i.s.tally.percent >= 100:
		return flags.On
	case i.s.tally.gate.By != flags.ByCell:
		return flags.Ramping
	case i.s.tally.gate.Includes(i.c.Name, i.s.tally.percent):
		return flags.On
	}
	return flags.Armed
}

// overtaken reports whether what a cell said is only older than what should be.
func overtaken(said, is flags.CellState) bool {
	switch said {
	case flags.Armed:
		return is == flags.Ramping || is == flags.On || is == flags.Suspended || is == flags.Waiting
	case flags.Ramping:
		return is == flags.On || is == flags.Suspended
	case flags.On: // or not named, as what is news to it
		return is == flags.Suspended || is == flags.Waiting || is == flags.Armed
	}
	return false
}

// has reports whether a cell that is in that state has what was announced, or will have it when the time comes.
func has(state flags.CellState) bool {
	return state == flags.On || state == flags.Ramping || state == flags.Armed
}

// lacking says in words why a cell is in a state, as what follows its name; empty: nothing needs saying.
func (i inCell) lacking(state flags.CellState) string {
	switch state {
	case flags.Waiting:
		return i.waiting()
	case flags.Suspended:
		return "is suspended: " + i.c.runs() + " without " + strings.Join(i.missing(), ", ")
	case flags.Killed:
		for _, k := range i.s.dead {
			if k.Cells.Selects(i.c.Name, i.c.Channel, i.c.Labels) {
				return "has " + k.Flag + " killed: " + oneLine(k.Reason)
			}
		}
		return "has a flag of it killed"
	case flags.Held:
		if why := i.s.holder(i.c); why != "" {
			return "is held: " + why
		}
		return "is held by its owner"
	case flags.LeftOut:
		if i.s.reach.without[i.c.Name] {
			return "was held when its time came"
		}
		return "was not ready when its time came"
	case flags.Armed:
		if i.s.state == Draft {
			return "is ready: " + i.s.why
		}
	}
	return ""
}

// waiting says what a cell waits for, and why it has not come.
func (i inCell) waiting() string {
	missing := i.missing()
	switch {
	case len(missing) == 0 && i.s.tree == nil:
		return "has it off: what was approved can't be read"
	case len(missing) == 0:
		return "does not say that it has it"
	case i.c.Waits.Owner:
		return i.c.Waits.Text
	case !i.c.Known:
		return "has not said what it runs"
	}
	release, ok := i.s.p.contains(i.s.rules.Features)
	if !ok {
		return "waits for a release that contains " + strings.Join(missing, ", ")
	}
	if i.c.Waits.Text != "" {
		return "waits for " + release + " (" + i.c.Waits.Text + ")"
	}
	return "waits for " + release
}

// missing gives what a cell's releases lack.
func (i inCell) missing() (missing []string) {
	for _, f := range i.s.rules.Features {
		if !i.s.p.codes[i.c.code][f] {
			missing = append(missing, f)
		}
	}
	return missing
}

// contains gives the first release in support that contains features.
func (p *planner) contains(features []string) (version string, ok bool) {
	for _, r := range p.in.Releases {
		if !slices.ContainsFunc(features, func(f string) bool { return !slices.Contains(r.Features, f) }) {
			return r.Version, true
		}
	}
	return "", false
}

func (c *Cell) runs() string { return "it runs " + cmp.Or(c.Release, "a release") }
