package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// grant lets cells of c have its head, as far as the rollout and what binds grants allow (R14, R18).
func (p *planner) grant(c *Channel) {
	e := c.Effective
	if e == nil || c.Valid == nil {
		return
	}
	needy := p.needy(c)
	if len(needy) == 0 || p.restate(c, needy) {
		return
	}
	v, bound := p.stopped(c)
	if !bound {
		v, bound = p.bound(c)
		if bound && e.Kind == Rollback {
			all := len(needy)
			needy = slices.DeleteFunc(needy, func(n need) bool { return !n.back() })
			bound = len(needy) < all
		} else if bound {
			needy = nil
		}
	} else {
		needy = nil
	}
	if bound {
		v.Channel, v.Release = c.Name, e.Release
		p.block(v)
	}
	wave, open := p.wave(c)
	slots := p.slots(c)
	granted := map[string][]string{} // by head's release
	heads := map[string]*EffectiveHead{}
	give := func(n need) {
		heads[n.head.Release] = n.head
		granted[n.head.Release] = append(granted[n.head.Release], n.cell.Name)
	}
	for _, n := range needy {
		switch {
		case !p.fresh(n.state):
			continue // an offer would only lapse
		case n.verdict.Gate != "":
			n.verdict.Channel, n.verdict.Cell, n.verdict.Release = c.Name, n.cell.Name, n.head.Release
			p.block(n.verdict)
		case n.already():
			give(n)
		case n.head == e && open != nil && !open[n.cell.Name]:
			p.block(channels.Verdict{Channel: c.Name, Cell: n.cell.Name, Release: e.Release, Gate: "wave", Reason: fmt.Sprintf("waits for wave %d to be through", wave)})
		case slots == 0:
			p.block(channels.Verdict{Channel: c.Name, Cell: n.cell.Name, Release: e.Release, Gate: "maxInFlight", Reason: "updating at once: at most " + count(c.Valid.Rollout.MaxInFlight, "cell")})
		default:
			slots--
			give(n)
		}
	}
	for _, release := range slices.Sorted(maps.Keys(granted)) {
		h := heads[release]
		p.act(Action{
			Kind: Grant, Channel: c.Name, Release: release, Digest: h.Digest, Sequence: h.Sequence,
			Wave: wave, Cells: granted[release], Evidence: []string{},
		})
	}
}

// need is a cell that lacks its head.
type need struct {
	cell    *Cell
	state   *CellState
	head    *EffectiveHead
	verdict channels.Verdict // what holds this one cell back; no gate: nothing
}

// already tells whether the cell runs just that under another sequence: nothing changes in it (R19).
func (n need) already() bool {
	return n.state.Digest == n.head.Digest && n.state.Running != nil && n.state.Running.Revision == n.cell.Revision
}

// back tells whether the grant takes the cell back, or changes nothing: what is new to it waits as ever (R18).
func (n need) back() bool {
	if n.already() {
		return true
	}
	running, err1 := releases.ParseVersion(n.state.Release)
	to, err2 := releases.ParseVersion(n.head.Release)
	return err1 == nil && err2 == nil && to.Less(running)
}

// needy lists the cells that were not granted what the head means for them, by name.
func (p *planner) needy(c *Channel) []need {
	var all []need
	for _, cell := range c.Cells {
		s := p.o.Cells[cell.Name]
		if s == nil {
			continue // never heard of: told its head when it reports
		}
		head := p.headFor(c, s)
		has := p.has(c, cell, s, head)
		if has && s.Sequence == head.Sequence && s.Digest == head.Digest && (s.Running == nil || s.Running.Revision == cell.Revision) {
			continue // as nearly all: it runs what it was granted
		}
		if p.lapsed(c, s) {
			p.plan.Learned.Lapsed = append(p.plan.Learned.Lapsed, cell.Name)
			s = Lapse(s)
			head = p.headFor(c, s)
		} else if has {
			p.failedGrant(c, cell, s, head)
			continue
		}
		all = append(all, need{cell, s, head, p.cellVerdict(c, cell, s, head)})
	}
	return all
}

// lapsed tells whether a cell's offer ended untaken: it fell silent, or what was offered is quarantined (R14, R21).
func (p *planner) lapsed(c *Channel, s *CellState) bool {
	g := s.Granted
	if g == nil || s.took() {
		return false
	}
	if p.quarantined(c.Name, g.Release, g.Digest) != nil {
		return true
	}
	ends := s.GrantedAt.Add(p.d.staleAfter())
	p.at(ends)
	return !p.fresh(s) && !p.now.Before(ends)
}

// failedGrant adds a verdict about a cell that is not on what it was granted because that failed there: under the same
// head and values it is not tried again (R21).
func (p *planner) failedGrant(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) {
	if s.Digest == head.Digest && s.Running != nil && s.Running.Revision == cell.Revision {
		return // it was granted the same release again
	}
	for _, f := range slices.Backward(s.Failures) {
		if a := &f.Assignment; a.Digest == head.Digest && a.Sequence == head.Sequence && a.Revision == cell.Revision {
			tried := "the next head is"
			if f.Values {
				tried = "other values are"
			}
			p.block(channels.Verdict{Channel: c.Name, Cell: cell.Name, Release: head.Release, Gate: "failed",
				Reason: fmt.Sprintf("%s failed: %s; %s tried, not this again", head.Release, f.Reason, tried)})
			return
		}
	}
}

