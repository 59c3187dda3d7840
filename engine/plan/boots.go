package plan

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// How two machines that use one cell's key are distinguished from one machine that was restored (R27):
//
//   - Two boots that report in turns, A B A B, each again within the stale limit, are both alive. A virtual machine
//     that was put back may bring an old boot back, but only once, and then the other boot is silent.
//   - A boot that sends one event number with two contents within the stale limit is a running machine that was copied.
//     A machine that was put back to a snapshot repeats numbers too, but of events that it sent longer ago.
//   - A boot that says in turns, soon again, that something runs and that nothing was ever installed is two machines.
//   - Numbers that go back under a new boot show that the agent was restored. An agent that knows of more
//     acknowledgments than were sent here shows that the store was restored. Neither is a clone.

const (
	maxBoots = 4
	maxMarks = 8
)

// Restore says what a report shows about restores.
type Restore int

const (
	NoRestore     Restore = iota
	StoreRestored         // the store knows less than the agent: the store was restored or lost
	AgentRestored         // the agent knows less than the store: the agent was restored
)

// foldBoots folds a report's boot, confirmation and events into s. epoch is the epoch of the cell's identity; a new
// epoch starts everything again. late says that reports which were sent after this one arrived before it.
func (s *CellState) foldBoots(
	prev *CellState, r *cells.Report, epoch int64, late bool, staleAfter time.Duration,
) (Restore, FreshEvents) {
	s.Joined = epoch
	if prev != nil {
		s.Miscount = prev.Miscount
	}
	switch {
	case prev != nil && len(prev.Boots) == 0 && !prev.LastReport.IsZero():
		s.Confirmed = r.Confirmed // stored by a version that kept no boots
	case prev != nil && prev.Joined == epoch:
		s.Boots, s.Clone, s.Confirmed = slices.Clone(prev.Boots), prev.Clone, prev.Confirmed
	case prev != nil:
		s.Boots, s.Clone = nil, ""
		s.Confirmed = r.Confirmed // a new key usually means a new machine, with event numbers of its own
	}
	if r.Boot == "" {
		return NoRestore, FreshEvents{Events: r.Events}
	}
	newBoot := !slices.ContainsFunc(s.Boots, func(b Boot) bool { return b.ID == r.Boot })
	late = late || prev != nil && s.LastReport.Before(prev.LastReport) // the report was delayed, or stored late
	if clone := s.recordBoot(r.Boot, late, staleAfter); clone != "" && s.Clone == "" {
		s.Clone = clone
	}
	b := &s.Boots[slices.IndexFunc(s.Boots, func(b Boot) bool { return b.ID == r.Boot })]
	if !r.Sent.IsZero() {
		b.Sent = r.Sent.Round(0)
		if !late {
			b.Skew = s.Skew
		}
	}
	if clone := b.followRunning(r, late, s.LastReport, staleAfter); clone != "" && s.Clone == "" {
		s.Clone = clone
	}
	known, otherContent := s.compareEvents(r)
	confirmedBefore, wentBack := s.Confirmed, !newBoot && !late && r.Confirmed < b.Confirmed
	clone, repeated := b.recordEvents(r.Events, wentBack, s.LastReport, staleAfter)
	if clone != "" && s.Clone == "" {
		s.Clone = clone
	}
	if wentBack = wentBack || repeated; wentBack {
		b.Rewound++
		s.Confirmed = min(s.Confirmed, r.Confirmed)
	}
	if !late {
		b.Confirmed = r.Confirmed
	}
	restore := s.foldConfirmed(r, newBoot, otherContent)
	switch {
	case wentBack || restore == AgentRestored:
		s.noteMiscount(fmt.Sprintf("event numbers went back from %d to %d", confirmedBefore, r.Confirmed))
	case len(r.Events) > 0:
		s.noteSkippedEvents(r.Events)
	}
	s.acknowledgeEvents(r.Events)
	return restore, b.freshEvents(r.Events, known)
}

