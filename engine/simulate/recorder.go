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

// fewNames is how many cells an event names.
const fewNames = 3

// recorder writes down what happens.
type recorder struct {
	res      *Result
	counts   map[string]map[string]int // by channel and release: cells that run it
	dirty    map[string]bool           // channels whose counts changed since the last sample
	rollouts map[string][]*Rollout     // by channel
	open     map[waitKey]*waiting
	arrivals map[arrivalKey]int // index into the result's
}

type waitKey struct {
	channel, release, gate string
	cells                  bool // the verdict holds single cells, not the channel
}

type arrivalKey struct {
	cell     string
	sequence int64
}

// waiting is a verdict that stands.
type waiting struct {
	wait  Wait
	event int       // its line in the timeline
	plan  int       // the last that had it
	cells int       // that it held in that plan
	gone  time.Time // of the first plan since then, which had it no more
}

func newRecorder(w *world) *recorder {
	r := &recorder{
		res:    &Result{Commit: w.d.Commit, From: w.now, Until: w.end, Seed: w.in.Scenario.Seed, series: map[string][]shares{}},
		counts: map[string]map[string]int{}, dirty: map[string]bool{}, rollouts: map[string][]*Rollout{},
		open: map[waitKey]*waiting{}, arrivals: map[arrivalKey]int{},
	}
	r.res.Timeline, r.res.Arrivals, r.res.Waits = []Event{}, []Arrival{}, []Wait{}
	for name, c := range w.d.Channels {
		r.counts[name], r.dirty[name] = map[string]int{}, true
		if e := c.Effective; e != nil {
			r.rollouts[name] = append(r.rollouts[name], &Rollout{Release: e.Release, Sequence: e.Sequence, Kind: "standing", Moved: e.Moved})
		}
	}
	for _, c := range w.fleet.order {
		if c.running != nil && r.counts[c.channel] != nil {
			c.counted = c.running.Release
			r.counts[c.channel][c.counted]++
		}
	}
	return r
}

func (r *recorder) happened(e Event) { r.res.Timeline = append(r.res.Timeline, e) }

// planned writes down what a plan does and what it blocks.
func (r *recorder) planned(w *world) {
	for _, a := range w.plan.Learned.Accepted {
		r.happened(Event{At: w.now, Kind: "accepted", Channel: a.Downstream, Release: a.Release, Text: a.Upstream + ": " + a.Evidence})
	}
	for _, f := range w.plan.Learned.Finished {
		for _, o := range r.rollouts[f.Channel] {
			if o.Sequence == f.Sequence && o.Kind != "standing" {
				o.Finished = w.now
				r.happened(Event{At: w.now, Kind: "finished", Channel: f.Channel, Release: o.Release})
			}
		}
	}
	for i := range w.plan.Actions {
		r.action(w, &w.plan.Actions[i])
	}
	r.blocked(w.plans, w.now, w.plan.Blocked)
}

func (r *recorder) action(w *world, a *plan.Action) {
	e := Event{At: w.now, Kind: string(a.Kind), Channel: a.Channel, Release: a.Release, Text: a.Reason}
	s := &r.res.Summary
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
		r.rollouts[a.Channel] = append(r.rollouts[a.Channel], &Rollout{Release: a.Release, Sequence: a.Sequence, Kind: string(a.Kind), Moved: w.now})
	case plan.Halt:
		s.Halts++
	case plan.Quarantines:
		s.Quarantined++
	case plan.Grant:
		e.Wave, e.Cells, e.Names = a.Wave, len(a.Cells), a.Cells[:min(fewNames, len(a.Cells))]
		s.Granted += len(a.Cells)
		r.grant(w.now, a)
		if n := len(r.res.Timeline); n > 0 { // one line for what follows on itself
			if last := &r.res.Timeline[n-1]; last.Kind == e.Kind && last.Channel == e.Channel && last.Release == e.Release && last.Wave == e.Wave {
				last.Cells += e.Cells
				return
			}
		}
	}
	r.happened(e)
}

func (r *recorder) grant(now time.Time, a *plan.Action) {
	o := r.rollout(a.Channel, a.Sequence)
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
		r.arrivals[arrivalKey{name, a.Sequence}] = len(r.res.Arrivals)
		r.res.Arrivals = append(r.res.Arrivals, Arrival{Cell: name, Channel: a.Channel, Release: a.Release, Sequence: a.Sequence, Wave: a.Wave, Granted: now})
	}
}

func (r *recorder) rollout(channel string, sequence int64) *Rollout {
	for _, o := range slices.Backward(r.rollouts[channel]) {
		if o.Sequence == sequence {
			return o
		}
	}
	return nil
}

// arrived writes down that a cell runs what it was assigned.
func (r *recorder) arrived(w *world, c *cell) {
	a := c.running
	counts := r.counts[c.channel]
	if counts != nil && c.counted != a.Release {
		if c.counted != "" {
			counts[c.counted]--
		}
		counts[a.Release]++
		c.counted, r.dirty[c.channel] = a.Release, true
	}
	r.res.Summary.Arrived++
	if i, ok := r.arrivals[arrivalKey{c.name, a.Sequence}]; ok {
		r.res.Arrivals[i].At = w.now
	}
	o := r.rollout(c.channel, a.Sequence)
	if o == nil {
		return
	}
	if o.Arrived++; o.First.IsZero() {
		o.First = w.now
	}
	o.Last = w.now
	if ch := w.d.Channels[c.channel]; o.Half.IsZero() && ch != nil && 2*o.Arrived >= len(ch.Cells) {
		o.Half = w.now
	}
}

