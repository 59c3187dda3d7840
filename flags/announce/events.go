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

// news gathers what is worth telling. What happened at an instant that git knows is told for a while, under one ID; what goes
// on is remembered with the instant at which it was first seen, so that its end can be told.
func (p *planner) news() {
	p.plan.Memory.Ongoing = map[string]Event{}
	p.plan.Memory.Lifted = maps.Clone(p.in.Memory.Lifted)
	for _, a := range p.announcements {
		for _, s := range a.standings {
			p.warnAhead(s)
			p.happened(s)
			p.suspended(s)
		}
	}
	p.killed()
	p.ended()
	slices.SortStableFunc(p.plan.Events, func(a, b Event) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
}

// event tells of something that happened lately.
func (p *planner) event(e Event) {
	if !p.reached(e.At.Add(fresh)) {
		p.plan.Events = append(p.plan.Events, e)
	}
}

// goes tells of something that goes on: subject names it as long as it does.
func (p *planner) goes(subject string, e Event) {
	if told, ok := p.in.Memory.Ongoing[subject]; ok {
		e = told
	} else {
		e.At = p.now
	}
	p.plan.Memory.Ongoing[subject] = e
	p.event(e)
}

// happened tells that an announcement was published, missed or taken back.
func (p *planner) happened(s *standing) {
	name := s.a.id
	if s.rules != nil {
		name = s.rules.Title
	}
	e := Event{Announcement: s.a.id, Channel: s.c.Name, At: s.at}
	switch {
	case s.c.entry && s.state != Retracted:
		if s.at.IsZero() || !p.reached(s.at) || !s.sent {
			return
		}
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s", name, s.c.Name)
	case s.state == Retracted:
		e.Type, e.Text = "retracted", fmt.Sprintf("%s is taken back in %s: %s", name, s.c.Name, s.why)
		e.ID = fmt.Sprintf("retracted/%s/%s/%d", s.a.id, s.c.Name, unix(s.at))
		subject := e.ID
		if n := p.in.Memory.Lifted[subject]; n > 0 {
			e.ID = fmt.Sprintf("%s/%d", subject, n)
		}
		p.goes(subject, e)
		return
	case s.recorded(repository.Missed):
		e.Type, e.At, e.Text = "missed", s.rec.At, fmt.Sprintf("%s missed its time in %s: %s", name, s.c.Name, s.rec.Reason)
	case s.rec != nil && s.rec.Outcome == repository.Published && s.sent:
		e.Type, e.Text = "published", fmt.Sprintf("%s is published in %s: %s", name, s.c.Name, p.sentence(s))
	default:
		return
	}
	e.ID = fmt.Sprintf("%s/%s/%s/%d", e.Type, s.a.id, s.c.Name, e.At.Unix())
	p.event(e)
}

// suspended tells of each cell in which what was on is off, as its release does not contain it. An episode is named by what the
// cell was assigned when it began.
func (p *planner) suspended(s *standing) {
	if s.tally.counts[flags.Suspended] == 0 {
		return
	}
	for _, c := range s.c.cells {
		state, _, ok := p.cellState(s, &s.tally.view, c)
		if !ok || state != flags.Suspended {
			continue
		}
		p.goes("suspended/"+s.a.id+"/"+c.Name, Event{
			ID:   fmt.Sprintf("suspended/%s/%s/%s", s.a.id, c.Name, cmp.Or(c.Assignment, c.Release)),
			Type: "suspended", Announcement: s.a.id, Channel: s.c.Name, Cell: c.Name,
			Text: fmt.Sprintf("%s is suspended in %s: %s without %s", s.rules.Title, c.Name, c.runs(), strings.Join(p.missing(s, c), ", ")),
		})
	}
}

// killed tells of flags that are killed, and of kills that somebody should look at again.
func (p *planner) killed() {
	for i, k := range p.kills {
		if !k.Until.IsZero() && p.reached(k.Until) {
			p.event(Event{
				ID: fmt.Sprintf("warning/kill/%s/%s/%d", k.Flag, k.Name, k.Until.Unix()), Type: "warning", Flag: k.Flag, At: k.Until,
				Text: fmt.Sprintf("%s is still killed, and was to be looked at by now: %s", k.Flag, oneLine(k.Reason)),
			})
		}
		if i > 0 && p.kills[i-1].Flag == k.Flag {
			continue
		}
		sum := sha256.Sum256([]byte(k.Reason + "\x00" + k.By + "\x00" + k.Until.UTC().String()))
		text := fmt.Sprintf("%s is killed: %s", k.Flag, oneLine(k.Reason))
		if k.By != "" {
			text += " (by " + oneLine(k.By) + ")"
		}
		p.goes("killed/"+k.Flag, Event{
			ID:   fmt.Sprintf("killed/%s/%s/%d", k.Flag, hex.EncodeToString(sum[:6]), p.in.Memory.Lifted[k.Flag]),
			Type: "killed", Flag: k.Flag, Text: text,
		})
	}
}

// ended tells of what went on when the last plan was made, and does not any more.
func (p *planner) ended() {
	for _, subject := range slices.Sorted(maps.Keys(p.in.Memory.Ongoing)) {
		e := p.in.Memory.Ongoing[subject]
		if _, on := p.plan.Memory.Ongoing[subject]; on {
			continue
		}
		switch e.Type {
		case "retracted":
			p.lift(subject)
			continue
		case "killed":
			p.lift(e.Flag)
			e.ID, e.Type, e.Text = "lifted/"+strings.TrimPrefix(e.ID, "killed/"), "lifted", e.Flag+" is not killed any more"
		case "suspended":
			state, ok := p.stateIn(e)
			if !ok || !has(state) {
				continue // it ended otherwise: there is no such cell, or announcement, any more
			}
			e.ID, e.Type, e.Text = "resumed/"+strings.TrimPrefix(e.ID, "suspended/"), "resumed", e.Announcement+" is on again in "+e.Cell
		default:
			continue
		}
		e.At = p.now
		p.event(e)
	}
}

// lift counts that something ended that may begin again: then it is another event.
func (p *planner) lift(what string) {
	if p.plan.Memory.Lifted == nil {
		p.plan.Memory.Lifted = map[string]int{}
	}
	p.plan.Memory.Lifted[what]++
}

// stateIn gives what an event's announcement is in its cell now.
func (p *planner) stateIn(e Event) (flags.CellState, bool) {
	i, found := slices.BinarySearchFunc(p.announcements, e.Announcement, func(a *announcement, id string) int { return cmp.Compare(a.id, id) })
	if !found {
		return "", false
	}
	for _, s := range p.announcements[i].standings {
		for _, c := range s.c.cells {
			if c.Name == e.Cell {
				state, _, ok := p.cellState(s, &s.tally.view, c)
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
