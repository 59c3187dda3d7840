package announce

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// eventLifetime is how long an event is reported after it happened: far less than event IDs are remembered.
const eventLifetime = 7 * 24 * time.Hour

// eventCollector collects the events of a plan, and the part of Memory that the next plan needs.
type eventCollector struct {
	planner *planner
	events  []Event
	ongoing map[string]Event
	lifted  map[string]int // how often a repeatable event ended: part of the next event's ID
}

// collect returns all events. An event at an instant that git records is reported for a while under one ID. An ongoing
// event is remembered with the instant at which it was first seen, so that its end can be reported.
func (n *eventCollector) collect() []Event {
	for _, a := range n.planner.announcements {
		for _, s := range a.states {
			n.addWarnings(s)
			n.addOutcome(s)
			n.addSuspended(s)
		}
	}
	n.addKilled()
	n.addEnded()
	slices.SortStableFunc(n.events, func(a, b Event) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return n.events
}

// addEvent adds an event that happened lately.
func (n *eventCollector) addEvent(e Event) {
	if !n.planner.isDue(e.At.Add(eventLifetime)) {
		n.events = append(n.events, e)
	}
}

// addOngoing adds an event that goes on, under a subject that stays the same meanwhile.
func (n *eventCollector) addOngoing(subject string, e Event) {
	if known, ok := n.planner.input.Memory.Ongoing[subject]; ok {
		e = known
	} else {
		e.At = n.planner.now
	}
	n.ongoing[subject] = e
	n.addEvent(e)
}

// addOutcome adds the event that an announcement was published, missed or retracted.
func (n *eventCollector) addOutcome(s *channelState) {
	name := s.announcement.id
	if s.rules != nil {
		name = s.rules.Title
	}
	e := Event{Announcement: s.announcement.id, Channel: s.channel.Name, At: s.at}
	switch {
	case s.channel.entry && s.state != Retracted:
		if s.at.IsZero() || !n.planner.isDue(s.at) || !s.sent {
			return
		}
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s", name, s.channel.Name)
	case s.state == Retracted:
		e.Type, e.Text = "retracted", fmt.Sprintf("%s is retracted in %s: %s", name, s.channel.Name, s.reason)
		e.ID = fmt.Sprintf("retracted/%s/%s/%d", s.announcement.id, s.channel.Name, unixSeconds(s.at))
		subject := e.ID
		if times := n.planner.input.Memory.Lifted[subject]; times > 0 {
			e.ID = fmt.Sprintf("%s/%d", subject, times)
		}
		n.addOngoing(subject, e)
		return
	case s.hasRecord(repository.Missed):
		e.Type, e.At = "missed", s.record.At
		e.Text = fmt.Sprintf("%s missed its time in %s: %s", name, s.channel.Name, s.record.Reason)
	case s.record != nil && s.record.Outcome == repository.Published && s.sent:
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s: %s", name, s.channel.Name, s.summarise())
	default:
		return
	}
	e.ID = fmt.Sprintf("%s/%s/%s/%d", e.Type, s.announcement.id, s.channel.Name, e.At.Unix())
	n.addEvent(e)
}

// addSuspended adds an event for each cell in which features are off again because the cell's release lacks them. The
// cell's assignment at the beginning identifies an episode.
func (n *eventCollector) addSuspended(s *channelState) {
	if s.counts.byState[flags.Suspended] == 0 {
		return
	}
	for _, c := range s.channel.cells {
		state, _, ok := s.inCell(c).cellState()
		if !ok || state != flags.Suspended {
			continue
		}
		n.addOngoing("suspended/"+s.announcement.id+"/"+c.Name, Event{
			ID:   fmt.Sprintf("suspended/%s/%s/%s", s.announcement.id, c.Name, cmp.Or(c.Assignment, c.Release)),
			Type: "suspended", Announcement: s.announcement.id, Channel: s.channel.Name, Cell: c.Name,
			Text: fmt.Sprintf("%s is suspended in %s: %s without %s", s.rules.Title, c.Name, c.describeRelease(),
				strings.Join(s.inCell(c).missingFeatures(), ", ")),
		})
	}
}

// addKilled adds events for killed flags, and reminders of kills to review.
func (n *eventCollector) addKilled() {
	for i, k := range n.planner.kills {
		if !k.Until.IsZero() && n.planner.isDue(k.Until) {
			n.addEvent(Event{
				ID: fmt.Sprintf("warning/kill/%s/%s/%d", k.Flag, k.Name, k.Until.Unix()), Type: "warning",
				Flag: k.Flag, At: k.Until,
				Text: fmt.Sprintf("%s is still killed, and its review is due: %s", k.Flag, oneLine(k.Reason)),
			})
		}
		if i > 0 && n.planner.kills[i-1].Flag == k.Flag {
			continue
		}
		sum := sha256.Sum256([]byte(k.Reason + "\x00" + k.By + "\x00" + k.Until.UTC().String()))
		text := fmt.Sprintf("%s is killed: %s", k.Flag, oneLine(k.Reason))
		if k.By != "" {
			text += " (by " + oneLine(k.By) + ")"
		}
		n.addOngoing("killed/"+k.Flag, Event{
			ID: fmt.Sprintf("killed/%s/%s/%d", k.Flag, hex.EncodeToString(sum[:6]),
				n.planner.input.Memory.Lifted[k.Flag]),
			Type: "killed", Flag: k.Flag, Text: text,
		})
	}
}

// addEnded adds events for what went on in the last plan and has ended.
func (n *eventCollector) addEnded() {
	for _, subject := range slices.Sorted(maps.Keys(n.planner.input.Memory.Ongoing)) {
		e := n.planner.input.Memory.Ongoing[subject]
		if _, on := n.ongoing[subject]; on {
			continue
		}
		switch e.Type {
		case "retracted":
			n.lifted[subject]++
			continue
		case "killed":
			n.lifted[e.Flag]++
			e.ID, e.Type = "lifted/"+strings.TrimPrefix(e.ID, "killed/"), "lifted"
			e.Text = e.Flag + " is no longer killed"
		case "suspended":
			state, ok := n.cellState(e)
			if !ok || !countsAsOn(state) {
				continue // the cell or the announcement is gone
			}
			e.ID, e.Type = "resumed/"+strings.TrimPrefix(e.ID, "suspended/"), "resumed"
			e.Text = e.Announcement + " is on again in " + e.Cell
		default:
			continue
		}
		e.At = n.planner.now
		n.addEvent(e)
	}
}

// cellState returns the current state of an event's announcement in the event's cell.
func (n *eventCollector) cellState(e Event) (flags.CellState, bool) {
	i, found := n.planner.findAnnouncement(e.Announcement)
	if !found {
		return "", false
	}
	for _, s := range n.planner.announcements[i].states {
		for _, c := range s.channel.cells {
			if c.Name == e.Cell {
				state, _, ok := s.inCell(c).cellState()
				return state, ok
			}
		}
	}
	return "", false
}

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
