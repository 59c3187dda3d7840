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

// fresh is how long something is told after it happened. It is far less than events' IDs are remembered.
const fresh = 7 * 24 * time.Hour

// news is what is worth telling, and what of it the next plan has to know.
type news struct {
	p       *planner
	events  []Event
	ongoing map[string]Event
	lifted  map[string]int // how often what may begin again ended: then it is another event
}

// all gathers what is worth telling. What happened at an instant that git knows is told for a while, under one ID; what goes
// on is remembered with the instant at which it was first seen, so that its end can be told.
func (n *news) all() []Event {
	for _, a := range n.p.announcements {
		for _, s := range a.states {
			n.warnAhead(s)
			n.happened(s)
			n.suspended(s)
		}
	}
	n.killed()
	n.ended()
	slices.SortStableFunc(n.events, func(a, b Event) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return n.events
}

// event tells of something that happened lately.
func (n *news) event(e Event) {
	if !n.p.reached(e.At.Add(fresh)) {
		n.events = append(n.events, e)
	}
}

// goes tells of something that goes on: subject names it as long as it does.
func (n *news) goes(subject string, e Event) {
	if told, ok := n.p.in.Memory.Ongoing[subject]; ok {
		e = told
	} else {
		e.At = n.p.now
	}
	n.ongoing[subject] = e
	n.event(e)
}

// happened tells that an announcement was published, missed or taken back.
func (n *news) happened(s *channelState) {
	name := s.a.id
	if s.rules != nil {
		name = s.rules.Title
	}
	e := Event{Announcement: s.a.id, Channel: s.c.Name, At: s.at}
	switch {
	case s.c.entry && s.state != Retracted:
		if s.at.IsZero() || !n.p.reached(s.at) || !s.sent {
			return
		}
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s", name, s.c.Name)
	case s.state == Retracted:
		e.Type, e.Text = "retracted", fmt.Sprintf("%s is taken back in %s: %s", name, s.c.Name, s.why)
		e.ID = fmt.Sprintf("retracted/%s/%s/%d", s.a.id, s.c.Name, unix(s.at))
		subject := e.ID
		if times := n.p.in.Memory.Lifted[subject]; times > 0 {
			e.ID = fmt.Sprintf("%s/%d", subject, times)
		}
		n.goes(subject, e)
		return
	case s.recorded(repository.Missed):
		e.Type, e.At, e.Text = "missed", s.rec.At, fmt.Sprintf("%s missed its time in %s: %s", name, s.c.Name, s.rec.Reason)
	case s.rec != nil && s.rec.Outcome == repository.Published && s.sent:
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s: %s", name, s.c.Name, s.sentence())
	default:
		return
	}
	e.ID = fmt.Sprintf("%s/%s/%s/%d", e.Type, s.a.id, s.c.Name, e.At.Unix())
	n.event(e)
}

// suspended tells of each cell in which what was on is off, as its release does not contain it. An episode is named by what the
// cell was assigned when it began.
func (n *news) suspended(s *channelState) {
	if s.tally.counts[flags.Suspended] == 0 {
		return
	}
	for _, c := range s.c.cells {
		state, _, ok := s.in(c).state()
		if !ok || state != flags.Suspended {
			continue
		}
		n.goes("suspended/"+s.a.id+"/"+c.Name, Event{
			ID:   fmt.Sprintf("suspended/%s/%s/%s", s.a.id, c.Name, cmp.Or(c.Assignment, c.Release)),
			Type: "suspended", Announcement: s.a.id, Channel: s.c.Name, Cell: c.Name,
			Text: fmt.Sprintf("%s is suspended in %s: %s without %s", s.rules.Title, c.Name, c.runs(), strings.Join(s.in(c).missing(), ", ")),
		})
	}
}

// killed tells of flags that are killed, and of kills that somebody should look at again.
func (n *news) killed() {
	for i, k := range n.p.kills {
		if !k.Until.IsZero() && n.p.reached(k.Until) {
			n.event(Event{
				ID: fmt.Sprintf("warning/kill/%s/%s/%d", k.Flag, k.Name, k.Until.Unix()), Type: "warning", Flag: k.Flag, At: k.Until,
				Text: fmt.Sprintf("%s is still killed, and was to be looked at by now: %s", k.Flag, oneLine(k.Reason)),
			})
		}
		if i > 0 && n.p.kills[i-1].Flag == k.Flag {
			continue
		}
		sum := sha256.Sum256([]byte(k.Reason + "\x00" + k.By + "\x00" + k.Until.UTC().String()))
		text := fmt.Sprintf("%s is killed: %s", k.Flag, oneLine(k.Reason))
		if k.By != "" {
			text += " (by " + oneLine(k.By) + ")"
		}
		n.goes("killed/"+k.Flag, Event{
			ID:   fmt.Sprintf("killed/%s/%s/%d", k.Flag, hex.EncodeToString(sum[:6]), n.p.in.Memory.Lifted[k.Flag]),
			Type: "killed", Flag: k.Flag, Text: text,
		})
	}
}

// ended tells of what went on when the last plan was made, and does not any more.
func (n *news) ended() {
	for _, subject := range slices.Sorted(maps.Keys(n.p.in.Memory.Ongoing)) {
		e := n.p.in.Memory.Ongoing[subject]
		if _, on := n.ongoing[subject]; on {
			continue
		}
		switch e.Type {
		case "retracted":
			n.lifted[subject]++
			continue
		case "killed":
			n.lifted[e.Flag]++
			e.ID, e.Type, e.Text = "lifted/"+strings.TrimPrefix(e.ID, "killed/"), "lifted", e.Flag+" is not killed any more"
		case "suspended":
			state, ok := n.stateIn(e)
			if !ok || !has(state) {
				continue // it ended otherwise: there is no such cell, or announcement, any more
			}
			e.ID, e.Type, e.Text = "resumed/"+strings.TrimPrefix(e.ID, "suspended/"), "resumed", e.Announcement+" is on again in "+e.Cell
		default:
			continue
		}
		e.At = n.p.now
		n.event(e)
	}
}

// stateIn gives what an event's announcement is in its cell now.
func (n *news) stateIn(e Event) (flags.CellState, bool) {
	i, found := n.p.find(e.Announcement)
	if !found {
		return "", false
	}
	for _, s := range n.p.announcements[i].states {
		for _, c := range s.c.cells {
			if c.Name == e.Cell {
				state, _, ok := s.in(c).state()
				return state, ok
			}
		}
	}
	return "", false
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
