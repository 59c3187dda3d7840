package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// Progress says how far a channel's head has come on its way to the cells.
type Progress struct {
	Channel   string             `json:"channel"`
	Release   string             `json:"release,omitempty" doc:"the head; empty: none yet"`
	Sequence  int64              `json:"sequence,omitempty"`
	Kind      Kind               `json:"kind,omitempty" doc:"promote, rollback or adopted"`
	Moved     time.Time          `json:"moved,omitzero"`
	Finished  bool               `json:"finished" doc:"the head reached all the cells that it was for"`
	Wave      int                `json:"wave,omitempty" doc:"the open wave, from 1; 0: the head does not go out in waves"`
	Waves     []WaveProgress     `json:"waves,omitempty"`
	Cells     int                `json:"cells" doc:"cells in the channel"`
	Could     int                `json:"could" doc:"cells in contact that nothing of their own holds back, or that were granted the head already"`
	Granted   int                `json:"granted" doc:"cells that were granted the head"`
	Healthy   int                `json:"healthy" doc:"cells that are healthy on the head"`
	Applying  int                `json:"applying" doc:"cells that began the head and have no result yet"`
	InFlight  int                `json:"inFlight" doc:"slots in use: cells that were granted something and have no result yet"`
	Slots     int                `json:"maxInFlight,omitempty" doc:"0: no limit"`
	Failed    []string           `json:"failed,omitempty" doc:"cells that failed, whether that counts against the release or not"`
	Stalled   []string           `json:"stalled,omitempty" doc:"cells that began the head and have had no result for longer than the stall limit"`
	Budget    int                `json:"failureBudget" doc:"how many cells may fail; one more stops the rollout"`
	Blocked   []channels.Verdict `json:"blocked,omitempty" doc:"verdicts about the channel"`
	Waiting   []Waiting          `json:"waiting,omitempty" doc:"cells that a gate holds back, by gate, most cells first"`
	SkippedTo int                `json:"skippedTo,omitempty" doc:"the wave that a person opened"`
	// Whatever is asked for, no pre-release becomes the head
	NoPrereleases bool `json:"noPrereleases,omitempty" doc:"the channel takes no pre-releases"`
}

// WaveProgress is one wave.
type WaveProgress struct {
	Wave    int           `json:"wave"`
	Cells   int           `json:"cells" doc:"how many cells may have the head in this wave; cumulative"`
	Soak    time.Duration `json:"soak,omitempty" doc:"in nanoseconds"`
	Healthy int           `json:"healthy" doc:"cells that have soaked for as long as the wave asks"`
	Through bool          `json:"through"`
	Until   time.Time     `json:"until,omitzero" doc:"for the open wave: the earliest instant at which it can be through"`
}

// Waiting says how many cells one gate holds back.
type Waiting struct {
	Gate   string      `json:"gate"`
	Cells  []string    `json:"cells"`
	Code   reason.Code `json:"code,omitempty" doc:"code of the first cell's verdict; see docs/gates.md"`
	Reason string      `json:"reason" doc:"reason of the first cell's verdict"`
	Until  time.Time   `json:"until,omitzero" doc:"the earliest instant of the cells' verdicts"`
}

// Rollouts returns how far each channel's head has come, upstreams first; with a channel's name, only that channel's.
// made is the plan that Make made of d and o.
func Rollouts(d *Desired, o *Observed, made *Plan, channel string) []Progress {
	p := newPlanner(d, o, made.Now, new(Memory))
	all := []Progress{}
	for _, name := range d.Order {
		if channel != "" && channel != name {
			continue
		}
		c := p.channels[name]
		about, ofCells := made.BlockedIn(name)
		s := Progress{Channel: name, Cells: len(c.Cells), Blocked: about, Waiting: groupByGate(ofCells),
			NoPrereleases: c.Policy != nil && !c.Policy.Prereleases}
		if e := c.Effective; e != nil {
			s.Release, s.Sequence, s.Kind, s.Moved = e.Release, e.Sequence, e.Kind, e.Moved
			c.learn()
			c.fillProgress(&s)
		}
		all = append(all, s)
	}
	return all
}

func (c *channelPlan) fillProgress(s *Progress) {
	e, t := c.Effective, c.tally
	s.Finished, s.Healthy, s.SkippedTo = c.isFinished(e), t.healthyWithLate, c.skipOfHead().Wave
	for i := range t.cells {
		switch t.cells[i].outcome {
		case works:
		case stalled:
			s.Stalled = append(s.Stalled, c.Cells[i].Name)
		default:
			s.Failed = append(s.Failed, c.Cells[i].Name)
		}
		state := t.cells[i].last
		if state != nil && state.State == cells.StateApplying && state.Applying != nil &&
			state.Applying.Channel == c.Name && state.Applying.Sequence == e.Sequence {
			s.Applying++
		}
	}
	if c.Valid == nil {
		return
	}
	s.Slots, s.Budget = c.Valid.Rollout.MaxInFlight, c.tally.failureBudget()
	r, w := c.rollout, &c.rollout.progress
	s.Could, s.Granted, s.InFlight, s.Wave = w.ready, w.offered, r.slotsInUse, w.openWave
	for i, wave := range w.waves {
		wp := WaveProgress{
			Wave: i + 1, Cells: w.sizes[i], Soak: wave.Soak, Healthy: w.countSoaked(wave.Soak),
			Through: i < w.wavesThrough,
		}
		if i+1 == w.openWave {
			wp.Until = w.throughAt
		}
		s.Waves = append(s.Waves, wp)
	}
}

