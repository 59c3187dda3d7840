package announce

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

// summarise describes the announcement in a channel: "18 of 20 cells will light up at 10:00 Europe/Berlin; acme waits
// for 2026.11.3 (soak until …)". Unless something else changes, the text changes only at Plan.Next.
func (s *channelState) summarise() string {
	t := &s.counts
	switch s.state {
	case Cancelled, Retracted:
		return string(s.state) + ": " + s.reason
	case Missed:
		return "missed: " + s.reason
	case Held, Draft:
		return s.reason
	case Approved:
		return "approved, but has no time"
	case Archived:
		return "announced, and kept for the record"
	case Scheduled:
		if s.reason != "" {
			return s.reason
		}
	}
	if s.rules == nil {
		return "off in " + s.channel.Name + ": the commit that was approved can't be read"
	}
	if t.cells == 0 {
		if t.due {
			return "it selects no cell in " + s.channel.Name
		}
		return "it will be on in " + s.channel.Name + " " + s.describeTime()
	}
	text := fmt.Sprintf("%d of %s ", t.withIt, words.Count(t.cells, "cell"))
	switch {
	case !t.due || s.state == Scheduled:
		text += s.describeStart()
	default:
		text += choosePlural(t.withIt, "has it", "have it")
		if t.percent < 100 {
			text += fmt.Sprintf(", on for %d %%", t.percent)
		}
		if t.unconfirmed > 0 {
			text += fmt.Sprintf(", %d unconfirmed", t.unconfirmed)
		}
	}
	return text + s.describeExceptions()
}

// describeExceptions names the first cells without the features, and says why.
func (s *channelState) describeExceptions() string {
	var b strings.Builder
	for _, c := range s.counts.named {
		state, _, _ := s.inCell(c).cellState()
		b.WriteString("; " + c.Name + " " + s.inCell(c).describeState(state))
	}
	if more := s.counts.cells - s.counts.withIt - len(s.counts.named); more > 0 {
		fmt.Fprintf(&b, "; %d more %s not", more, choosePlural(more, "does", "do"))
	}
	return b.String()
}

// describeTime says when the announcement is published in the channel, with the day unless it is today.
func (s *channelState) describeTime() string {
	if s.at.IsZero() {
		return "as soon as it is published"
	}
	at := s.at.In(s.rules.Location())
	clock := at.Format("15:04")
	if at.Second() != 0 {
		clock = at.Format(time.TimeOnly)
	}
	text := "at " + clock + " " + at.Location().String()
	if year, month, day := at.Date(); !s.planner.isDue(time.Date(year, month, day, 0, 0, 0, 0, at.Location())) {
		return "on " + at.Format(time.DateOnly) + " " + text
	}
	return text
}

// choosePlural returns the form of a word that goes with n.
func choosePlural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// oneLine joins the lines of a person's text, for a commit's message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func formatTime(t time.Time) string { return t.Format(time.RFC3339) }
