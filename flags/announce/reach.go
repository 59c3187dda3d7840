package announce

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// reach says which cells of a channel an announcement or a hold is for.
type reach struct {
	allCells bool            // the selector selects all cells of the channel
	names    map[string]bool // named cells; nil: any
	selector repository.Selector
	only     map[string]bool // of the selected cells, those with the features (skip); nil: all
	without  map[string]bool
}

// newReach prepares a selector for fast tests: most selectors select all cells of a channel or a few by name.
func newReach(s repository.Selector, c *channel) reach {
	r := reach{selector: s, allCells: len(s.Names) == 0 && len(s.Labels) == 0 && inChannel(s, c)}
	if len(s.Names) > 0 {
		r.names = setOf(s.Names)
	}
	return r
}

// selects reports whether the selector selects c.
func (r *reach) selects(c *cell) bool {
	if r.allCells || r.names != nil && !r.names[c.Name] {
		return r.allCells
	}
	return r.selector.Selects(c.Name, c.Channel, c.Labels)
}

// excludes reports whether a selected cell is left out.
func (r *reach) excludes(c *cell) bool {
	return r.only != nil && !r.only[c.Name] || r.without[c.Name]
}

// isWholeChannel reports whether r includes every cell of its channel.
func (r *reach) isWholeChannel() bool {
	return r.allCells && r.only == nil && len(r.without) == 0
}

// inChannel reports whether s may select a cell of c.
func inChannel(s repository.Selector, c *channel) bool {
	return len(s.Channels) == 0 || slices.Contains(s.Channels, c.Name)
}

// scope says for which cells of a channel an announcement is, by the rules that apply there.
type scope struct {
	channel    *channel
	rules      *repository.Announcement // the recorded announcement, or the current one
	tree       *repository.Tree         // provides the definitions; nil: none are in force
	reach      reach
	contained  []bool                // by feature set: contains all features of rules
	heldReason string                // reason of a hold of all cells here; empty: none
	holds      []repository.Override // holds of some cells
}

// applyRules sets the rules and definitions that apply in s.
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

// findHolds finds the holds of the current announcement in the channel.
func (s *channelState) findHolds() {
	for _, o := range s.planner.input.Tip.Overrides {
		if o.Kind != repository.Hold || o.Announcement != s.announcement.id || !inChannel(o.Cells, s.channel) {
			continue
		}
		if len(o.Cells.Names) == 0 && len(o.Cells.Labels) == 0 ||
			s.channel.holdCoversAll(s.announcement.tip.Cells, o.Cells) {
			s.heldReason = oneLine(o.Reason)
			continue
		}
		s.holds = append(s.holds, o)
	}
}

// holdCoversAll reports whether a hold selects every cell that the announcement selects in c.
func (c *channel) holdCoversAll(announcement, hold repository.Selector) bool {
	anySelected, announced, held := false, newReach(announcement, c), newReach(hold, c)
	for _, c := range c.cells {
		if announced.selects(c) {
			if !held.selects(c) {
				return false
			}
			anySelected = true
		}
	}
	return anySelected
}

// holdReason returns why a cell is held; empty: not held.
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

// reaches reports whether the cell gets the gate of s.
func (s *scope) reaches(c *cell) bool {
	return s.reach.selects(c) && !s.reach.excludes(c) && (len(s.holds) == 0 || s.holdReason(c) == "")
}

// readyCells returns the ready and the held cells of s, and the number of other cells (R41). A silent cell does not
// count as ready.
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

// enoughReady reports whether the required share of the cells is ready, and describes the share.
func enoughReady(ready, lacking, percent int) (bool, string) {
	all := ready + lacking
	share := fmt.Sprintf("%d of %s ready, and %d %% are required", ready, words.Count(all, "cell"), percent)
	return ready*100 >= percent*all, share
}
