package simulate

import (
	"container/heap"
	"time"
)

// eventQueue holds the events to come, ordered by time and then by when they were added.
type eventQueue struct {
	start      time.Time
	grid       time.Duration // plans by time alone are made at multiples of grid, counted from start
	beat       time.Duration // reports are seen at multiples of beat
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

// beatPerCell is by how much each cell lengthens the beat: each plan costs more with more cells, so fewer are made.
const beatPerCell = 60 * time.Millisecond

// setBeat sets how long it takes at most until the engine plans on a report: a second, as in truth, with few cells, and
// never longer than the interval of reports.
func (a *eventQueue) setBeat(cells int) {
	a.beat = min(max(time.Second, time.Duration(cells)*beatPerCell), a.grid)
}

// scheduleReport adds an event that a cell reports, at once.
func (a *eventQueue) scheduleReport(t time.Time, do func() (seen bool)) {
	a.schedule(a.roundUp(t, a.beat), func() (bool, error) { return do(), nil })
}

// roundUp returns the first multiple of grid, counted from the start, that is not before t.
func (a *eventQueue) roundUp(t time.Time, grid time.Duration) time.Time {
	over := t.Sub(a.start) % grid
	if over == 0 {
		return t
	}
	return t.Add(grid - over)
}

// schedulePlan adds a plan at t, rounded up to the grid.
func (a *eventQueue) schedulePlan(t time.Time) {
	t = a.roundUp(t, a.grid)
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