// headFor is the head that a cell is to have: the channel's, but for one that has nothing installed, the newest that is proven (R15).
func (p *planner) headFor(c *Channel, s *CellState) *EffectiveHead {
	e := c.Effective
	if s.Digest != "" || s.Granted != nil || p.done(c.Name, e) {
		return e
	}
	for i := len(c.History) - 1; i >= 0; i-- {
		h := &c.History[i]
		proven := p.done(c.Name, h) || i+1 < len(c.History) && c.History[i+1].ReplacedFinished
		if proven && p.quarantined(c.Name, h.Release, h.Digest) == nil {
			return h
		}
	}
	return e
}

// Assign is what head means for a cell whose last word is s. The epoch rises when the cell came from another
// channel, whose sequences say nothing here (R2).
func Assign(d *Desired, cell *Cell, head *EffectiveHead, s *CellState) cells.Assignment {
	epoch := cell.Identity.Epoch
	if last := s.last(); last != nil {
		if last.Channel != cell.Channel {
			epoch = max(epoch, last.Epoch+1)
		}
		epoch = max(epoch, last.Epoch)
	}
	a := cells.Assignment{
		Channel: cell.Channel, Epoch: epoch, Sequence: head.Sequence, Release: head.Release, Digest: head.Digest,
		Profile: cell.Profile, Values: cell.Values, Revision: cell.Revision,
	}
	a.Forward = forwardOnly(d, head)
	return a
}

// last is the newest assignment that is known of: the grant, or without one, what it runs.
func (s *CellState) last() *cells.Assignment {
	if s == nil {
		return nil
	}
	if s.Granted != nil {
		return s.Granted
	}
	return s.Running
}

// has tells whether the newest grant of a cell is what head means for it. Without a known grant, what it runs counts as granted.
func (p *planner) has(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) bool {
	g := s.last()
	if g == nil {
		return s.Digest == head.Digest && p.state(cell) != nil
	}
	return g.Channel == c.Name && g.Epoch >= cell.Identity.Epoch && g.Sequence == head.Sequence && g.Digest == head.Digest && g.Revision == cell.Revision
}

// cellVerdict says what holds one cell back from its head, whatever the channel says (R16, R20).
func (p *planner) cellVerdict(c *Channel, cell *Cell, s *CellState, head *EffectiveHead) (v channels.Verdict) {
	blocked := func(gate, format string, args ...any) channels.Verdict {
		return channels.Verdict{Gate: gate, Reason: fmt.Sprintf(format, args...)}
	}
	if len(cell.Faults) > 0 {
		return blocked("invalid", "%s", cell.Faults[0])
	}
	r := p.d.Releases[head.Release]
	if r == nil || !r.Loaded {
		return v
	}
	if why := lacks(r, s); why != "" {
		return blocked("requires", "%s", why)
	}
	if over := p.over(c, s, r.Version); over != "" {
		return blocked("forward-only", "the cell runs %s, and %s is forward-only", s.Release, over)
	}
	if _, ok := r.Profile(cell.Profile); !ok {
		return blocked("values", "%s has no profile %q", head.Release, cell.Profile)
	}
	if wrong := releases.CheckValues(&r.Release, cell.Values); len(wrong) > 0 {
		return blocked("values", "%s", join(wrong))
	}
	return v
}

// lacks says what a cell has not that r requires (R16); empty: nothing.
func lacks(r *Release, s *CellState) string {
	if n := r.Requires.Infrastructure; n > s.Infrastructure {
		return fmt.Sprintf("%s needs infrastructure %d, the cell has %d", r.Version, n, s.Infrastructure)
	}
	if from := r.Requires.From; !from.IsZero() && s.Release != "" {
		if running, err := releases.ParseVersion(s.Release); err == nil && running.Less(from) {
			return fmt.Sprintf("%s installs over %s or later, the cell runs %s", r.Version, from, s.Release)
		}
	}
	return ""
}

// over names the forward-only release that a cell would go back over on the way to a version (R20); empty: none.
func (p *planner) over(c *Channel, s *CellState, to releases.Version) string {
	running, err := releases.ParseVersion(s.Release)
	if err != nil || !to.Less(running) {
		return ""
	}
	if r := p.d.Releases[s.Release]; r != nil && r.ForwardOnly() {
		return s.Release
	}
	if from := p.d.Channels[s.Channel]; from != nil && from != c { // it came from there, and what it runs rests on that past
		return p.crosses(from, to)
	}
	return ""
}

