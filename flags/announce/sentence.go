package announce

import (
	"fmt"
	"strings"
	"time"
)

// sentence says for people how far an announcement is in a channel: "18 of 20 cells will light up at 10:00 Europe/Berlin; acme
// waits for 2026.11.3 (soak until …)". Nothing in it changes with time alone but where Next says so.
func (p *planner) sentence(s *standing) string {
	t := &s.tally
	switch s.state {
	case Cancelled, Retracted:
		return string(s.state) + ": " + s.why
	case Missed:
		return "missed: " + s.why
	case Held, Draft:
		return s.why
	case Approved:
		return "approved, and has no time"
	case Archived:
		return "told, and kept for the record"
	case Scheduled:
		if s.why != "" {
			return s.why
		}
	}
	if t.cells == 0 {
		if t.due {
			return "no cell is in " + s.c.Name + " that it is for"
		}
		return "it will be on in " + s.c.Name + " " + p.when(s)
	}
	words := fmt.Sprintf("%d of %s ", t.has, count(t.cells, "cell"))
	switch {
	case !t.due || s.state == Scheduled:
		words += "will light up " + p.when(s)
	default:
		words += plural(t.has, "has it", "have it")
		if t.percent < 100 {
			words += fmt.Sprintf(", on for %d %%", t.percent)
		}
		if t.unconfirmed > 0 {
			words += fmt.Sprintf(", %d unconfirmed", t.unconfirmed)
		}
	}
	return words + p.exceptions(s)
}

// exceptions names the first cells that don't have it, and why.
func (p *planner) exceptions(s *standing) string {
	var b strings.Builder
	for _, c := range s.tally.others {
		state, _, _ := p.cellState(s, &s.tally.view, c)
		b.WriteString("; " + c.Name + " " + p.lacking(s, c, state))
	}
	if more := s.tally.cells - s.tally.has - len(s.tally.others); more > 0 {
		fmt.Fprintf(&b, "; %d more %s not", more, plural(more, "does", "do"))
	}
	return b.String()
}

// when says when s is published, with the day unless that is today.
func (p *planner) when(s *standing) string {
	if s.at.IsZero() {
		return "as soon as it is published"
	}
	at := s.at.In(s.rules.Location())
	clock := at.Format("15:04")
	if at.Second() != 0 {
		clock = at.Format(time.TimeOnly)
	}
	words := "at " + clock + " " + at.Location().String()
	if year, month, day := at.Date(); !p.reached(time.Date(year, month, day, 0, 0, 0, 0, at.Location())) {
		return "on " + at.Format(time.DateOnly) + " " + words
	}
	return words
}
