package announce

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
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

// selects reports whether the selector does.
func (r *reach) selects(c *cell) bool {
	if r.everyone || r.names != nil && !r.names[c.Name] {
		return r.everyone
	}
	return r.selector.Selects(c.Name, c.Channel, c.Labels)
}

// spares reports whether a cell that is selected is left out all the same.
func (r *reach) spares(c *cell) bool {
	return r.only != nil && !r.only[c.Name] || r.without[c.Name]
}

// all reports whether r is for every cell of its channel.
func (r *reach) all() bool {
	return r.everyone && r.only == nil && len(r.without) == 0
}

// inChannel reports whether s may select a cell of c.
func inChannel(s repository.Selector, c *channel) bool {
	return len(s.Channels) == 0 || slices.Contains(s.Channels, c.Name)
}

// scope is whom an announcement is for in a channel, by the rules that count there.
type scope struct {
	c     *channel
	rules *repository.Announcement // what counts here: as it was decided on, or else as it is
	tree  *repository.Tree         // that has its definitions; nil: nothing of it is in force
	reach reach
	codes []bool                // by set of features: it contains all that rules ask for
	held  string                // a hold of all its cells here: why; empty: none
	holds []repository.Override // holds of some of its cells
}

// govern makes rules what counts for s.
func (s *scope) govern(rules *repository.Announcement, tree *repository.Tree) {
	s.rules, s.tree = rules, tree
	if rules == nil {
		return
	}
	s.reach = reachOf(rules.Cells, s.c)
	s.codes = make([]bool, len(s.c.p.codes))
	for i, contains := range s.c.p.codes {
		s.codes[i] = !slices.ContainsFunc(rules.Features, func(f string) bool { return !contains[f] })
	}
}

// hold learns which holds bind s, as it is written now.
func (s *channelState) hold() {
	for _, o := range s.p.in.Tip.Overrides {
		if o.Kind != repository.Hold || o.Announcement != s.a.id || !inChannel(o.Cells, s.c) {
			continue
		}
		if len(o.Cells.Names) == 0 && len(o.Cells.Labels) == 0 || s.c.coveredBy(s.a.tip.Cells, o.Cells) {
			s.held = oneLine(o.Reason)
			continue
		}
		s.holds = append(s.holds, o)
	}
}

// coveredBy reports whether a hold of some cells is one of all those that an announcement reaches here.
func (c *channel) coveredBy(announcement, hold repository.Selector) bool {
	some, announced, held := false, reachOf(announcement, c), reachOf(hold, c)
	for _, c := range c.cells {
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
func (s *scope) holder(c *cell) string {
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

// reaches reports whether the gate of s is one of a cell's.
func (s *scope) reaches(c *cell) bool {
	return s.reach.selects(c) && !s.reach.spares(c) && (len(s.holds) == 0 || s.holder(c) == "")
}

// readiness gives, of the cells that s is for, those that are ready, those that are held, and how many are neither (R41). A cell
// that is silent is not known to be ready.
func (s *scope) readiness() (ready, held []string, lacking int) {
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

// enough reports whether a share of the cells is ready, and says how many are.
func enough(ready, lacking, percent int) (bool, string) {
	all := ready + lacking
	return ready*100 >= percent*all, fmt.Sprintf("%d of %s ready, and %d %% are asked for", ready, words.Count(all, "cell"), percent)
}
