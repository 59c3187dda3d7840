package announce

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

// sentence says for people how far an announcement is in a channel: "18 of 20 cells will light up at 10:00 Europe/Berlin; acme
// waits for 2026.11.3 (soak until …)". Nothing in it changes with time alone but where Next says so.
func (s *channelState) sentence() string {
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
		return "it will be on in " + s.c.Name + " " + s.when()
	}
	text := fmt.Sprintf("%d of %s ", t.has, words.Count(t.cells, "cell"))
	switch {
	case !t.due || s.state == Scheduled:
		text += "will light up " + s.when()
	default:
		text += plural(t.has, "has it", "have it")
		if t.percent < 100 {
			text += fmt.Sprintf(", on for %d %%", t.percent)
		}
		if t.unconfirmed > 0 {
			text += fmt.Sprintf(", %d unconfirmed", t.unconfirmed)
		}
	}
	return text + s.exceptions()
}

// exceptions names the first cells that don't have it, and why.
func (s *channelState) exceptions() string {
	var b strings.Builder
	for _, c := range s.tally.others {
		state, _, _ := s.in(c).state()
		b.WriteString("; " + c.Name + " " + s.in(c).lacking(state))
	}
	if more := s.tally.cells - s.tally.has - len(s.tally.others); more > 0 {
		fmt.Fprintf(&b, "; %d more %s not", more, plural(more, "does", "do"))
	}
	return b.String()
}

// when says when s is published, with the day unless that is today.
func (s *channelState) when() string {
	if s.at.IsZero() {
		return "as soon as it is published"
	}
	at := s.at.In(s.rules.Location())
	clock := at.Format("15:04")
	if at.Second() != 0 {
		clock = at.Format(time.TimeOnly)
	}
	text := "at " + clock + " " + at.Location().String()
	if year, month, day := at.Date(); !s.p.reached(time.Date(year, month, day, 0, 0, 0, 0, at.Location())) {
		return "on " + at.Format(time.DateOnly) + " " + text
	}
	return text
}

// plural gives the form of a word that goes with n.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// oneLine makes what a person wrote fit for a line of a commit's message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func stamp(t time.Time) string { return t.Format(time.RFC3339) }
