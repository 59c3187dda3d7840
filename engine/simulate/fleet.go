package simulate

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// fleet is all cells: what they really do, and what the control plane was told.
type fleet struct {
	w      *world
	cells  map[string]*cell
	order  []*cell // by name
	milest map[string][]time.Duration
	cuts   map[string]*Cut
}

// cell is one cell. What it is lies here; what is known of it in state, which Observed holds too.
type cell struct {
	name, channel string
	labels        map[string]string
	state         *plan.CellState

	running  *cells.Assignment // nil: nothing installed
	applying *cells.Assignment // begun, without a result
	next     *cells.Assignment // heard of, not begun
	hung     bool              // applying never ends
	word     cells.State       // what it says of itself
	since    time.Time         // since when it is healthy on running, as reports tell it; zero: it is not
	failures []cells.Failure
	run      int // grows with every change of what it runs or applies: what was put on the agenda before is void

	outs int       // outages that it is in
	lost time.Time // its last report, while it is out
	late bool      // it was granted something meanwhile

	owner *cells.Owner // what its owner decided; nil: nothing

	taken string // key of the newest assignment that it acknowledged

	counted string // the release that the recorder counts it on
}

func newFleet(w *world) *fleet {
	f := &fleet{w: w, cells: map[string]*cell{}, milest: thresholds(w.policies()), cuts: map[string]*Cut{}}
	for i := range w.in.Scenario.Releases {
		c := &w.in.Scenario.Releases[i]
		f.cuts[c.Version.String()] = c
	}
	for _, name := range slices.Sorted(maps.Keys(w.d.Cells)) {
		def := w.d.Cells[name]
		var head *plan.EffectiveHead
		if ch := w.d.Channels[def.Channel]; ch != nil {
			head = ch.Effective
		}
		f.add(def, head)
	}
	return f
}

// add adds a cell that runs a head; nil: nothing. What a repository says was reached is taken as reached, and soaked since
// then.
func (f *fleet) add(def *plan.Cell, head *plan.EffectiveHead) {
	c := &cell{name: def.Name, channel: def.Channel, labels: def.Labels, word: cells.StatePending}
	c.state = &plan.CellState{Name: def.Name}
	f.cells[c.name], f.order = c, append(f.order, c)
	f.w.obs.Cells[c.name] = c.state
	if head != nil {
		a := plan.Assign(f.w.d, def, head, c.state)
		c.running, c.word = &a, cells.StateHealthy
		c.since = head.Moved
		if c.since.IsZero() || c.since.After(f.w.now) {
			c.since = f.w.now
		}
		c.state.Granted, c.state.GrantedAt = &a, c.since
		f.milestones(c)
	}
	f.report(c)
}

// luck draws from 0 up to 1, the same for the same question: no draw depends on how many were made before.
func (f *fleet) luck(question ...string) float64 {
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendInt(nil, f.w.in.Scenario.Seed, 10))
	for _, q := range question {
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(q))
	}
	x := h.Sum64() // splitmix64's finish: FNV alone is uneven in its high bits
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// show brings what is known up to now: a cell in contact has just reported.
func (f *fleet) show(now time.Time) {
	for _, c := range f.order {
		s := c.state
		if c.outs > 0 {
			continue
		}
		s.LastReport = now
		if !s.HealthySince.IsZero() {
			s.Soaked = now.Sub(s.HealthySince)
		}
	}
}

// report tells the control plane what the cell is now, as plan.Receive takes it.
func (f *fleet) report(c *cell) {
	if c.outs > 0 {
		return
	}
	s := c.state
	s.LastReport, s.State, s.Running, s.Applying, s.Taken, s.Owner = f.w.now, c.word, c.running, c.applying, c.taken, c.owner
	s.Infrastructure = math.MaxInt
	if n := f.w.in.Scenario.Cells.Infrastructure; n != nil {
		s.Infrastructure = *n
	}
	if a := c.running; a != nil {
		s.Channel, s.Epoch, s.Sequence, s.Release, s.Digest = a.Channel, a.Epoch, a.Sequence, a.Release, a.Digest
	}
	s.HealthySince, s.Soaked = c.since, 0
	if !c.since.IsZero() {
		s.Soaked = f.w.now.Sub(c.since)
	}
	switch {
	case c.applying == nil:
		s.StartedAt = time.Time{}
	case s.StartedAt.IsZero():
		s.StartedAt = f.w.now
	}
	for _, failure := range c.failures[min(len(s.Failures), len(c.failures)):] {
		s.Failures = append(s.Failures, plan.Failure{Failure: failure, Seen: f.w.now})
	}
}

