package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
)

// firstTime returns the earliest instant at which an announcement is, or was, published in a channel; zero: none is
// set.
func firstTime(a announce.Status) (first time.Time) {
	for _, c := range a.Channels {
		if !c.At.IsZero() && (first.IsZero() || c.At.Before(first)) {
			first = c.At
		}
	}
	return first
}

// renderAnnouncement renders one announcement: where and when it is published, and which cells wait.
func renderAnnouncement(m *Model, p *Page, f Facts) {
	var a announce.Status
	p.Found = false
	if m.view.Flags != nil {
		a, p.Found = m.view.Flags.Plan.Detail(p.Address.Name)
	}
	if !p.Found {
		return
	}
	p.Title = a.Announcement.ID
	p.add("headline", heading(cmpTitle(a)+" ", state(announcementShape(a.State), string(a.State))),
		paragraph("", markup.Text(a.Summary)))
	p.add("actions", offersOfAnnouncement(a))
	p.add("needs", needsOfAnnouncement(a))
	p.add("channels", announcementChannels(a))
	p.add("waiting", waitingForAnnouncement(a))
	if f.Notes != "" {
		p.add("notes", subheading("Notes"), element("div", "notes", f.Notes))
	}
	embargo := markup.HTML("")
	if a.Announcement.Embargo {
		embargo = "under embargo: keys and time are hidden until then"
	}
	p.add("facts", subheading("Facts"), facts([2]markup.HTML{"Features", text(strings.Join(a.Announcement.Features, ", "))},
		[2]markup.HTML{"Zone", text(a.Zone)}, [2]markup.HTML{"Approved by", text(strings.Join(a.Approvals, ", "))},
		[2]markup.HTML{"Hash", code(a.Hash)}, [2]markup.HTML{"Embargo", embargo},
		[2]markup.HTML{"Cancelled", text(words.OneLine(a.Announcement.Cancelled))}))
}

func cmpTitle(a announce.Status) string {
	if a.Announcement.Title == "" {
		return a.Announcement.ID
	}
	return a.Announcement.Title
}

func needsOfAnnouncement(a announce.Status) markup.HTML {
	var items []markup.HTML
	if a.Needs != "" {
		items = append(items, element("li", "", mark("held", ""), markup.Text("It needs: "+a.Needs)))
	}
	for _, w := range a.Warnings[:min(len(a.Warnings), maxListed)] {
		items = append(items, element("li", "", mark("failing", ""), markup.Text(words.OneLine(w))))
	}
	if len(items) == 0 {
		return ""
	}
	return element("ul", "verdicts", items...)
}

func announcementChannels(a announce.Status) markup.HTML {
	var rows [][]markup.HTML
	for _, c := range a.Channels {
		if c.State == "" {
			continue
		}
		at := soft("when ready")
		if !c.At.IsZero() {
			at = instant(c.At)
		}
		whole := 0
		var counts []markup.HTML
		for _, st := range sortedKeys(c.Counts) {
			whole += c.Counts[st]
			counts = append(counts, state(flagShape(string(st)), fmt.Sprintf("%s %s", thousands(c.Counts[st]), st)),
				" ")
		}
		rows = append(rows, []markup.HTML{link(Channel, c.Channel), state(announcementShape(c.State), string(c.State)),
			at,
			markup.Text(fmt.Sprintf("%d %%", c.Percent)), markup.Join(append(counts,
				bar(whole, share{"healthy", c.Counts["on"]}, share{"updating", c.Counts["ramping"] + c.Counts["armed"] +
					c.Counts["ready"]}))...), markup.Text(words.OneLine(c.Summary))})
	}
	return subheading("Where and when") + table("Where and when", []string{"Channel", "State", "When", "Ramp", "Cells",
		"In words"}, rows)
}

// waitingForAnnouncement lists cells in which the announcement is not in force yet, and why.
func waitingForAnnouncement(a announce.Status) markup.HTML {
	var rows [][]markup.HTML
	more := 0
	for _, c := range a.Channels {
		for _, cell := range c.Cells {
			switch {
			case cell.State == "on" || cell.State == "retired":
			case len(rows) == pageRows:
				more++
			default:
				rows = append(rows, []markup.HTML{link(Cell, cell.Cell),
					state(flagShape(string(cell.State)), string(cell.State)), text(words.OneLine(cell.Why))})
			}
		}
	}
	if len(rows) == 0 {
		return ""
	}
	rest := markup.HTML("")
	if more > 0 {
		rest = paragraph("soft", markup.Text(fmt.Sprintf("and %s more", thousands(more))))
	}
	return subheading("Cells that are not on") + table("Cells that are not on", []string{"Cell", "State", "Why"},
		rows) + rest
}