// stopped gives the verdict that stops all grants of c now, even those that go back.
func (p *planner) stopped(c *Channel) (v channels.Verdict, stopped bool) {
	e := c.Effective
	if q := p.quarantined(c.Name, e.Release, e.Digest); q != nil {
		return channels.Verdict{Gate: "quarantine", Reason: q.Reason}, true
	}
	if until, yes := p.observing(c); yes {
		return channels.Verdict{Gate: "observing", Reason: "not every cell has reported since observing began", Until: until}, true
	}
	if e.Kind == Rollback {
		if i := slices.IndexFunc(c.Holds, func(h channels.Hold) bool { return path.Base(h.File) == haltFile(e.Sequence) }); i >= 0 {
			return channels.Verdict{Gate: "hold", Reason: holding(c.Holds[i])}, true // the rollback itself failed
		}
	}
	return v, false
}

// bound gives the verdict that binds grants of c now, but for those that go back: a hold, the clock, freezes, windows.
// While its lane is open a hotfix ignores windows, and freezes if it says so (R17, R18).
func (p *planner) bound(c *Channel) (v channels.Verdict, bound bool) {
	if c.Policy == nil {
		return channels.Verdict{Gate: "invalid", Reason: invalid(c)}, true
	}
	if len(c.Holds) > 0 {
		return channels.Verdict{Gate: "hold", Reason: holding(c.Holds[0])}, true
	}
	if reason := p.clock(); reason != "" && p.timed(c) {
		return channels.Verdict{Gate: "clock", Reason: reason}, true
	}
	var lane *channels.Hotfix
	if e := c.Effective; e.Hotfix {
		lane = p.lane(c, e.Release, e.Digest)
	}
	if f, any := p.freeze(c); any && (lane == nil || !lane.OverrideFreeze) {
		p.at(f.Until)
		if !f.Holds {
			return f, true
		}
	}
	for i := range c.Policy.Gates {
		g := &c.Policy.Gates[i]
		if g.Window == nil || lane != nil {
			continue
		}
		w := g.Window.Judge(p.now)
		p.at(w.Until)
		if !w.Holds {
			w.Gate = g.ID
			return w, true
		}
	}
	return v, false
}

// slots is how many more cells may begin now; negative: any number.
func (p *planner) slots(c *Channel) int {
	limit := c.Valid.Rollout.MaxInFlight
	if limit == 0 {
		return -1
	}
	e := c.Effective
	for _, cell := range c.Cells {
		s := p.o.Cells[cell.Name]
		if s == nil || s.Granted == nil || s.Granted.Sequence != e.Sequence || s.Granted.Channel != c.Name || s.Digest == e.Digest || p.failedOn(c, s) {
			continue
		}
		if p.fresh(s) { // an offer to a silent cell lapses
			limit--
		}
	}
	return max(limit, 0)
}

// wave tells which wave is open, and which cells are in it and those before; nil: all. Waves are cumulative, over
// the cells that are in contact, in an order that each release shuffles anew.
func (p *planner) wave(c *Channel) (number int, open map[string]bool) {
	waves := c.Valid.Rollout.Waves
	if len(waves) == 0 || c.Effective.Kind == Rollback {
		return 1, nil
	}
	order := p.order(c, waves[0])
	open = map[string]bool{}
	for i, w := range waves {
		size := w.Cells
		if w.Percent > 0 {
			size = int(math.Ceil(w.Percent * float64(len(order)) / 100))
		}
		for _, cell := range order {
			if len(w.Labels) > 0 && matches(cell, w.Labels) {
				open[cell.Name] = true
			}
		}
		for _, cell := range order[:min(size, len(order))] {
			open[cell.Name] = true
		}
		if !p.through(c, order, open, w.Soak) {
			return i + 1, open
		}
	}
	return len(waves), nil
}

// through tells whether every open cell runs the head and soaked; those that failed it within the budget hold nobody up.
func (p *planner) through(c *Channel, order []*Cell, open map[string]bool, soak time.Duration) bool {
	for _, cell := range order {
		s := p.o.Cells[cell.Name]
		if open[cell.Name] && !p.failedOn(c, s) && (s.Digest != c.Effective.Digest || s.State != cells.StateHealthy || s.Soaked < soak) {
			return false
		}
	}
	return true
}

// order lists the cells in contact: those that the first wave names by label, then by a stable hash of cell and release.
func (p *planner) order(c *Channel, first channels.Wave) []*Cell {
	type place struct {
		cell *Cell
		rank uint64
	}
	var places []place
	for _, cell := range c.Cells {
		if !p.fresh(p.o.Cells[cell.Name]) {
			continue
		}
		sum := sha256.Sum256([]byte(cell.Name + "\x00" + string(c.Effective.Digest)))
		rank := binary.BigEndian.Uint64(sum[:8])>>1 | 1<<63
		if len(first.Labels) > 0 && matches(cell, first.Labels) {
			rank &^= 1 << 63
		}
		places = append(places, place{cell, rank})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.cell.Name, b.cell.Name))
	})
	ordered := make([]*Cell, len(places))
	for i, at := range places {
		ordered[i] = at.cell
	}
	return ordered
}

func matches(cell *Cell, labels map[string]string) bool {
	for k, v := range labels {
		if cell.Labels[k] != v {
			return false
		}
	}
	return true
}