func groupByGate(verdicts []channels.Verdict) []Waiting {
	byGate := map[string]*Waiting{}
	for _, v := range verdicts {
		w := byGate[v.Gate]
		if w == nil {
			w = &Waiting{Gate: v.Gate, Code: v.Code, Reason: v.Reason, Until: v.Until}
			byGate[v.Gate] = w
		}
		w.Cells = append(w.Cells, v.Cell)
		if !v.Until.IsZero() && (w.Until.IsZero() || v.Until.Before(w.Until)) {
			w.Until = v.Until
		}
	}
	all := make([]Waiting, 0, len(byGate))
	for _, w := range slices.Collect(maps.Values(byGate)) {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b Waiting) int {
		return cmp.Or(len(b.Cells)-len(a.Cells), cmp.Compare(a.Gate, b.Gate))
	})
	return all
}

// ExpectedMaintenance says for how long cells are expected to refuse operations for a release, which changes a
// component that takes a maintenance.
type ExpectedMaintenance struct {
	Cells    int   `json:"cells" doc:"how many cells take one"`
	Seconds  int64 `json:"seconds" doc:"for how long each refuses operations: the median of what cells measured that went through it, or else the most that the policy allows without a prolongation"`
	Measured int   `json:"measured,omitempty" doc:"how many cells measured it; none: seconds is the policy's maximum"`
}

// String returns it in words.
func (m *ExpectedMaintenance) String() string {
	takes := (time.Duration(m.Seconds) * time.Second).String()
	if m.Measured == 0 {
		return fmt.Sprintf("%s by a maintenance of at most %s", words.Count(m.Cells, "cell"), takes)
	}
	return fmt.Sprintf("%s by a maintenance of about %s, as in %s before", words.Count(m.Cells, "cell"), takes,
		words.Count(m.Measured, "cell"))
}

// TakesMaintenance reports whether the way from one release to another changes a component that takes a maintenance, as
// far as the repository tells.
func (d *Desired) TakesMaintenance(from, to string) bool {
	a, b := d.Releases[from], d.Releases[to]
	return a != nil && b != nil && a.Loaded && b.Loaded &&
		maintenance.Changes(a.Release.Components, b.Release.Components)
}

// ExpectMaintenance returns what the way to a release means for so many cells of a channel that take a maintenance.
func ExpectMaintenance(o *Observed, c *Channel, release string, count int) *ExpectedMaintenance {
	return expectMaintenance(measuredMaintenances(o, release), c, count)
}

// measuredMaintenances returns for how many seconds cells refused operations for a release, the shortest first.
func measuredMaintenances(o *Observed, release string) (measured []int64) {
	for _, s := range o.Cells {
		if s.Maintenance == nil {
			continue
		}
		if last := s.Maintenance.Totals.Last; last != nil && last.Release == release {
			measured = append(measured, last.Seconds)
		}
	}
	slices.Sort(measured)
	return measured
}

func expectMaintenance(measured []int64, c *Channel, count int) *ExpectedMaintenance {
	m := &ExpectedMaintenance{Cells: count, Measured: len(measured)}
	if m.Measured > 0 {
		m.Seconds = max(1, measured[len(measured)/2])
		return m
	}
	var p maintenance.Policy
	if c.Valid != nil {
		p = c.Valid.Maintenance
	}
	m.Seconds = int64(p.WithDefaults().Maximum / time.Second)
	return m
}

// expectMaintenances says of each action that brings cells another release whether they take a maintenance for it.
func (p *planner) expectMaintenances() {
	measured := map[string][]int64{} // by release: many channels may move to one, and each look is at all cells
	for i := range p.plan.Actions {
		a := &p.plan.Actions[i]
		c := p.channels[a.Channel]
		if c == nil || a.Kind != Grant && a.Kind != Promote && a.Kind != Rollback {
			continue
		}
		takes, count := map[string]bool{}, 0 // by the release that runs: there are few
		add := func(cell string) {
			s := p.observed.Cells[cell]
			if s == nil || s.Release == "" || s.Release == a.Release {
				return
			}
			yes, known := takes[s.Release]
			if !known {
				yes = p.desired.TakesMaintenance(s.Release, a.Release)
				takes[s.Release] = yes
			}
			if yes {
				count++
			}
		}
		if a.Kind == Grant {
			for _, cell := range a.Cells {
				add(cell)
			}
		} else {
			for _, cell := range c.Cells {
				add(cell.Name)
			}
		}
		if count > 0 {
			of, known := measured[a.Release]
			if !known {
				of = measuredMaintenances(p.observed, a.Release)
				measured[a.Release] = of
			}
			a.Maintenance = expectMaintenance(of, c.Channel, count)
		}
	}
}

// judgeMaintenance returns the verdict about a cell that has what it was granted and waits for a maintenance with it.
// ok is false if it does not.
func (r *rollout) judgeMaintenance(cell *Cell, s *CellState) (v channels.Verdict, ok bool) {
	m := s.Maintenance
	if m == nil {
		return v, false
	}
	switch m.Phase {
	case maintenance.Announced:
		v = channels.Blocked("maintenance", reason.MaintenanceAnnounced, m.Release).WithUntil(s.OurTime(m.Begins))
	case maintenance.Draining:
		v = channels.Blocked("maintenance", reason.MaintenanceDraining, m.Release).WithUntil(s.OurTime(m.Until))
	default:
		return v, false
	}
	v.Cell = cell.Name
	return v.WithSubject(r.channel.Name, cmp.Or(m.Release, s.Release)), true
}

// plainSkew is how far a cell's clock may be off before its instants are shown by our clock: reports take a while, and
// what is shown should stay the same.
const plainSkew = 10 * time.Second

// OurTime returns an instant that the cell gave by its own clock.
func (s *CellState) OurTime(t time.Time) time.Time {
	if t.IsZero() || s.Skew.Abs() < plainSkew {
		return t
	}
	return t.Add(-s.Skew).Round(plainSkew)
}
