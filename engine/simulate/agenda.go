package simulate

import (
	"container/heap"
	"time"
)

// agenda is what is to come, in order of time and then of when it was put there.
type agenda struct {
	from    time.Time
	grid    time.Duration // reports are seen at multiples of it
	entries entries
	number  int
	waking  map[int64]bool // instants at which nothing happens but a plan: one each is enough
}

// due is something that happens at an instant. do is nil for what only wants a plan to be made; it tells whether
// anybody but the cell learns of it.
type due struct {
	at     time.Time
	number int
	do     func() (seen bool, err error)
}

// at puts something there, at exactly that instant.
func (a *agenda) at(t time.Time, do func() (seen bool, err error)) {
	a.number++
	heap.Push(&a.entries, due{t, a.number, do})
}

// report puts something there that a cell's report brings: it is seen at the end of its interval.
func (a *agenda) report(t time.Time, do func() (seen bool)) {
	a.at(a.seen(t), func() (bool, error) { return do(), nil })
}

// seen gives the instant at which what happens at t is seen.
func (a *agenda) seen(t time.Time) time.Time {
	over := t.Sub(a.from) % a.grid
	if over == 0 {
		return t
	}
	return t.Add(a.grid - over)
}

// wake asks for a plan at t, on the grid.
func (a *agenda) wake(t time.Time) {
	t = a.seen(t)
	if a.waking == nil {
		a.waking = map[int64]bool{}
	}
	if key := t.UnixNano(); !a.waking[key] {
		a.waking[key] = true
		a.at(t, nil)
	}
}

// first tells when the next is due.
func (a *agenda) first() (at time.Time, ok bool) {
	if len(a.entries) == 0 {
		return time.Time{}, false
	}
	return a.entries[0].at, true
}

// due takes the next that is due by now.
func (a *agenda) due(now time.Time) (d due, ok bool) {
	if at, any := a.first(); !any || at.After(now) {
		return due{}, false
	}
	d = heap.Pop(&a.entries).(due)
	if d.do == nil {
		delete(a.waking, d.at.UnixNano())
	}
	return d, true
}

// entries is a heap.
type entries []due

func (e entries) Len() int      { return len(e) }
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e entries) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].number < e[j].number
}
func (e *entries) Push(x any) { *e = append(*e, x.(due)) }
func (e *entries) Pop() any {
	last := len(*e) - 1
	d := (*e)[last]
	(*e)[last] = due{}
	*e = (*e)[:last]
	return d
}
