package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
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
	p := newPlanner(d, o, made.Now)
	all := []Progress{}
	for _, name := range d.Order {
		if channel != "" && channel != name {
			continue
		}
		c := p.channels[name]
		about, ofCells := made.BlockedIn(name)
		s := Progress{Channel: name, Cells: len(c.Cells), Blocked: about, Waiting: groupByGate(ofCells)}
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
