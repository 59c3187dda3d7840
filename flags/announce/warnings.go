package announce

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// warning is something that will make an announcement less than what people expect of it.
type warning struct {
	s    *channelState
	kind string // approvals, held, edited or cells
	text string
}

// look gives what is in the way of an announcement from a day before its time until it comes.
func (s *channelState) look() (found []warning) {
	early := s.state == Draft || s.state == Scheduled || s.state == Armed || s.state == Held
	if !early || s.at.IsZero() || s.rules == nil || s.p.reached(s.at) || !s.p.reached(s.at.Add(-24*time.Hour)) {
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
		add("cells", fmt.Sprintf("%d of %s will not have it", t.cells-t.has, words.Count(t.cells, "cell"))+s.exceptions())
	}
	return found
}

// warnings gives them for people, by channel.
func (a *announcement) warnings() (texts []string) {
	for _, s := range a.states {
		for _, w := range s.look() {
			texts = append(texts, s.c.Name+" "+s.when()+": "+w.text)
		}
	}
	return texts
}

// warnAhead tells of what is in the way a day before the time, and an hour before.
func (n *news) warnAhead(s *channelState) {
	for _, w := range s.look() {
		for _, before := range []time.Duration{time.Hour, 24 * time.Hour} { // the last first
			since := s.at.Add(-before)
			if !n.p.reached(since) {
				continue
			}
			n.event(Event{
				ID:   fmt.Sprintf("warning/%s/%s/%d/%s/%s", s.a.id, s.c.Name, s.at.Unix(), repository.Duration(before), w.kind),
				Type: "warning", Announcement: s.a.id, Channel: s.c.Name, At: since,
				Text: fmt.Sprintf("%s in %s %s: %s", s.a.id, s.c.Name, s.when(), w.text),
			})
			break
		}
	}
}