// failed writes down that an assignment failed in a cell.
func (r *recorder) failed(w *world, c *cell, a *cells.Assignment) {
	r.res.Summary.Failed++
	if i, ok := r.arrivals[arrivalKey{c.name, a.Sequence}]; ok {
		r.res.Arrivals[i].Failed = true
	}
	if o := r.rollout(c.channel, a.Sequence); o != nil {
		o.Failed++
	}
	if n := len(r.res.Timeline); n > 0 {
		if last := &r.res.Timeline[n-1]; last.Kind == "failed" && last.Channel == c.channel && last.Release == a.Release {
			last.Cells++
			if len(last.Names) < fewNames {
				last.Names = append(last.Names, c.name)
			}
			return
		}
	}
	r.happened(Event{At: w.now, Kind: "failed", Channel: c.channel, Release: a.Release, Cells: 1, Names: []string{c.name}})
}

// blocked follows verdicts from the first plan that has them to the first that has them no more.
func (r *recorder) blocked(p int, now time.Time, verdicts []channels.Verdict) {
	for _, v := range verdicts {
		key := waitKey{v.Channel, v.Release, v.Gate, v.Cell != ""}
		o := r.open[key]
		if o == nil {
			o = &waiting{event: len(r.res.Timeline), wait: Wait{Channel: v.Channel, Gate: v.Gate, Release: v.Release, Reason: v.Reason, From: now}}
			r.open[key] = o
			r.happened(Event{At: now, Kind: "blocked", Channel: v.Channel, Release: v.Release, Gate: v.Gate, Text: v.Reason})
		}
		if o.plan != p {
			o.plan, o.cells, o.gone = p, 0, time.Time{}
		}
		if v.Cell == "" {
			continue
		}
		o.cells++
		o.wait.Cells = max(o.wait.Cells, o.cells)
		e := &r.res.Timeline[o.event]
		e.Cells = o.wait.Cells
		if len(e.Names) < min(fewNames, o.cells) {
			e.Names = append(e.Names, v.Cell)
		}
	}
	for _, key := range r.standing() {
		o := r.open[key]
		if o.plan == p {
			continue
		}
		if o.gone.IsZero() {
			o.gone = now
		}
		if !key.cells || now.Sub(o.gone) > grace {
			r.close(key, o.gone)
		}
	}
}

// grace is how long a verdict about cells may be away and still be the same wait: that of a full rollout comes and
// goes with each cell.
const grace = 15 * time.Minute

// standing gives the waits that are open, in order.
func (r *recorder) standing() []waitKey {
	return slices.SortedFunc(maps.Keys(r.open), func(a, b waitKey) int {
		return cmp.Or(cmp.Compare(a.channel, b.channel), cmp.Compare(a.gate, b.gate), cmp.Compare(a.release, b.release), cmp.Compare(r.open[a].event, r.open[b].event))
	})
}

func (r *recorder) close(key waitKey, until time.Time) {
	o := r.open[key]
	delete(r.open, key)
	o.wait.Until = until
	o.wait.Longest = seconds(until.Sub(o.wait.From))
	r.res.Timeline[o.event].For = o.wait.Longest
	r.res.all = append(r.res.all, o.wait)
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// sample notes the counts that changed.
func (r *recorder) sample(w *world) {
	for name, dirty := range r.dirty {
		if dirty || w.now.Equal(w.end) {
			r.dirty[name] = false
			r.res.series[name] = append(r.res.series[name], shares{w.now, maps.Clone(r.counts[name])})
		}
	}
}

// result ends the recording.
func (r *recorder) result(w *world) *Result {
	for _, key := range r.standing() {
		o := r.open[key]
		if o.wait.Open = o.gone.IsZero(); o.wait.Open {
			o.gone = w.end
		}
		r.close(key, o.gone)
	}
	r.res.Timeline = slices.DeleteFunc(r.res.Timeline, func(e Event) bool { return e.Kind == "blocked" && e.For == 0 })
	r.res.Waits = longest(r.res.all)
	s := &r.res.Summary
	s.Cells, s.Plans = len(w.fleet.order), w.plans
	for _, e := range r.res.Timeline {
		if e.Kind == "cut" {
			s.Releases++
		}
	}
	for _, name := range w.d.Order {
		c := w.d.Channels[name]
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
		r.res.Channels = append(r.res.Channels, out)
	}
	return r.res
}

// longest keeps the longest wait of each channel and gate, with the sum of all.
func longest(all []Wait) []Wait {
	type gate struct{ channel, gate string }
	best := map[gate]*Wait{}
	for _, wait := range all {
		if wait.Longest == 0 {
			continue
		}
		b := best[gate{wait.Channel, wait.Gate}]
		if b == nil {
			b = &Wait{}
			best[gate{wait.Channel, wait.Gate}] = b
		}
		total, times := b.Total+wait.Longest, b.Times+1
		if wait.Longest > b.Longest {
			*b = wait
		}
		b.Total, b.Times = total, times
	}
	out := make([]Wait, 0, len(best))
	for _, b := range best {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Wait) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(b.Longest, a.Longest), cmp.Compare(a.Gate, b.Gate))
	})
	return out
}
