package announce

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// warning is a reason why an announcement will fall short of what people expect.
type warning struct {
	kind string // approvals, held, edited or cells
	text string
}

// findWarnings returns the warnings about an announcement, from a day before its time until the time comes.
func (s *channelState) findWarnings() (found []warning) {
	early := s.state == Draft || s.state == Scheduled || s.state == Armed || s.state == Held
	if !early || s.at.IsZero() || s.rules == nil || s.planner.isDue(s.at) ||
		!s.planner.isDue(s.at.Add(-24*time.Hour)) {
		return nil
	}
	add := func(kind, text string) { found = append(found, warning{kind, text}) }
	if s.announcement.missingApprovals != "" && !s.channel.entry && s.stale == "" {
		add("approvals", s.announcement.missingApprovals)
	}
	if s.heldReason != "" {
		add("held", "it is held: "+s.heldReason)
	}
	if s.stale != "" {
		add("edited", s.stale+" since they were approved: "+s.channel.Name+" keeps those that were")
	}
	if t := &s.counts; t.cells > t.withIt && s.heldReason == "" {
		text := fmt.Sprintf("%d of %s will not have it", t.cells-t.withIt, words.Count(t.cells, "cell"))
		add("cells", text+s.describeExceptions())
	}
	return found
}

// warningTexts returns the warnings for people, by channel.
func (a *announcement) warningTexts() (texts []string) {
	for _, s := range a.states {
		for _, w := range s.findWarnings() {
			texts = append(texts, s.channel.Name+" "+s.describeTime()+": "+w.text)
		}
	}
	return texts
}

// addWarnings adds an event for each warning a day before the time, and again an hour before.
func (n *eventCollector) addWarnings(s *channelState) {
	for _, w := range s.findWarnings() {
		for _, before := range []time.Duration{time.Hour, 24 * time.Hour} { // the latest first
			since := s.at.Add(-before)
			if !n.planner.isDue(since) {
				continue
			}
			n.addEvent(Event{
				ID: fmt.Sprintf("warning/%s/%s/%d/%s/%s", s.announcement.id, s.channel.Name, s.at.Unix(),
					repository.Duration(before), w.kind),
				Type: "warning", Announcement: s.announcement.id, Channel: s.channel.Name, At: since,
				Text: fmt.Sprintf("%s in %s %s: %s", s.announcement.id, s.channel.Name, s.describeTime(), w.text),
			})
			break
		}
	}
}
