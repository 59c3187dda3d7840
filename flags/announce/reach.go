package announce

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// reach says which cells of a channel something is for.
type reach struct {
	allCells bool            // the selector selects all cells of the channel
	names    map[string]bool // that it names; nil: any
	selector repository.Selector
	only     map[string]bool // of those, who has it; nil: all
	without  map[string]bool
}

// newReach makes a selector quick: most select all cells of a channel, or a few by name.
func newReach(s repository.Selector, c *channel) reach {
	r := reach{selector: s, allCells: len(s.Names) == 0 && len(s.Labels) == 0 && inChannel(s, c)}
	if len(s.Names) > 0 {
		r.names = setOf(s.Names)
	}
	return r
}

// selects reports whether the selector does.
func (r *reach) selects(c *cell) bool {
	if r.allCells || r.names != nil && !r.names[c.Name] {
		return r.allCells
	}
	return r.selector.Selects(c.Name, c.Channel, c.Labels)
}

// excludes reports whether a cell that is selected is left out all the same.
func (r *reach) excludes(c *cell) bool {
	return r.only != nil && !r.only[c.Name] || r.without[c.Name]
}

// isWholeChannel reports whether r is for every cell of its channel.
func (r *reach) isWholeChannel() bool {
	return r.allCells && r.only == nil && len(r.without) == 0
}

// inChannel reports whether s may select a cell of c.
func inChannel(s repository.Selector, c *channel) bool {
	return len(s.Channels) == 0 || slices.Contains(s.Channels, c.Name)
}

// scope is whom an announcement is for in a channel, by the rules that count there.
type scope struct {
	channel    *channel
	rules      *repository.Announcement // what counts here: as it was decided on, or else as it is
	tree       *repository.Tree         // that has its definitions; nil: nothing of it is in force
	reach      reach
	contained  []bool                // by set of features: it contains all that rules ask for
	heldReason string                // a hold of all its cells here: why; empty: none
	holds      []repository.Override // holds of some of its cells
}

// applyRules makes rules what counts for s.
func (s *scope) applyRules(rules *repository.Announcement, tree *repository.Tree) {
	s.rules, s.tree = rules, tree
	if rules == nil {
		return
	}
	s.reach = newReach(rules.Cells, s.channel)
	s.contained = make([]bool, len(s.channel.planner.featureSets))
	for i, contains := range s.channel.planner.featureSets {
		s.contained[i] = !slices.ContainsFunc(rules.Features, func(f string) bool { return !contains[f] })
	}
}

// findHolds learns which holds bind s, as it is written now.
func (s *channelState) findHolds() {
	for _, o := range s.planner.input.Tip.Overrides {
		if o.Kind != repository.Hold || o.Announcement != s.announcement.id || !inChannel(o.Cells, s.channel) {
			continue
		}
		if len(o.Cells.Names) == 0 && len(o.Cells.Labels) == 0 || s.channel.holdCoversAll(s.announcement.tip.Cells, o.Cells) {
			s.heldReason = oneLine(o.Reason)
			continue
		}
		s.holds = append(s.holds, o)
	}
}

// holdCoversAll reports whether a hold of some cells is one of all those that an announcement reaches here.
func (c *channel) holdCoversAll(announcement, hold repository.Selector) bool {
	some, announced, held := false, newReach(announcement, c), newReach(hold, c)
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

// holdReason gives why a cell is held; empty: it is not.
func (s *scope) holdReason(c *cell) string {
	if s.heldReason != "" {
		return s.heldReason
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
	return s.reach.selects(c) && !s.reach.excludes(c) && (len(s.holds) == 0 || s.holdReason(c) == "")
}

// readyCells gives, of the cells that s is for, those that are ready, those that are held, and how many are neither (R41). A cell
// that is silent is not known to be ready.
func (s *scope) readyCells() (ready, held []string, lacking int) {
	for _, c := range s.channel.cells {
		switch {
		case !s.reach.selects(c):
		case s.reach.without[c.Name] || s.holdReason(c) != "":
			held = append(held, c.Name)
		case s.contained[c.featureSet] && !c.Silent:
			ready = append(ready, c.Name)
		default:
			lacking++
		}
	}
	return ready, held, lacking
}

// enoughReady reports whether a share of the cells is ready, and says how many are.
func enoughReady(ready, lacking, percent int) (bool, string) {
	all := ready + lacking
	return ready*100 >= percent*all, fmt.Sprintf("%d of %s ready, and %d %% are asked for", ready, words.Count(all, "cell"), percent)
}
