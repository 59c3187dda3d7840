package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
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
	p.add("headline", ui.Heading(cmpTitle(a)+" ", ui.State(announcementShape(a.State), string(a.State))),
		summaryOf(a))
	p.add("actions", offersOfAnnouncement(a))
	p.add("needs", needsOfAnnouncement(a))
	p.add("channels", announcementChannels(a))
	p.add("waiting", waitingForAnnouncement(a))
	if f.Notes != "" {
		p.add("notes", ui.Subheading("Notes"), ui.Element("div", "notes", f.Notes))
	}
	embargo := markup.HTML("")
	if a.Announcement.Embargo {
		embargo = "under embargo: keys and time are hidden until then"
	}
	list := func(all []string) markup.HTML { return ui.Text(strings.Join(all, ", ")) }
	p.add("facts", ui.Subheading("Facts"), ui.Facts([2]markup.HTML{"Features", list(a.Announcement.Features)},
		[2]markup.HTML{"Zone", ui.Text(a.Zone)}, [2]markup.HTML{"Approved by", list(a.Approvals)},
		[2]markup.HTML{"Hash", ui.Code(a.Hash)}, [2]markup.HTML{"Embargo", embargo},
		[2]markup.HTML{"Cancelled", ui.Text(words.OneLine(a.Announcement.Cancelled))}))
}

// summaryOf says where the announcement stands, unless what it needs says so.
func summaryOf(a announce.Status) markup.HTML {
	if a.Needs != "" {
		return ""
	}
	return ui.Paragraph("", markup.Text(a.Summary))
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
		items = append(items, ui.Element("li", "", ui.Mark("held", ""), ui.Element("span", "", markup.Text(a.Needs))))
	}
	for _, w := range a.Warnings[:min(len(a.Warnings), maxListed)] {
		items = append(items, ui.Element("li", "", ui.Mark("failing", ""), markup.Text(words.OneLine(w))))
	}
	if len(items) == 0 {
		return ""
	}
	return ui.Element("ul", "verdicts", items...)
}

func announcementChannels(a announce.Status) markup.HTML {
	var rows [][]markup.HTML
	for _, c := range a.Channels {
		if c.State == "" {
			continue
		}
		at := ui.Soft("when ready")
		if !c.At.IsZero() {
			at = ui.Instant(c.At)
		}
		whole := 0
		var counts []markup.HTML
		for _, st := range sortedKeys(c.Counts) {
			whole += c.Counts[st]
			counts = append(counts, ui.StateCount(flagShape(string(st)), c.Counts[st], string(st)), " ")
		}
		onTheWay := c.Counts["ramping"] + c.Counts["armed"] + c.Counts["ready"]
		counts = append(counts, ui.Bar(whole, ui.Share{Class: "healthy", N: c.Counts["on"]},
			ui.Share{Class: "updating", N: onTheWay}))
		rows = append(rows, []markup.HTML{link(Channel, c.Channel),
			ui.State(announcementShape(c.State), string(c.State)), at, markup.Text(fmt.Sprintf("%d %%", c.Percent)),
			markup.Join(counts...), markup.Text(words.OneLine(c.Summary))})
	}
	return ui.Subheading("Where and when") + ui.Table("Where and when", []string{"Channel", "State", "When", "Ramp",
		"Cells",
		"In words"}, rows)
}

// waitingForAnnouncement lists cells in which the announcement is not in force yet, those with the same reason
// together.
func waitingForAnnouncement(a announce.Status) markup.HTML {
	type reason struct{ state, why string }
	var order []reason
	waiting := map[reason][]string{} // names of cells
	more := 0
	for _, c := range a.Channels {
		for _, cell := range c.Cells {
			if cell.State == "on" || cell.State == "retired" {
				continue
			}
			why := reason{string(cell.State), cell.Why}
			if waiting[why] == nil {
				if len(order) == pageRows {
					more++
					continue
				}
				order = append(order, why)
			}
			waiting[why] = append(waiting[why], cell.Cell)
		}
	}
	if len(order) == 0 {
		return ""
	}
	rows := make([][]markup.HTML, 0, len(order))
	for _, why := range order {
		rows = append(rows, []markup.HTML{ui.StateCount(flagShape(why.state), len(waiting[why]), why.state),
			prose(words.OneLine(why.why)), some(Cell, waiting[why])})
	}
	rest := markup.HTML("")
	if more > 0 {
		rest = ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %s more", ui.Counted(more, "cell"))))
	}
	return ui.Subheading("Cells that are not on") +
		ui.Table("Cells that are not on", []string{"State", "Why", "Cells"}, rows) + rest
}
