package simulate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// fewNames is how many cells an event names at most.
const fewNames = plan.MaxTurnNames

type recorder struct {
	result    *Result
	counts    map[string]map[string]int // how many cells run a release, by channel and release
	changed   map[string]bool           // channels whose counts changed since the last sample
	rollouts  map[string][]*Rollout     // by channel
	openWaits map[waitKey]*openWait
	arrivals  map[arrivalKey]int // index in Result.Arrivals
}

type waitKey struct {
	channel, release, gate string
	cells                  bool // the verdict is about single cells, not the channel
}

type arrivalKey struct {
	cell     string
	sequence int64
}

type openWait struct {
	wait         Wait
	event        int       // index in the timeline of the line about this wait
	lastPlan     int       // the last plan that had the verdict
	blockedCells int       // how many cells that plan had the verdict about
	goneSince    time.Time // instant of the first later plan without the verdict
}

func newRecorder(w *world) *recorder {
	r := &recorder{
		result: &Result{
			Commit: w.desired.Commit, From: w.now, Until: w.end, Seed: w.input.Scenario.Seed,
			series: map[string][]releaseCounts{},
		},
		counts: map[string]map[string]int{}, changed: map[string]bool{}, rollouts: map[string][]*Rollout{},
		openWaits: map[waitKey]*openWait{}, arrivals: map[arrivalKey]int{},
	}
	r.result.Timeline, r.result.Arrivals, r.result.Waits = []Event{}, []Arrival{}, []Wait{}
	for name, c := range w.desired.Channels {
		r.counts[name], r.changed[name] = map[string]int{}, true
		if e := c.Effective; e != nil {
			r.rollouts[name] = append(r.rollouts[name], &Rollout{
				Release: e.Release, Sequence: e.Sequence, Kind: "standing", Moved: e.Moved,
			})
		}
	}
	for _, c := range w.fleet.order {
		if c.running != nil && r.counts[c.channel] != nil {
			c.countedRelease = c.running.Release
			r.counts[c.channel][c.countedRelease]++
		}
	}
	return r
}

func (r *recorder) addEvent(e Event) { r.result.Timeline = append(r.result.Timeline, e) }

func (r *recorder) recordPlan(w *world) {
	for _, a := range w.plan.Learned.Accepted {
		r.addEvent(Event{
			At: w.now, Kind: "accepted", Channel: a.Downstream, Release: a.Release,
			Text: a.Upstream + ": " + a.Evidence,
		})
	}
	for _, f := range w.plan.Learned.Finished {
		for _, o := range r.rollouts[f.Channel] {
			if o.Sequence == f.Sequence && o.Kind != "standing" {
				o.Finished = w.now
				r.addEvent(Event{At: w.now, Kind: "finished", Channel: f.Channel, Release: o.Release})
			}
		}
	}
	for i := range w.plan.Actions {
		r.recordAction(w, &w.plan.Actions[i])
	}
	r.recordVerdicts(w.planCount, w.now, w.plan.Blocked, w.turns)
}

func (r *recorder) recordAction(w *world, a *plan.Action) {
	e := Event{At: w.now, Kind: string(a.Kind), Channel: a.Channel, Release: a.Release, Text: a.Reason}
	s := &r.result.Summary
	switch a.Kind {
	case plan.Promote, plan.Rollback:
		if a.Kind == plan.Promote {
			s.Promotions++
		} else {
			s.Rollbacks++
		}
		if e.Text == "" && a.Replaces != "" {
			e.Text = "replaces " + a.Replaces
		}
		r.rollouts[a.Channel] = append(r.rollouts[a.Channel], &Rollout{
			Release: a.Release, Sequence: a.Sequence, Kind: string(a.Kind), Moved: w.now,
		})
	case plan.Halt:
		s.Halts++
	case plan.Quarantine:
		s.Quarantined++
	case plan.Grant:
		e.Wave, e.Cells, e.Names = a.Wave, len(a.Cells), a.Cells[:min(fewNames, len(a.Cells))]
		s.Granted += len(a.Cells)
		r.recordGrant(w.now, a)
		if n := len(r.result.Timeline); n > 0 { // repeated grants share one line
			if last := &r.result.Timeline[n-1]; last.Kind == e.Kind && last.Channel == e.Channel &&
				last.Release == e.Release && last.Wave == e.Wave {
				last.Cells += e.Cells
				return
			}
		}
	}
	r.addEvent(e)
}