// recordBoot records that a boot reported. It returns the evidence if two boots are alive; empty: none.
func (s *CellState) recordBoot(id string, late bool, staleAfter time.Duration) (clone string) {
	at, n := s.LastReport, len(s.Boots)
	i := slices.IndexFunc(s.Boots, func(b Boot) bool { return b.ID == id })
	switch {
	case i < 0:
		s.Boots = append(s.Boots, Boot{ID: id, First: at, Last: at})
		s.Boots = s.Boots[max(0, n+1-maxBoots):]
		return ""
	case late:
		return "" // a late report does not show that its boot is alive
	case i == n-1:
		s.Boots[i].Last = at
		return ""
	}
	b, other := s.Boots[i], &s.Boots[n-1]
	if at.Sub(b.Last) <= staleAfter {
		b.Backs++
	} else {
		b.Backs, other.Backs = 0, 0 // a machine was put back after a while; the other boot ended
	}
	if b.Backs > 0 && other.Backs > 0 {
		clone = fmt.Sprintf("boots %s and %s report in turns", clipID(other.ID), clipID(b.ID))
	}
	b.Last = at
	s.Boots = append(slices.Delete(s.Boots, i, i+1), b)
	return clone
}

// followRunning follows whether the boot says that something runs. One process can't take that back and say that
// nothing was ever installed. A machine that was put back to a snapshot can, once; twice within staleAfter, two
// machines report under one boot id. It returns the evidence; empty: none.
func (b *Boot) followRunning(r *cells.Report, late bool, at time.Time, staleAfter time.Duration) (clone string) {
	switch {
	case late:
	case r.Running != nil:
		b.Ran = true
	case r.State == cells.StatePending && b.Ran:
		if at.Sub(b.LostAt) > staleAfter {
			b.Lost = 0
		}
		b.Ran, b.Lost, b.LostAt = false, b.Lost+1, at.Round(0)
		if b.Lost > 1 {
			clone = fmt.Sprintf("boot %s says in turns that something runs and that nothing was installed", clipID(b.ID))
		}
	}
	return clone
}

// recordEvents remembers the boot's newest events. repeated says that an event number came with a second content, and
// clone is the evidence if it came within staleAfter; empty: none. Once numbers go back, marks from before say nothing
// about later events, and are dropped.
func (b *Boot) recordEvents(
	events []cells.Event, wentBack bool, at time.Time, staleAfter time.Duration,
) (clone string, repeated bool) {
	var marks []Mark
	for _, e := range events[max(0, len(events)-maxMarks):] {
		m := Mark{Number: e.Number, Sum: eventSum(e), At: at}
		if i := slices.IndexFunc(b.Marks, func(k Mark) bool { return k.Number == e.Number }); i >= 0 {
			switch {
			case b.Marks[i].Sum == m.Sum || isFiller(e):
				m = b.Marks[i]
			default:
				repeated = true
				if at.Sub(b.Marks[i].At).Abs() <= staleAfter {
					clone = fmt.Sprintf("boot %s gave event %d two contents", clipID(b.ID), e.Number)
				}
			}
		}
		marks = append(marks, m)
	}
	if !repeated && !wentBack {
		marks = append(slices.DeleteFunc(slices.Clone(b.Marks), func(k Mark) bool {
			return slices.ContainsFunc(marks, func(m Mark) bool { return m.Number == k.Number })
		}), marks...)
		slices.SortFunc(marks, func(x, y Mark) int { return cmp.Compare(x.Number, y.Number) })
	}
	b.Marks = marks[max(0, len(marks)-maxMarks):]
	return clone, repeated
}

// isFiller reports whether an event stands for others that the agent could not keep or send. Its number was used
// before.
func isFiller(e cells.Event) bool { return e.Kind == "gap" || e.Kind == "rejected" }

func eventSum(e cells.Event) uint64 {
	h := fnv.New64a()
	for _, text := range []string{e.Kind, e.Release, e.Digest, e.Detail} {
		h.Write([]byte(text))
		h.Write([]byte{0})
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(e.At.UnixNano()))) //nolint:gosec // any bits do
	return h.Sum64()
}

// foldConfirmed follows the number up to which the agent knows its events to be acknowledged, and reports who forgot
// some. otherContent says that a number came with another content than under an earlier boot.
func (s *CellState) foldConfirmed(r *cells.Report, newBoot, otherContent bool) (restore Restore) {
	switch {
	case r.Confirmed > s.Confirmed:
		restore, s.Confirmed = StoreRestored, r.Confirmed
	case r.Confirmed < s.Confirmed && newBoot && (otherContent || s.forgotConfirmed(r)):
		restore, s.Confirmed = AgentRestored, r.Confirmed
	}
	return restore
}

