// Package adoption keeps how the cells of each channel were spread over releases and conditions, for 30 days.
//
// A Keeper counts the newest view once a minute, and keeps a point where the counts changed. A channel's day is one
// record of engine/records, so that both stores have it. The days before yesterday are rolled up to hours, and older
// ones than 30 days are deleted; what does not fit into a record is rolled up earlier. Time in which nobody counted is
// a gap, and stays unknown. No decision reads any of this, and a lost store loses no intent.
//
// A Day is plain data, and its methods do no I/O. Only the leader writes. Read may be called from any goroutine.
package adoption

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// Days is for how long samples are kept.
const Days = 30

const (
	recordKind = "adoption"
	dateLayout = "2006-01-02"
	maxKinds   = 48
	maxGap     = 20 // minutes between two counts after which the time between them is unknown
	touchAfter = 15 // minutes after which an unchanged day is written all the same, so that it shows no gap
	rolledUp   = 60 // minutes of a step of a day that is over
)

// Kind is what is counted: the cells in a condition that run a release; empty: none.
type Kind struct {
	Release   string
	Condition view.Condition
}

// others stands for releases beyond so many kinds.
const others = "others"

// Day is one day of a channel, in UTC.
type Day struct {
	Kinds  []Kind
	Points []Point // by time; the last holds up to Until
	Until  int     // the minute of the newest count
	Step   int     // minutes to which it was rolled up; 0: to none
}

// Point says how many cells are of each of the day's kinds from a minute on. Missing counts are 0; without any, the
// counts are not known.
type Point struct {
	Minute int
	Counts []int
}

// Count counts the cells of a view by channel; the empty channel stands for all.
func Count(v *view.View) map[string]map[Kind]int {
	all := map[string]map[Kind]int{"": {}}
	for _, name := range v.Desired.Order {
		all[name] = map[Kind]int{}
	}
	for _, c := range view.StatusOf(v, view.StatusPage{}).Cells {
		k := Kind{c.Release, c.Condition}
		all[""][k]++
		if counts := all[c.Channel]; counts != nil {
			counts[k]++
		}
	}
	return all
}

// Add adds the counts of a minute, and reports whether they differ from those before.
func (d *Day) Add(minute int, counts map[Kind]int) (differ bool) {
	if n := len(d.Points); n > 0 && minute-d.Until > maxGap {
		d.Points = append(d.Points, Point{Minute: d.Until + 1})
	}
	p := Point{Minute: minute, Counts: d.vector(counts)}
	d.Until = max(d.Until, minute)
	last := len(d.Points) - 1
	switch {
	case last >= 0 && sameCounts(d.Points[last].Counts, p.Counts):
		return false
	case last >= 0 && d.Points[last].Minute >= minute:
		d.Points[last].Counts = p.Counts
	default:
		d.Points = append(d.Points, p)
	}
	return true
}

// vector returns counts in the order of the day's kinds, to which new ones are added.
func (d *Day) vector(counts map[Kind]int) []int {
	fresh := make([]Kind, 0, len(counts))
	for k := range counts {
		if !slices.Contains(d.Kinds, k) {
			fresh = append(fresh, k)
		}
	}
	slices.SortFunc(fresh, func(a, b Kind) int {
		return cmp.Or(strings.Compare(a.Release, b.Release), cmp.Compare(a.Condition, b.Condition))
	})
	for _, k := range fresh {
		if len(d.Kinds) < maxKinds {
			d.Kinds = append(d.Kinds, k)
		}
	}
	v := make([]int, len(d.Kinds), len(d.Kinds)+1)
	for k, n := range counts {
		i := slices.Index(d.Kinds, k)
		if i < 0 {
			k.Release = others
			if i = slices.Index(d.Kinds, k); i < 0 {
				i = len(d.Kinds)
				d.Kinds, v = append(d.Kinds, k), append(v, 0)
			}
		}
		v[i] += n
	}
	if len(v) == 0 {
		v = append(v, 0) // no cell at all is known, too
		if len(d.Kinds) == 0 {
			d.Kinds = append(d.Kinds, Kind{Condition: view.ConditionNew})
		}
	}
	return v
}

// sameCounts compares counts; missing ones are 0, and unknown ones equal none.
func sameCounts(a, b []int) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	for i := range max(len(a), len(b)) {
		if at(a, i) != at(b, i) {
			return false
		}
	}
	return true
}

func at(counts []int, i int) int {
	if i < len(counts) {
		return counts[i]
	}
	return 0
}

// RollUp keeps the last point of each step of so many minutes.
func (d *Day) RollUp(step int) {
	var kept []Point
	for _, p := range d.Points {
		start := p.Minute / step * step
		if n := len(kept); n > 0 && kept[n-1].Minute == start {
			kept[n-1].Counts = p.Counts
			continue
		}
		kept = append(kept, Point{start, p.Counts})
	}
	d.Points, d.Step = kept, step
}

// encode returns the day as the body of a record, rolled up as far as it takes to fit.
func (d *Day) encode() ([]byte, error) {
	for _, step := range []int{0, 5, 15, rolledUp, 6 * rolledUp, 24 * rolledUp} {
		if step > d.Step {
			d.RollUp(step)
		}
		body, err := d.MarshalJSON()
		if err != nil || len(body) <= records.MaxBody {
			return body, err
		}
	}
	return nil, fmt.Errorf("a day with %d kinds does not fit into a record", len(d.Kinds))
}

// key returns the key of a channel's day.
func key(channel string, day time.Time) string { return channel + "/" + day.UTC().Format(dateLayout) }

// dayOf returns the day that a key is about. ok is false if it is no key of this package.
func dayOf(key string) (day time.Time, ok bool) {
	day, err := time.Parse(dateLayout, key[strings.LastIndexByte(key, '/')+1:])
	return day, err == nil
}

// Series is how a channel's cells were spread over time.
type Series struct {
	Kinds   []Kind
	Samples []Sample // by time; each holds until the next, and the last until Until
	Until   time.Time
}

// Sample is one count. Without Counts, they are not known; Series.Count reads them.
type Sample struct {
	At     time.Time
	Counts []int // by the kinds of the sample's day; missing ones are 0

	kinds []int // where each kind of the series is in Counts, plus 1; 0, or missing: nowhere. nil: in the same order
}

// add appends a day.
func (s *Series) add(date time.Time, d *Day) {
	kinds := make([]int, len(s.Kinds), len(s.Kinds)+len(d.Kinds))
	for i, k := range d.Kinds {
		if of := slices.Index(s.Kinds, k); of >= 0 {
			kinds[of] = i + 1
			continue
		}
		s.Kinds, kinds = append(s.Kinds, k), append(kinds, i+1)
	}
	if n := len(s.Samples); n > 0 && len(d.Points) > 0 {
		if first := date.Add(time.Duration(d.Points[0].Minute) * time.Minute); first.Sub(s.Until) > maxGap*time.Minute {
			s.Samples = append(s.Samples, Sample{At: s.Until})
		}
	}
	for _, p := range d.Points {
		s.Samples = append(s.Samples, Sample{At: date.Add(time.Duration(p.Minute) * time.Minute), Counts: p.Counts,
			kinds: kinds})
	}
	s.Until = date.Add(time.Duration(d.Until) * time.Minute)
}

// Count returns the count of a kind in a sample.
func (s *Series) Count(sample, kind int) int {
	one := &s.Samples[sample]
	if one.kinds == nil {
		return at(one.Counts, kind)
	}
	if of := at(one.kinds, kind); of > 0 {
		return at(one.Counts, of-1)
	}
	return 0
}
