package plan

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// A cell numbers its events for its whole life, and sends again what it does not know to be acknowledged. So a number that
// comes again is the same event, unless the agent or its machine was put back, and one that is left out was lost. Whatever
// the numbers do, each event is kept once, and what is out of order is noted (fault 45).

// FreshEvents is what of a report's events is new, and the line of numbers that it is kept under: the boot, and how often its
// numbers went back, so that the store takes no new event for one that had its number before.
type FreshEvents struct {
	Line   string
	Events []cells.Event
}

// history gives b's of events, of which those up to known were told under other boots.
func (b *Boot) history(events []cells.Event, known int64) FreshEvents {
	h := FreshEvents{Line: b.ID, Events: events}
	for len(h.Events) > 0 && h.Events[0].Number <= known {
		h.Events = h.Events[1:]
	}
	if b.Rewound > 0 {
		h.Line += "~" + strconv.Itoa(b.Rewound)
	}
	return h
}

// told compares a report's events with what is remembered of other boots: known is the highest number that is the same
// event, as an agent sends it again that was started anew before its acknowledgment came; other tells whether a number came
// with another content.
func (s *CellState) told(r cells.Report) (known int64, other bool) {
	for _, b := range s.Boots {
		if b.ID == r.Boot {
			continue
		}
		for _, m := range b.Marks {
			i, found := slices.BinarySearchFunc(r.Events, m.Number, func(e cells.Event, n int64) int { return int(min(1, max(-1, e.Number-n))) })
			switch {
			case !found:
			case sumOf(r.Events[i]) == m.Sum:
				known = max(known, m.Number)
			case !filler(r.Events[i]):
				other = true
			}
		}
	}
	return known, other
}

// skipped notes numbers that were left out, but for those that the agent says it dropped.
func (s *CellState) skipped(events []cells.Event) {
	next := s.Confirmed + 1
	for _, e := range events {
		if e.Number > next && e.Kind != "gap" {
			s.miscounted(fmt.Sprintf("events %d to %d never came", next, e.Number-1))
			return
		}
		next = max(next, e.Number+1)
	}
}

func (s *CellState) miscounted(what string) {
	m := Miscount{What: what, At: s.LastReport.Round(0), Times: 1}
	if s.Miscount != nil {
		m.Times += s.Miscount.Times
	}
	s.Miscount = &m
}

func (s *CellState) acknowledge(events []cells.Event) {
	if n := len(events); n > 0 {
		s.Confirmed = max(s.Confirmed, events[n-1].Number)
	}
}

// onItsWay is how much longer than before a report may take without being late.
const onItsWay = 5 * time.Second

// overtaken tells whether reports that were sent after r, by the cell's own clock, were there first: it was held up on its way, by
// a proxy or a link that was cut. Its events are news; what it says of the cell was so, and is not any more. A clock that was set back
// makes one report look like that, not the next. Of an earlier boot, one that took much longer than before is late: it
// says nothing of which boots are alive (R27).
func (s *CellState) overtaken(r cells.Report, at time.Time) bool {
	if s == nil || r.Sent.IsZero() {
		return false
	}
	i := slices.IndexFunc(s.Boots, func(b Boot) bool { return b.ID == r.Boot })
	if i < 0 || s.Boots[i].Sent.IsZero() {
		return false
	}
	b := &s.Boots[i]
	return r.Sent.Before(b.Sent) || i < len(s.Boots)-1 && r.Sent.Sub(at.Round(0)) < b.Skew-onItsWay
}
