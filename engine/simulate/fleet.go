package simulate

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// fleet is all cells: what they really do, and what the control plane knows of them.
type fleet struct {
	world *world
	cells map[string]*cell
	order []*cell // by name
	cuts  map[string]*Cut
}

// cell is one cell: its real state, and in known what the control plane knows of it, which Observed holds too.
type cell struct {
	name, channel string
	labels        map[string]string
	known         *plan.CellState

	running      *cells.Assignment // nil: nothing installed
	applying     *cells.Assignment // begun, without a result
	offered      *cells.Assignment // received, not begun
	hung         bool              // applying never ends
	health       cells.State       // the state that the cell reports
	healthySince time.Time         // since when the cell reports to be healthy on running; zero: it is not healthy
	failures     []cells.Failure
	// Grows with every change of running or applying. Events scheduled for an earlier generation are void.
	generation int

	outages     int       // how many outages the cell is in
	lastContact time.Time // its last report before the outages
	missedGrant bool      // it was granted something during the outages

	owner *cells.Owner // what the owner decided; nil: nothing

	infrastructure int // number of the newest infrastructure update that is executed

	acknowledged string // key of the newest acknowledged assignment
	maintained   string // key of the assignment that a maintenance began for

	countedRelease string // the release that the recorder counts the cell under
}

func newFleet(w *world) *fleet {
	f := &fleet{
		world: w, cells: map[string]*cell{}, cuts: map[string]*Cut{},
	}
	for i := range w.input.Scenario.Releases {
		c := &w.input.Scenario.Releases[i]
		f.cuts[c.Version.String()] = c
	}
	for _, name := range slices.Sorted(maps.Keys(w.desired.Cells)) {
		def := w.desired.Cells[name]
		var head *plan.EffectiveHead
		if ch := w.desired.Channels[def.Channel]; ch != nil {
			head = ch.Effective
		}
		f.addCell(def, head)
	}
	return f
}

// addCell adds a cell that runs head; nil: nothing. What the repository says the channel reached counts as reached, and
// as soaked since then.
func (f *fleet) addCell(def *plan.Cell, head *plan.EffectiveHead) {
	c := &cell{name: def.Name, channel: def.Channel, labels: def.Labels, health: cells.StatePending,
		infrastructure: f.world.input.Scenario.firstInfrastructure()}
	c.known = &plan.CellState{Name: def.Name}
	f.cells[c.name], f.order = c, append(f.order, c)
	if head != nil {
		a := plan.Assign(f.world.desired, def, head, c.known)
		c.running, c.health = &a, cells.StateHealthy
		c.healthySince = head.Moved
		if c.healthySince.IsZero() || c.healthySince.After(f.world.now) {
			c.healthySince = f.world.now
		}
		c.known.Granted, c.known.GrantedAt = &a, c.healthySince
	}
	f.reportState(c)
}

// draw draws a number from 0 up to 1. The same question gets the same number, however many numbers were drawn before.
func (f *fleet) draw(question ...string) float64 {
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendInt(nil, f.world.input.Scenario.Seed, 10))
	for _, q := range question {
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(q))
	}
	x := h.Sum64() // splitmix64's last step: FNV alone is uneven in its high bits
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// replaceState lets change a copy of what the control plane knows of a cell, which then takes the state's place: states
// that a plan saw do not change.
func (f *fleet) replaceState(c *cell, change func(*plan.CellState)) {
	s := *c.known
	change(&s)
	c.known = &s
	f.world.observed.SetCell(c.name, &s)
}

// reportState updates what the control plane knows of a cell, as plan.Receive would.
func (f *fleet) reportState(c *cell) {
	if c.outages == 0 {
		f.replaceState(c, func(s *plan.CellState) { f.fillState(c, s) })
	}
}

func (f *fleet) fillState(c *cell, s *plan.CellState) {
	s.LastReport, s.State, s.Running, s.Applying = f.world.now, c.health, c.running, c.applying
	s.Taken, s.Owner = c.acknowledged, c.owner
	s.Infrastructure = c.infrastructure
	if a := c.running; a != nil {
		s.Channel, s.Epoch, s.Sequence, s.Release, s.Digest = a.Channel, a.Epoch, a.Sequence, a.Release, a.Digest
	}
	s.SetLive(true)
	s.HealthySince, s.Soaked = c.healthySince, 0
	if !c.healthySince.IsZero() {
		s.Soaked = f.world.now.Sub(c.healthySince)
	}
	switch {
	case c.applying == nil:
		s.StartedAt = time.Time{}
	case s.StartedAt.IsZero():
		s.StartedAt = f.world.now
	}
	for _, failure := range c.failures[min(len(s.Failures), len(c.failures)):] {
		s.Failures = append(slices.Clip(s.Failures), plan.Failure{Failure: failure, Seen: f.world.now})
	}
}