// milestones asks for a plan whenever a cell, healthy from now on, has soaked for as long as something asks.
func (f *fleet) milestones(c *cell) {
	for _, d := range f.milest[c.channel] {
		if at := c.since.Add(d); at.After(f.w.now) {
			f.w.agenda.wake(at)
		}
	}
}

// granted lets a cell hear of its grant, now or when contact is back.
func (f *fleet) granted(c *cell) {
	a := *c.state.Granted
	wait := f.w.in.Scenario.Cells.Hear.between(f.luck("hear", c.name, a.Key()))
	f.w.agenda.report(f.w.now.Add(wait), func() bool {
		if c.outs > 0 {
			c.late = true
			return false
		}
		f.hear(c)
		return true
	})
}

// hear takes what a cell is granted by now, unless it knows of that or of something newer. An offer may have lapsed.
func (f *fleet) hear(c *cell) {
	if c.state.Granted == nil {
		return
	}
	a := *c.state.Granted
	for _, known := range []*cells.Assignment{c.running, c.applying, c.next} {
		if known != nil && !cells.Newer(a, *known) && known.Revision == a.Revision {
			return
		}
	}
	c.next, c.taken = &a, a.Key()
	f.report(c)
	f.start(c)
}

// begin starts with what was heard last.
func (f *fleet) begin(c *cell) {
	a := c.next
	c.next, c.hung = nil, false
	c.run++
	if c.running != nil && c.running.SameContent(*a) && c.word != cells.StateStuck {
		c.running, c.applying = a, nil // nothing to do but to remember it
		f.w.rec.arrived(f.w, c)
		if c.word != cells.StateHealthy && c.word != cells.StateUnhealthy {
			c.word, c.since = cells.StateHealthy, f.w.now
			f.milestones(c)
		}
		f.report(c)
		return
	}
	c.applying, c.word, c.since = a, cells.StateApplying, time.Time{}
	f.report(c)
	cut := f.cuts[a.Release]
	fails, stalls := f.w.in.Scenario.Cells.Fails, 0.0
	if cut != nil {
		stalls = cut.Stalls
		if cut.Fails > 0 {
			fails = cut.Fails
		}
	}
	luck := f.luck("apply", c.name, a.Release)
	if luck >= 1-stalls {
		c.hung = true
		if limit := f.w.d.Channels[c.channel]; limit != nil && limit.Valid != nil {
			f.w.agenda.wake(f.w.now.Add(limit.Valid.Rollout.Stall))
		}
		return
	}
	takes := f.w.in.Scenario.Cells.Apply.between(f.luck("takes", c.name, a.Key()))
	f.later(c, takes, func() { f.finish(c, luck < fails) })
}

// later lets something happen to a cell, unless it runs or applies something else by then.
func (f *fleet) later(c *cell, wait time.Duration, do func()) {
	run := c.run
	f.w.agenda.report(f.w.now.Add(wait), func() bool {
		if c.run != run {
			return false
		}
		do()
		return c.outs == 0
	})
}

// finish ends what is being applied, well or not.
func (f *fleet) finish(c *cell, failed bool) {
	a := c.applying
	c.applying = nil
	c.run++
	switch {
	case !failed:
		c.running, c.word, c.since = a, cells.StateHealthy, f.w.now
		f.w.rec.arrived(f.w, c)
	default:
		c.failures = append(c.failures, cells.Failure{Assignment: *a, Reason: "the scenario lets it fail", At: f.w.now})
		switch {
		case a.Forward: // no way back (R20)
			c.running, c.word = a, cells.StateStuck
		case c.running == nil:
			c.word = cells.StateFailed
		default:
			c.word, c.since = cells.StateHealthy, f.w.now // back on the last good one, by itself
		}
		f.w.rec.failed(f.w, c, a)
	}
	f.report(c)
	if !c.since.IsZero() {
		f.milestones(c)
	}
	if cut := f.cuts[a.Release]; !failed && cut != nil && f.luck("sick", c.name, a.Release) < cut.Unhealthy {
		f.later(c, cut.UnhealthyIn.between(f.luck("sick in", c.name, a.Release)), func() { f.sicken(c, cut) })
	}
	f.start(c)
}

