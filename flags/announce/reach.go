package announce

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
)

// reach says which cells of a channel something is for.
type reach struct {
	everyone bool            // the selector selects all cells of the channel
	names    map[string]bool // that it names; nil: any
	selector repository.Selector
	only     map[string]bool // of those, who has it; nil: all
	without  map[string]bool
}

// reachOf makes a selector quick: most select all cells of a channel, or a few by name.
func reachOf(s repository.Selector, c *channel) reach {
	r := reach{selector: s, everyone: len(s.Names) == 0 && len(s.Labels) == 0 && inChannel(s, c)}
	if len(s.Names) > 0 {
		r.names = setOf(s.Names)
	}
	return r
}

// selects tells whether the selector does.
func (r *reach) selects(c *cell) bool {
	if r.everyone || r.names != nil && !r.names[c.Name] {
		return r.everyone
	}
	return r.selector.Selects(c.Name, c.Channel, c.Labels)
}

// spares tells whether a cell that is selected is left out all the same.
func (r *reach) spares(c *cell) bool {
	return r.only != nil && !r.only[c.Name] || r.without[c.Name]
}

// all tells whether r is for every cell of its channel.
func (r *reach) all() bool {
	return r.everyone && r.only == nil && len(r.without) == 0
}

// inChannel tells whether s may select a cell of c.
func inChannel(s repository.Selector, c *channel) bool {
	return len(s.Channels) == 0 || slices.Contains(s.Channels, c.Name)
}

// govern makes rules what counts for s.
func (p *planner) govern(s *standing, rules *repository.Announcement, tree *repository.Tree) {
	s.rules, s.tree = rules, tree
	if rules == nil {
		return
	}
	s.reach = reachOf(rules.Cells, s.c)
	s.codes = make([]bool, len(p.codes))
	for i, contains := range p.codes {
		s.codes[i] = !slices.ContainsFunc(rules.Features, func(f string) bool { return !contains[f] })
	}
}

// hold learns which holds bind s, as it is written now.
func (p *planner) hold(s *standing) {
	for _, o := range p.in.Tip.Overrides {
		if o.Kind != repository.Hold || o.Announcement != s.a.id || !inChannel(o.Cells, s.c) {
			continue
		}
		if len(o.Cells.Names) == 0 && len(o.Cells.Labels) == 0 || p.holdsAll(s, o) {
			s.held = oneLine(o.Reason)
			continue
		}
		s.holds = append(s.holds, o)
	}
}

// holdsAll tells whether a hold of some cells is one of all those that the announcement reaches here.
func (p *planner) holdsAll(s *standing, o repository.Override) bool {
	some, announced, held := false, reachOf(s.a.tip.Cells, s.c), reachOf(o.Cells, s.c)
	for _, c := range s.c.cells {
		if announced.selects(c) {
			if !held.selects(c) {
				return false
			}
			some = true
		}
	}
	return some
}

// holder gives why a cell is held; empty: it is not.
func (s *standing) holder(c *cell) string {
	if s.held != "" {
		return s.held
	}
	for _, o := range s.holds {
		if o.Cells.Selects(c.Name, c.Channel, c.Labels) {
			return oneLine(o.Reason)
		}
	}
	return ""
}

// reaches tells whether the gate of s is one of a cell's.
func (s *standing) reaches(c *cell) bool {
	return s.reach.selects(c) && !s.reach.spares(c) && (len(s.holds) == 0 || s.holder(c) == "")
}

// readiness gives, of the cells that s is for, those that are ready, those that are held, and how many are neither (R41). A cell
// that is silent is not known to be ready.
func (p *planner) readiness(s *standing) (ready, held []string, lacking int) {
	for _, c := range s.c.cells {
		switch {
		case !s.reach.selects(c):
		case s.reach.without[c.Name] || s.holder(c) != "":
			held = append(held, c.Name)
		case s.codes[c.code] && !c.Silent:
			ready = append(ready, c.Name)
		default:
			lacking++
		}
	}
	return ready, held, lacking
}

// enough tells whether a share of the cells is ready, and says how many are.
func enough(ready, lacking, percent int) (bool, string) {
	all := ready + lacking
	return ready*100 >= percent*all, fmt.Sprintf("%d of %s ready, and %d %% are asked for", ready, count(all, "cell"), percent)
}