// deliverGrant lets a cell receive its grant after a delay, or when contact is back.
func (f *fleet) deliverGrant(c *cell) {
	a := *c.known.Granted
	wait := f.world.input.Scenario.Cells.Hear.pick(f.draw("hear", c.name, a.Key()))
	f.world.queue.scheduleReport(f.world.now.Add(wait), func() bool {
		if c.outages > 0 {
			c.missedGrant = true
			return false
		}
		f.receiveGrant(c)
		return true
	})
}

// receiveGrant takes what a cell is granted by now, unless the cell knows that assignment or a newer one. The offer may
// have lapsed.
func (f *fleet) receiveGrant(c *cell) {
	if c.known.Granted == nil {
		return
	}
	a := *c.known.Granted
	for _, known := range []*cells.Assignment{c.running, c.applying, c.offered} {
		if known != nil && !cells.Newer(a, *known) && known.Revision == a.Revision {
			return
		}
	}
	c.offered, c.acknowledged = &a, a.Key()
	f.reportState(c)
	f.tryBegin(c)
}

// maintenanceFor returns how long an update takes longer because it changes a marked component of what runs: as long as
// the channel's policy allows, and none is put off.
func (f *fleet) maintenanceFor(c *cell, a *cells.Assignment) time.Duration {
	channel := f.world.desired.Channels[c.channel]
	if c.running == nil || channel == nil || channel.Valid == nil {
		return 0
	}
	cut := f.cuts[a.Release]
	if (cut == nil || !cut.Maintenance) && !f.world.desired.TakesMaintenance(c.running.Release, a.Release) {
		return 0
	}
	return channel.Valid.Maintenance.Expected()
}

func (f *fleet) beginApplying(c *cell) {
	a := c.offered
	if wait := f.maintenanceFor(c, a); wait > 0 && c.maintained != a.Key() {
		c.maintained = a.Key()
		f.scheduleFor(c, wait, func() { f.tryBegin(c) })
		return
	}
	c.offered, c.hung = nil, false
	c.generation++
	if c.running != nil && c.running.SameContent(*a) && c.health != cells.StateStuck {
		c.running, c.applying = a, nil // nothing changes but the assignment
		f.world.recorder.recordArrival(f.world, c)
		if c.health != cells.StateHealthy && c.health != cells.StateUnhealthy {
			c.health, c.healthySince = cells.StateHealthy, f.world.now
		}
		f.reportState(c)
		return
	}
	c.applying, c.health, c.healthySince = a, cells.StateApplying, time.Time{}
	f.reportState(c)
	cut := f.cuts[a.Release]
	fails, stalls := f.world.input.Scenario.Cells.Fails, 0.0
	if cut != nil {
		stalls = cut.Stalls
		if cut.Fails > 0 {
			fails = cut.Fails
		}
	}
	luck := f.draw("apply", c.name, a.Release)
	if luck >= 1-stalls {
		c.hung = true
		if limit := f.world.desired.Channels[c.channel]; limit != nil && limit.Valid != nil {
			f.world.queue.schedulePlan(f.world.now.Add(limit.Valid.Rollout.Stall))
		}
		return
	}
	takes := f.world.input.Scenario.Cells.Apply.pick(f.draw("takes", c.name, a.Key()))
	f.scheduleFor(c, takes, func() { f.finishApplying(c, luck < fails) })
}

// scheduleFor schedules a change of a cell. It is void if the cell runs or applies something else by then.
func (f *fleet) scheduleFor(c *cell, wait time.Duration, do func()) {
	run := c.generation
	f.world.queue.scheduleReport(f.world.now.Add(wait), func() bool {
		if c.generation != run {
			return false
		}
		do()
		return c.outages == 0
	})
}

