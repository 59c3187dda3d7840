package announce

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// view is what is the same for all cells of a standing.
type view struct {
	gate    flags.Gate
	percent int // of the ramp, now
	due     bool
}

// cellState says what an announcement is in a cell: by the cell's own word, if that is about what it was last told and no time
// has come since; or else by what is known of it. ok is false where it is not for the cell.
func (p *planner) cellState(s *standing, v *view, c *cell) (state flags.CellState, confirmed, ok bool) {
	switch {
	case s.state == "" || s.state == Cancelled || s.state == Retracted || s.state == Missed || s.state == Archived && !s.sent && !s.retired:
		return "", false, false
	case s.retired:
		return flags.Retired, false, true
	case !s.reach.selects(c):
		return "", false, false
	case s.sent && s.reach.spares(c):
		return flags.LeftOut, false, true
	case (s.held != "" || len(s.holds) > 0) && s.holder(c) != "":
		return flags.Held, false, true
	case !s.sent && s.codes[c.code] && s.state != Publishing:
		return flags.Armed, false, true
	case !s.sent:
		return flags.Waiting, false, true
	}
	said := s.said(c)
	state = s.derive(v, c)
	if said == "" || !c.Current || overtaken(said, state) {
		return state, false, true
	}
	return said, true, true
}

// said gives what a cell says, or said when it had something else in force; empty: nothing. Of most it says that they are on:
// they are not looked up.
func (s *standing) said(c *cell) flags.CellState {
	switch {
	case c.Report == nil:
		return ""
	case !c.Current:
		return c.Report.States[s.a.id]
	case !s.known[c.bundle]:
		return "" // it was told nothing of it yet
	case len(c.odd) > 8:
		return cmp.Or(c.Report.States[s.a.id], flags.On)
	}
	for i := range c.odd {
		if c.odd[i].id == s.a.id {
			return c.odd[i].state
		}
	}
	return flags.On
}

// derive says what a cell should have, by its releases and the time, and by what it had before.
func (s *standing) derive(v *view, c *cell) flags.CellState {
	switch {
	case slices.ContainsFunc(s.dead, func(k repository.Override) bool { return k.Cells.Selects(c.Name, c.Channel, c.Labels) }):
		return flags.Killed
	case !s.codes[c.code]:
		// Only its outright word counts: what it does not name may be news to it, and never have been on.
		if c.Report != nil {
			if said := c.Report.States[s.a.id]; said == flags.On || said == flags.Ramping || said == flags.Suspended {
				return flags.Suspended
			}
		}
		return flags.Waiting
	case !v.due:
		return flags.Armed
	case v.percent >= 100:
		return flags.On
	case v.gate.By != flags.ByCell:
		return flags.Ramping
	case v.gate.Includes(c.Name, v.percent):
		return flags.On
	}
	return flags.Armed
}

// overtaken tells whether what a cell said is only older than what should be.
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

// has tells whether a cell that is in that state has what was announced, or will have it when the time comes.
func has(state flags.CellState) bool {
	return state == flags.On || state == flags.Ramping || state == flags.Armed
}

// lacking says in words why a cell is in a state, as what follows its name; empty: nothing needs saying.
func (p *planner) lacking(s *standing, c *cell, state flags.CellState) string {
	switch state {
	case flags.Waiting:
		return p.waiting(s, c)
	case flags.Suspended:
		return "is suspended: " + c.runs() + " without " + strings.Join(p.missing(s, c), ", ")
	case flags.Killed:
		for _, k := range s.dead {
			if k.Cells.Selects(c.Name, c.Channel, c.Labels) {
				return "has " + k.Flag + " killed: " + oneLine(k.Reason)
			}
		}
		return "has a flag of it killed"
	case flags.Held:
		if why := s.holder(c); why != "" {
			return "is held: " + why
		}
		return "is held by its owner"
	case flags.LeftOut:
		if s.reach.without[c.Name] {
			return "was held when its time came"
		}
		return "was not ready when its time came"
	case flags.Armed:
		if s.state == Draft {
			return "is ready: " + s.why
		}
	}
	return ""
}

// waiting says what a cell waits for, and why it has not come.
func (p *planner) waiting(s *standing, c *cell) string {
	missing := p.missing(s, c)
	switch {
	case len(missing) == 0 && s.tree == nil:
		return "has it off: what was approved can't be read"
	case len(missing) == 0:
		return "does not say that it has it"
	case strings.HasPrefix(c.Waits, "is "):
		return c.Waits
	case !c.Known:
		return "has not said what it runs"
	}
	release, ok := p.contains(s.rules.Features)
	if !ok {
		return "waits for a release that contains " + strings.Join(missing, ", ")
	}
	if c.Waits != "" {
		return "waits for " + release + " (" + c.Waits + ")"
	}
	return "waits for " + release
}

// missing gives what a cell's releases lack.
func (p *planner) missing(s *standing, c *cell) (missing []string) {
	for _, f := range s.rules.Features {
		if !p.codes[c.code][f] {
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

func (c *Cell) runs() string {
	if c.Release == "" {
		return "it runs a release"
	}
	return "it runs " + c.Release
}