// sicken turns a cell unhealthy, for a while or until it gets another release.
func (f *fleet) sicken(c *cell, cut *Cut) {
	c.word, c.since = cells.StateUnhealthy, time.Time{}
	f.report(c)
	if cut.UnhealthyOf == 0 {
		return
	}
	f.later(c, cut.UnhealthyOf, func() {
		c.word, c.since = cells.StateHealthy, f.w.now
		f.report(c)
		f.milestones(c)
	})
}

// leave takes a cell out of contact.
func (f *fleet) leave(c *cell) {
	if c.outs++; c.outs > 1 {
		return
	}
	c.lost = f.w.now
	c.state.LastReport = c.lost
	f.w.agenda.wake(c.lost.Add(f.w.staleAfter()))
}

// back brings a cell into contact again: it reports, and hears what was waiting. It tells whether that is news.
func (f *fleet) back(c *cell) (news bool) {
	if c.outs--; c.outs > 0 {
		return false
	}
	late := c.late
	c.late = false
	news = f.w.now.Sub(c.lost) > f.w.staleAfter()
	if news && !c.since.IsZero() {
		c.since = f.w.now // a gap that long breaks the soak (R9)
		f.milestones(c)
	}
	news = news || late || c.state.State != c.word || c.state.Running != c.running || c.state.Applying != c.applying
	f.report(c)
	if late {
		f.hear(c)
	}
	return news
}

// outage puts an outage of the cells that it is of on the agenda.
func (f *fleet) outage(number int, o Outage) {
	from := o.From.in(f.w.in.From)
	for _, c := range f.order {
		if !f.selected(c, o.Of, number) {
			continue
		}
		if o.Every == 0 {
			f.out(c, from, o.For)
			continue
		}
		id, grid := strconv.Itoa(number), max(min(o.For/4, 30*time.Minute), f.w.agenda.grid)
		for n, at := 0, from; ; n++ {
			draw := func(what string, mean time.Duration) time.Duration {
				return time.Duration(-math.Log(1-f.luck(what, c.name, id, strconv.Itoa(n))) * float64(mean))
			}
			at = at.Add(draw("out", o.Every))
			if !at.Before(f.w.end) {
				break
			}
			length := draw("out for", o.For)
			begins, ends := f.coarse(at, grid), f.coarse(at.Add(length), grid)
			f.out(c, begins, ends.Sub(begins))
			at = at.Add(length)
		}
	}
}

// coarse gives the end of the piece of grid that t is in, less what the pipeline bears: random outages begin and end
// there, so that many cells fall silent at one instant, and the engine need not plan for each.
func (f *fleet) coarse(t time.Time, grid time.Duration) time.Time {
	return t.Add(grid - t.Sub(f.w.in.From)%grid - f.w.staleAfter()%grid)
}

func (f *fleet) out(c *cell, from time.Time, length time.Duration) {
	if from.Before(f.w.now) {
		length -= f.w.now.Sub(from)
		from = f.w.now
	}
	if length <= 0 {
		return
	}
	f.w.agenda.report(from, func() bool { f.leave(c); return false })
	f.w.agenda.report(from.Add(length), func() bool { return f.back(c) })
}

// selected tells whether sel picks a cell.
func (f *fleet) selected(c *cell, sel Select, number int) bool {
	if len(sel.Cells) > 0 && !slices.Contains(sel.Cells, c.name) || sel.Channel != "" && sel.Channel != c.channel {
		return false
	}
	for k, v := range sel.Labels {
		if c.labels[k] != v {
			return false
		}
	}
	return sel.Share == 0 || f.luck("share", c.name, strconv.Itoa(number)) < sel.Share
}