func (f *fleet) finishApplying(c *cell, failed bool) {
	a := c.applying
	c.applying = nil
	c.generation++
	switch {
	case !failed:
		c.running, c.health, c.healthySince = a, cells.StateHealthy, f.world.now
		f.world.recorder.recordArrival(f.world, c)
	default:
		c.failures = append(c.failures, cells.Failure{
			Assignment: *a, Cause: cells.CauseRelease, Reason: "the scenario lets it fail", At: f.world.now,
		})
		switch {
		case a.ForwardOnly: // no rollback (R20)
			c.running, c.health = a, cells.StateStuck
		case c.running == nil:
			c.health = cells.StateFailed
		default:
			c.health, c.healthySince = cells.StateHealthy, f.world.now // back on the last good release, by itself
		}
		f.world.recorder.recordFailure(f.world, c, a)
	}
	f.reportState(c)
	if cut := f.cuts[a.Release]; !failed && cut != nil && f.draw("sick", c.name, a.Release) < cut.Unhealthy {
		f.scheduleFor(c, cut.UnhealthyIn.pick(f.draw("sick in", c.name, a.Release)), func() { f.turnUnhealthy(c, cut) })
	}
	f.tryBegin(c)
}

func (f *fleet) turnUnhealthy(c *cell, cut *Cut) {
	c.health, c.healthySince = cells.StateUnhealthy, time.Time{}
	f.reportState(c)
	if cut.UnhealthyFor == 0 {
		return
	}
	f.scheduleFor(c, cut.UnhealthyFor, func() {
		c.health, c.healthySince = cells.StateHealthy, f.world.now
		f.reportState(c)
	})
}

func (f *fleet) loseContact(c *cell) {
	if c.outages++; c.outages > 1 {
		return
	}
	c.lastContact = f.world.now
	f.replaceState(c, func(s *plan.CellState) {
		s.LastReport, s.Soaked = s.Heard(f.world.now)
		s.SetLive(false)
	})
	f.world.queue.schedulePlan(c.lastContact.Add(f.world.staleAfter()))
}

// regainContact brings a cell back into contact. It reports, and receives what was waiting. The result says whether the
// report has news.
func (f *fleet) regainContact(c *cell) (news bool) {
	if c.outages--; c.outages > 0 {
		return false
	}
	late := c.missedGrant
	c.missedGrant = false
	news = f.world.now.Sub(c.lastContact) > f.world.staleAfter()
	if news && !c.healthySince.IsZero() {
		c.healthySince = f.world.now // a gap that long ends the soak (R9)
	}
	news = news || late || c.known.State != c.health || c.known.Running != c.running || c.known.Applying != c.applying
	f.reportState(c)
	if late {
		f.receiveGrant(c)
	}
	return news
}

func (f *fleet) scheduleOutage(ctx context.Context, number int, o Outage) error {
	from := o.From.instant(f.world.input.From)
	for _, c := range f.order {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("simulate the outages of cells: %w", err)
		}
		if !f.isSelected(c, o.Of, number) {
			continue
		}
		if o.Every == 0 {
			f.scheduleSilence(c, from, o.For)
			continue
		}
		id, grid := strconv.Itoa(number), max(min(o.For/4, 30*time.Minute), f.world.queue.grid)
		for n, at := 0, from; ; n++ {
			draw := func(what string, mean time.Duration) time.Duration {
				return time.Duration(-math.Log(1-f.draw(what, c.name, id, strconv.Itoa(n))) * float64(mean))
			}
			at = at.Add(draw("out", o.Every))
			if !at.Before(f.world.end) {
				break
			}
			length := draw("out for", o.For)
			begins, ends := f.alignOutage(at, grid), f.alignOutage(at.Add(length), grid)
			f.scheduleSilence(c, begins, ends.Sub(begins))
			at = at.Add(length)
		}
	}
	return nil
}

// alignOutage returns the end of the grid interval that contains t, minus the stale limit. Random outages begin and end
// at such instants, so that many cells fall silent at once and fewer plans are needed.
func (f *fleet) alignOutage(t time.Time, grid time.Duration) time.Time {
	return t.Add(grid - t.Sub(f.world.input.From)%grid - f.world.staleAfter()%grid)
}

func (f *fleet) scheduleSilence(c *cell, from time.Time, length time.Duration) {
	if from.Before(f.world.now) {
		length -= f.world.now.Sub(from)
		from = f.world.now
	}
	if length <= 0 {
		return
	}
	f.world.queue.scheduleReport(from, func() bool { f.loseContact(c); return false })
	f.world.queue.scheduleReport(from.Add(length), func() bool { return f.regainContact(c) })
}

func (f *fleet) isSelected(c *cell, sel Select, number int) bool {
	if len(sel.Cells) > 0 && !slices.Contains(sel.Cells, c.name) || sel.Channel != "" && sel.Channel != c.channel {
		return false
	}
	for k, v := range sel.Labels {
		if c.labels[k] != v {
			return false
		}
	}
	return sel.Share == 0 || f.draw("share", c.name, strconv.Itoa(number)) < sel.Share
}
