package telemetry

import (
	"cmp"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/releases/export"
)

// Bounds of an Aggregate.
const (
	MaxSeries  = 5_000
	maxSources = 20_000
	maxEvents  = 1_000 // between two collections
	forgotten  = time.Hour
	boundsKept = 2 * time.Minute // after the last sample with a histogram's bounds
)

// Reason says why something did not leave.
type Reason string

const (
	Unlisted    Reason = "unlisted"    // no list names it
	WrongType   Reason = "type"        // it has another type than the list says
	TooMany     Reason = "many"        // there are too many series, or too many events in a minute
	NoNumber    Reason = "number"      // it is not a finite number
	Malformed   Reason = "malformed"   // it can't be read
	Temporality Reason = "temporality" // it does not say from when it counts
	OtherBounds Reason = "bounds"      // another producer measures the same histogram with other bounds
)

// DroppedMetric counts what did not leave, by reason. It leaves whatever the list says.
const DroppedMetric = export.OwnPrefix + "dropped"

// Sample is one measurement as it came in. Decoders reuse it: its slices are valid during a call.
type Sample struct {
	Name   string
	Type   export.Type
	Labels []Label
	Source uint64    // tells producers apart that measure the same
	Start  time.Time // from when a counter or a histogram counts; zero: not known
	Delta  bool      // it counts from the sample before

	Value float64 // of a gauge or a counter

	Count   uint64 // of a histogram, as is what follows
	Sum     float64
	Bounds  []float64
	Buckets []uint64
}

// Aggregate keeps the newest point of each series that may leave. Series that differ only in labels that stay in the
// cell become one: counters and histograms are added up, of a gauge the newest value counts.
type Aggregate struct {
	rules   *Rules
	began   time.Time
	from    time.Time // what a producer that is not known counted before does not count
	seed    maphash.Seed
	series  map[string]*series
	sources map[uint64]*source
	dropped map[Reason]uint64
	changed bool // dropped changed since it was collected
	events  []Line
	points  int    // of the request that is being decoded
	key     []byte // of the series that is looked for; kept for its room
}

type series struct {
	rule   metricRule
	name   string
	labels map[string]string
	since  time.Time
	seen   time.Time
	news   bool // since it was collected
	total  totals
}

// source is what a producer said last of something that it counts from its own start.
type source struct {
	seen time.Time
	last totals
}

type totals struct {
	value   float64
	count   uint64
	sum     float64
	bounds  []float64
	buckets []uint64
}

// NewAggregate returns an aggregate that begins at now.
func NewAggregate(r *Rules, now time.Time) *Aggregate {
	a := &Aggregate{began: now, seed: maphash.MakeSeed(), dropped: map[Reason]uint64{}}
	a.SetRules(r, now)
	return a
}

// SetRules begins anew under other rules: nothing that came in, or was counted, before now leaves any more. It reports
// whether something that came in is lost by that.
func (a *Aggregate) SetRules(r *Rules, now time.Time) (lost bool) {
	lost = len(a.events) > 0
	for _, s := range a.series {
		lost = lost || s.news
	}
	a.from = now
	a.rules, a.series, a.sources, a.events = r, map[string]*series{}, map[uint64]*source{}, nil
	return lost
}

// Rules returns the rules in force.
func (a *Aggregate) Rules() *Rules { return a.rules }

// Drop counts something that does not leave.
func (a *Aggregate) Drop(why Reason) { a.DropMany(why, 1) }

// DropMany counts several.
func (a *Aggregate) DropMany(why Reason, n int) {
	a.dropped[why] += uint64(n)
	a.changed = true
}

// AddOwn takes a sample of the agent's own in, if it may leave.
func (a *Aggregate) AddOwn(s *Sample, now time.Time) {
	if rule, ok := a.rules.metrics[s.Name]; ok && rule.own && rule.kind == s.Type {
		a.add(s, rule, now)
	}
}

// Add takes a sample of a program in.
func (a *Aggregate) Add(s *Sample, now time.Time) {
	rule, ok := a.rules.metrics[s.Name]
	switch {
	case !ok || rule.own:
		a.Drop(Unlisted)
	case rule.kind != s.Type:
		a.Drop(WrongType)
	case !isFinite(s.Value) || !isFinite(s.Sum):
		a.Drop(NoNumber)
	case s.Type == export.Histogram && !validHistogram(s.Bounds, s.Buckets):
		a.Drop(Malformed)
	default:
		a.add(s, rule, now)
	}
}

func isFinite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func (a *Aggregate) add(s *Sample, rule metricRule, now time.Time) {
	delta := totals{s.Value, s.Count, s.Sum, s.Bounds, s.Buckets}
	if s.Type != export.Gauge && !s.Delta {
		var ok bool
		if delta, ok = a.difference(s, now); !ok {
			a.Drop(TooMany)
			return
		}
	}
	to := a.find(s, rule, now)
	if to == nil {
		a.Drop(TooMany)
		return
	}
	if s.Type == export.Gauge {
		to.seen, to.news, to.total.value = now, true, s.Value
		return
	}
	other := len(to.total.buckets) != len(s.Buckets) || !slices.Equal(to.total.bounds, s.Bounds)
	switch {
	case !isFinite(to.total.value+delta.value) || !isFinite(to.total.sum+delta.sum):
		a.Drop(NoNumber)
		return
	case other && len(to.total.buckets) > 0 && now.Sub(to.seen) < boundsKept:
		a.Drop(OtherBounds)
		return
	case other:
		to.total = totals{bounds: slices.Clone(s.Bounds), buckets: make([]uint64, len(s.Buckets))}
		to.since = now
	}
	to.seen, to.news = now, true
	to.total.value += delta.value
	to.total.count += delta.count
	to.total.sum += delta.sum
	for i, n := range delta.buckets {
		to.total.buckets[i] += n
	}
}

