package simulate

import (
	"container/heap"
	"time"
)

// eventQueue holds the events to come, ordered by time and then by when they were added.
type eventQueue struct {
	start      time.Time
	grid       time.Duration // reports are seen at multiples of grid, counted from start
	heap       eventHeap
	lastNumber int
	planWakes  map[int64]bool // instants at which only a plan is made, once each
}

// queuedEvent is something that happens at an instant. run reports whether the control plane sees it; nil: only a plan
// is made.
type queuedEvent struct {
	at     time.Time
	number int
	run    func() (seen bool, err error)
}

func (a *eventQueue) schedule(t time.Time, do func() (seen bool, err error)) {
	a.lastNumber++
	heap.Push(&a.heap, queuedEvent{t, a.lastNumber, do})
}

// scheduleReport adds an event that a cell's report brings: it is seen at the end of the report interval.
func (a *eventQueue) scheduleReport(t time.Time, do func() (seen bool)) {
	a.schedule(a.seenAt(t), func() (bool, error) { return do(), nil })
}

// seenAt returns the instant at which the control plane sees what happens at t.
func (a *eventQueue) seenAt(t time.Time) time.Time {
	over := t.Sub(a.start) % a.grid
	if over == 0 {
		return t
	}
	return t.Add(a.grid - over)
}

// schedulePlan adds a plan at t, rounded up to the grid.
func (a *eventQueue) schedulePlan(t time.Time) {
	t = a.seenAt(t)
	if a.planWakes == nil {
		a.planWakes = map[int64]bool{}
	}
	if key := t.UnixNano(); !a.planWakes[key] {
		a.planWakes[key] = true
		a.schedule(t, nil)
	}
}

func (a *eventQueue) nextAt() (at time.Time, ok bool) {
	if len(a.heap) == 0 {
		return time.Time{}, false
	}
	return a.heap[0].at, true
}

func (a *eventQueue) popDue(now time.Time) (d queuedEvent, ok bool) {
	if at, any := a.nextAt(); !any || at.After(now) {
		return queuedEvent{}, false
	}
	d = heap.Pop(&a.heap).(queuedEvent)
	if d.run == nil {
		delete(a.planWakes, d.at.UnixNano())
	}
	return d, true
}

type eventHeap []queuedEvent

func (e eventHeap) Len() int      { return len(e) }
func (e eventHeap) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e eventHeap) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].number < e[j].number
}
func (e *eventHeap) Push(x any) { *e = append(*e, x.(queuedEvent)) }
func (e *eventHeap) Pop() any {
	last := len(*e) - 1
	d := (*e)[last]
	(*e)[last] = queuedEvent{}
	*e = (*e)[:last]
	return d
}