// forgotConfirmed reports whether a new boot forgot what was acknowledged to the boot before: it confirms less, and
// does not send the later events again, as an agent does that only missed its last acknowledgment.
func (s *CellState) forgotConfirmed(r *cells.Report) bool {
	n := len(r.Events)
	return n == 0 || r.Events[n-1].Number < s.Confirmed
}

func clipID(id string) string {
	if len(id) > 16 {
		return id[:16]
	}
	return id
}

// FreshEvents holds the events of a report that are new, and the line of numbers that the store keeps them under. Line
// is the boot, with how often the boot's numbers went back: the store must not take a new event for an older one with
// the same number.
type FreshEvents struct {
	Line   string
	Events []cells.Event
}

// freshEvents returns those of events that other boots have not sent: the ones with numbers above known.
func (b *Boot) freshEvents(events []cells.Event, known int64) FreshEvents {
	h := FreshEvents{Line: b.ID, Events: events}
	for len(h.Events) > 0 && h.Events[0].Number <= known {
		h.Events = h.Events[1:]
	}
	if b.Rewound > 0 {
		h.Line += "~" + strconv.Itoa(b.Rewound)
	}
	return h
}

// compareEvents compares a report's events with the marks of other boots. known is the highest number with the same
// content: an agent that restarts before its acknowledgment arrives sends such events again. otherContent reports
// whether some number came with another content.
func (s *CellState) compareEvents(r *cells.Report) (known int64, otherContent bool) {
	for _, b := range s.Boots {
		if b.ID == r.Boot {
			continue
		}
		for _, m := range b.Marks {
			i, found := slices.BinarySearchFunc(r.Events, m.Number, func(e cells.Event, n int64) int {
				return int(min(1, max(-1, e.Number-n)))
			})
			switch {
			case !found:
			case eventSum(r.Events[i]) == m.Sum:
				known = max(known, m.Number)
			case !isFiller(r.Events[i]):
				otherContent = true
			}
		}
	}
	return known, otherContent
}

// noteSkippedEvents notes numbers that are missing, except those that the agent says it dropped.
func (s *CellState) noteSkippedEvents(events []cells.Event) {
	next := s.Confirmed + 1
	for _, e := range events {
		if e.Number > next && e.Kind != "gap" {
			s.noteMiscount(fmt.Sprintf("events %d to %d never came", next, e.Number-1))
			return
		}
		next = max(next, e.Number+1)
	}
}

func (s *CellState) noteMiscount(what string) {
	m := Miscount{What: what, At: s.LastReport.Round(0), Times: 1}
	if s.Miscount != nil {
		m.Times += s.Miscount.Times
	}
	s.Miscount = &m
}

func (s *CellState) acknowledgeEvents(events []cells.Event) {
	if n := len(events); n > 0 {
		s.Confirmed = max(s.Confirmed, events[n-1].Number)
	}
}

// A cell numbers its events for its whole life, and sends again those that it does not know to be acknowledged. So a
// repeated number is the same event, unless the agent or its machine was put back, and a missing number is a lost
// event. Whatever the numbers do, each event is kept once, and disorder is noted (fault 45).

// maxExtraDelay is how much longer than the report before a report may take without being late.
const maxExtraDelay = 5 * time.Second

// isOvertaken reports whether reports that were sent after r, by the cell's own clock, arrived before r. A proxy or a
// broken link held r up: its events are new, but its state is out of date. A clock that was set back makes only one
// report look overtaken. A report of an earlier boot also counts as overtaken if it took much longer than the report
// before: it does not show which boots are alive (R27).
func (s *CellState) isOvertaken(r *cells.Report, at time.Time) bool {
	if s == nil || r.Sent.IsZero() {
		return false
	}
	i := slices.IndexFunc(s.Boots, func(b Boot) bool { return b.ID == r.Boot })
	if i < 0 || s.Boots[i].Sent.IsZero() {
		return false
	}
	b := &s.Boots[i]
	return r.Sent.Before(b.Sent) || i < len(s.Boots)-1 && r.Sent.Sub(at.Round(0)) < b.Skew-maxExtraDelay
}