// find returns the series of a sample; nil: there are too many.
func (a *Aggregate) find(s *Sample, rule metricRule, now time.Time) *series {
	a.key = append(a.key[:0], s.Name...)
	for i := range rule.labels {
		u := &rule.labels[i]
		a.key = append(a.key, 0)
		a.key = append(a.key, a.rules.labelValue(u, find(s.Labels, u.name))...)
	}
	if found := a.series[string(a.key)]; found != nil {
		return found
	}
	if len(a.series) >= MaxSeries {
		return nil
	}
	made := &series{rule: rule, name: s.Name, since: now, labels: make(map[string]string, len(rule.labels))}
	for i := range rule.labels {
		u := &rule.labels[i]
		made.labels[u.name] = a.rules.labelValue(u, find(s.Labels, u.name))
	}
	a.series[string(a.key)] = made
	return made
}

// difference returns by how much a producer counted on since its last sample; false: there are too many producers.
// What it counted before these rules were in force is not counted.
func (a *Aggregate) difference(s *Sample, now time.Time) (totals, bool) {
	key := s.Source + maphash.String(a.seed, s.Name)
	for _, l := range s.Labels {
		key += maphash.String(a.seed, l.Name+"\x00"+l.Value) // in any order
	}
	from, known := a.sources[key]
	if !known {
		if len(a.sources) >= maxSources {
			return totals{}, false
		}
		from = &source{}
		a.sources[key] = from
	}
	before := from.last
	is := totals{s.Value, s.Count, s.Sum, s.Bounds, s.Buckets}
	from.seen = now
	from.last = totals{s.Value, s.Count, s.Sum, slices.Clone(s.Bounds), slices.Clone(s.Buckets)}
	if !known && (s.Start.IsZero() || s.Start.Before(a.from)) {
		before = is
	}
	return is.minus(before), true
}

// minus returns t less what was before; all of t if the producer began anew meanwhile.
func (t totals) minus(before totals) totals {
	if t.value < before.value || t.count < before.count || !slices.Equal(t.bounds, before.bounds) {
		return t
	}
	less := totals{value: t.value - before.value, count: t.count - before.count, sum: t.sum - before.sum,
		bounds: t.bounds, buckets: make([]uint64, len(t.buckets))}
	for i, n := range t.buckets {
		if i < len(before.buckets) {
			if n < before.buckets[i] {
				return t
			}
			n -= before.buckets[i]
		}
		less.buckets[i] = n
	}
	return less
}

// AddEvent takes an event in. Attributes are strings, float64, int64 and bool; others stay.
func (a *Aggregate) AddEvent(kind string, attributes map[string]any, now time.Time) {
	uses, ok := a.rules.events[kind]
	switch {
	case !ok:
		a.Drop(Unlisted)
		return
	case len(a.events) >= maxEvents:
		a.Drop(TooMany)
		return
	}
	line := Line{At: now, Event: kind, Fields: map[string]Scalar{}}
	for i := range uses {
		if v := a.rules.fieldValue(&uses[i], attributes[uses[i].name]); v != nil {
			line.Fields[uses[i].name] = Scalar{v}
		}
	}
	a.events = append(a.events, line)
}

// Collect returns what leaves for the minute that ends at now, in order: events since the last collection, and the
// series with news whose turn it is.
func (a *Aggregate) Collect(now time.Time) []Line { return a.collect(now, false) }

// CollectLast is Collect at the aggregate's end, when it is every series' turn.
func (a *Aggregate) CollectLast(now time.Time) []Line { return a.collect(now, true) }

func (a *Aggregate) collect(now time.Time, last bool) []Line {
	lines := slices.Grow(a.events, len(a.series)+len(a.dropped))
	a.events = nil
	keys := slices.AppendSeq(make([]string, 0, len(a.series)), maps.Keys(a.series))
	slices.Sort(keys)
	for _, key := range keys {
		s := a.series[key]
		if now.Sub(s.seen) > forgotten {
			delete(a.series, key)
			continue
		}
		isDue := last || now.Truncate(export.MinEvery).Unix()%int64(s.rule.every.Seconds()) == 0
		if !s.news || !isDue {
			continue
		}
		s.news = false
		lines = append(lines, s.line(now))
	}
	for key, from := range a.sources {
		if now.Sub(from.seen) > forgotten {
			delete(a.sources, key)
			a.from = now // or all that it ever counted would count again
		}
	}
	if a.changed {
		a.changed = false
		for _, why := range slices.SortedFunc(maps.Keys(a.dropped), cmp.Compare) {
			n := float64(a.dropped[why])
			lines = append(lines, Line{At: now, Metric: DroppedMetric, Type: export.Counter, Since: a.began, Value: &n,
				Labels: map[string]string{"reason": string(why)}})
		}
	}
	return lines
}

func (s *series) line(now time.Time) Line {
	l := Line{At: now, Metric: s.name, Type: s.rule.kind, Labels: s.labels}
	if s.rule.kind != export.Gauge {
		l.Since = s.since
	}
	if s.rule.kind == export.Histogram {
		l.Count, l.Sum = s.total.count, s.total.sum
		l.Bounds, l.Buckets = s.total.bounds, slices.Clone(s.total.buckets)
		return l
	}
	value := s.total.value
	l.Value = &value
	return l
}
