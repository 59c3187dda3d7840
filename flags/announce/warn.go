package announce

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
)

// warning is something that will make an announcement less than what people expect of it.
type warning struct {
	s    *standing
	kind string // approvals, held, edited or cells
	text string
}

// warned are how long before its time people are told what is missing, the last first.
func warned() []time.Duration { return []time.Duration{time.Hour, 24 * time.Hour} }

// look gives what is in the way of an announcement from a day before its time until it comes.
func (p *planner) look(s *standing) (found []warning) {
	if s.at.IsZero() || s.rules == nil {
		return nil
	}
	switch s.state {
	case Draft, Scheduled, Armed, Held:
	default:
		return nil
	}
	if p.reached(s.at) || !p.reached(s.at.Add(-24*time.Hour)) {
		return nil
	}
	add := func(kind, text string) { found = append(found, warning{s, kind, text}) }
	if s.a.short != "" && !s.c.entry && s.stale == "" {
		add("approvals", s.a.short)
	}
	if s.held != "" {
		add("held", "it is held: "+s.held)
	}
	if s.stale != "" {
		add("edited", s.stale+" since they were approved: "+s.c.Name+" keeps those that were")
	}
	if t := &s.tally; t.cells > t.has && s.held == "" {
		add("cells", fmt.Sprintf("%d of %s will not have it", t.cells-t.has, count(t.cells, "cell"))+p.exceptions(s))
	}
	return found
}

// warnings gives them for people, by channel.
func (p *planner) warnings(a *announcement) (texts []string) {
	for _, s := range a.standings {
		for _, w := range p.look(s) {
			texts = append(texts, s.c.Name+" "+p.when(s)+": "+w.text)
		}
	}
	return texts
}

// warnAhead tells of what is in the way a day before the time, and an hour before.
func (p *planner) warnAhead(s *standing) {
	for _, w := range p.look(s) {
		for _, before := range warned() {
			since := s.at.Add(-before)
			if !p.reached(since) {
				continue
			}
			p.event(Event{
				ID:   fmt.Sprintf("warning/%s/%s/%d/%s/%s", s.a.id, s.c.Name, s.at.Unix(), repository.Duration(before), w.kind),
				Type: "warning", Announcement: s.a.id, Channel: s.c.Name, At: since,
				Text: fmt.Sprintf("%s in %s %s: %s", s.a.id, s.c.Name, p.when(s), w.text),
			})
			break
		}
	}
}