func (r *recorder) recordGrant(now time.Time, a *plan.Action) {
	o := r.findRollout(a.Channel, a.Sequence)
	if o == nil {
		return
	}
	o.Granted += len(a.Cells)
	i := slices.IndexFunc(o.Waves, func(v Wave) bool { return v.Wave == a.Wave })
	if i < 0 {
		i = len(o.Waves)
		o.Waves = append(o.Waves, Wave{Wave: a.Wave, First: now})
	}
	o.Waves[i].Last = now
	o.Waves[i].Cells += len(a.Cells)
	for _, name := range a.Cells {
		r.arrivals[arrivalKey{name, a.Sequence}] = len(r.result.Arrivals)
		r.result.Arrivals = append(r.result.Arrivals, Arrival{
			Cell: name, Channel: a.Channel, Release: a.Release, Sequence: a.Sequence, Wave: a.Wave, Granted: now,
		})
	}
}

func (r *recorder) findRollout(channel string, sequence int64) *Rollout {
	for _, o := range slices.Backward(r.rollouts[channel]) {
		if o.Sequence == sequence {
			return o
		}
	}
	return nil
}

func (r *recorder) recordArrival(w *world, c *cell) {
	a := c.running
	counts := r.counts[c.channel]
	if counts != nil && c.countedRelease != a.Release {
		if c.countedRelease != "" {
			counts[c.countedRelease]--
		}
		counts[a.Release]++
		c.countedRelease, r.changed[c.channel] = a.Release, true
	}
	r.result.Summary.Arrived++
	if i, ok := r.arrivals[arrivalKey{c.name, a.Sequence}]; ok {
		r.result.Arrivals[i].At = w.now
	}
	o := r.findRollout(c.channel, a.Sequence)
	if o == nil {
		return
	}
	if o.Arrived++; o.First.IsZero() {
		o.First = w.now
	}
	o.Last = w.now
	if ch := w.desired.Channels[c.channel]; o.Half.IsZero() && ch != nil && 2*o.Arrived >= len(ch.Cells) {
		o.Half = w.now
	}
}

func (r *recorder) recordFailure(w *world, c *cell, a *cells.Assignment) {
	r.result.Summary.Failed++
	if i, ok := r.arrivals[arrivalKey{c.name, a.Sequence}]; ok {
		r.result.Arrivals[i].Failed = true
	}
	if o := r.findRollout(c.channel, a.Sequence); o != nil {
		o.Failed++
	}
	if n := len(r.result.Timeline); n > 0 {
		if last := &r.result.Timeline[n-1]; last.Kind == "failed" && last.Channel == c.channel &&
			last.Release == a.Release {
			last.Cells++
			if len(last.Names) < fewNames {
				last.Names = append(last.Names, c.name)
			}
			return
		}
	}
	r.addEvent(Event{
		At: w.now, Kind: "failed", Channel: c.channel, Release: a.Release, Cells: 1, Names: []string{c.name},
	})
}

// recordVerdicts follows each verdict from the first plan that has the verdict to the first that does not. The verdicts
// and the turns are sorted by channel, and by the first cell.
func (r *recorder) recordVerdicts(planNumber int, now time.Time, verdicts []channels.Verdict, turns []plan.Turn) {
	recordTurns := func(before func(*plan.Turn) bool) {
		for len(turns) > 0 && before(&turns[0]) {
			t := &turns[0]
			o := r.openWait(planNumber, now, waitKey{t.Channel, t.Release, t.Gate, true}, t.Reason)
			r.addBlockedCells(o, t.Cells, t.First...)
			turns = turns[1:]
		}
	}
	for i := range verdicts {
		v := &verdicts[i]
		recordTurns(func(t *plan.Turn) bool {
			return cmp.Or(cmp.Compare(t.Channel, v.Channel), cmp.Compare(t.First[0], v.Cell)) < 0
		})
		o := r.openWait(planNumber, now, waitKey{v.Channel, v.Release, v.Gate, v.Cell != ""}, v.Reason)
		if v.Cell != "" {
			r.addBlockedCells(o, 1, v.Cell)
		}
	}
	recordTurns(func(*plan.Turn) bool { return true })
	for _, key := range r.sortedWaits() {
		o := r.openWaits[key]
		if o.lastPlan == planNumber {
			continue
		}
		if o.goneSince.IsZero() {
			o.goneSince = now
		}
		if !key.cells || now.Sub(o.goneSince) > waitGrace {
			r.closeWait(key, o.goneSince)
		}
	}
}

// openWait returns the wait that a plan's verdict belongs to.
func (r *recorder) openWait(planNumber int, now time.Time, key waitKey, reason string) *openWait {
	o := r.openWaits[key]
	if o == nil {
		o = &openWait{
			event: len(r.result.Timeline),
			wait:  Wait{Channel: key.channel, Gate: key.gate, Release: key.release, Reason: reason, From: now},
		}
		r.openWaits[key] = o
		r.addEvent(Event{
			At: now, Kind: "blocked", Channel: key.channel, Release: key.release, Gate: key.gate, Text: reason,
		})
	}
	if o.lastPlan != planNumber {
		o.lastPlan, o.blockedCells, o.goneSince = planNumber, 0, time.Time{}
	}
	return o
}

// addBlockedCells adds n cells to those that the newest plan has o's verdict about. first are the first of them.
func (r *recorder) addBlockedCells(o *openWait, n int, first ...string) {
	e := &r.result.Timeline[o.event]
	for i, name := range first {
		if len(e.Names) < min(fewNames, o.blockedCells+i+1) {
			e.Names = append(e.Names, name)
		}
	}
	o.blockedCells += n
	o.wait.Cells = max(o.wait.Cells, o.blockedCells)
	e.Cells = o.wait.Cells
}

// waitGrace is for how long a verdict about cells may be absent and still count as the same wait. While a
// rollout has no free slot, such verdicts come and go with each cell.
const waitGrace = 15 * time.Minute

func (r *recorder) sortedWaits() []waitKey {
	return slices.SortedFunc(maps.Keys(r.openWaits), func(a, b waitKey) int {
		return cmp.Or(cmp.Compare(a.channel, b.channel), cmp.Compare(a.gate, b.gate), cmp.Compare(a.release, b.release),
			cmp.Compare(r.openWaits[a].event, r.openWaits[b].event))
	})
}

func (r *recorder) closeWait(key waitKey, until time.Time) {
	o := r.openWaits[key]
	delete(r.openWaits, key)
	o.wait.Until = until
	o.wait.Longest = seconds(until.Sub(o.wait.From))
	r.result.Timeline[o.event].For = o.wait.Longest
	r.result.allWaits = append(r.result.allWaits, o.wait)
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func (r *recorder) sampleCounts(w *world) {
	for name, dirty := range r.changed {
		if dirty || w.now.Equal(w.end) {
			r.changed[name] = false
			r.result.series[name] = append(r.result.series[name], releaseCounts{w.now, maps.Clone(r.counts[name])})
		}
	}
}

func (r *recorder) finishResult(w *world) *Result {
	for _, key := range r.sortedWaits() {
		o := r.openWaits[key]
		if o.wait.Open = o.goneSince.IsZero(); o.wait.Open {
			o.goneSince = w.end
		}
		r.closeWait(key, o.goneSince)
	}
	r.result.Timeline = slices.DeleteFunc(r.result.Timeline, func(e Event) bool {
		return e.Kind == "blocked" && e.For == 0
	})
	r.result.Waits = longestWaits(r.result.allWaits)
	s := &r.result.Summary
	s.Cells, s.Plans = len(w.fleet.order), w.planCount
	for _, e := range r.result.Timeline {
		if e.Kind == "cut" {
			s.Releases++
		}
	}
	for _, name := range w.desired.Order {
		c := w.desired.Channels[name]
		out := Channel{Name: name, Cells: len(c.Cells), Rollouts: []Rollout{}}
		if e := c.Effective; e != nil {
			out.Head, out.Behind = e.Release, len(c.Cells)-r.counts[name][e.Release]
		}
		for _, o := range r.rollouts[name] {
			if o.Waves == nil {
				o.Waves = []Wave{}
			}
			out.Rollouts = append(out.Rollouts, *o)
		}
		r.result.Channels = append(r.result.Channels, out)
	}
	return r.result
}

// longestWaits returns the longest wait of each channel and gate, with the number and the sum of all of these waits.
func longestWaits(all []Wait) []Wait {
	type waitedGate struct{ channel, gate string }
	longest := map[waitedGate]*Wait{}
	for _, wait := range all {
		if wait.Longest == 0 {
			continue
		}
		b := longest[waitedGate{wait.Channel, wait.Gate}]
		if b == nil {
			b = &Wait{}
			longest[waitedGate{wait.Channel, wait.Gate}] = b
		}
		total, times := b.Total+wait.Longest, b.Times+1
		if wait.Longest > b.Longest {
			*b = wait
		}
		b.Total, b.Times = total, times
	}
	out := make([]Wait, 0, len(longest))
	for _, b := range longest {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Wait) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(b.Longest, a.Longest), cmp.Compare(a.Gate, b.Gate))
	})
	return out
}
