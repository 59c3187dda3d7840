package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// renderFlags renders kills, announcements and flags.
func renderFlags(m *Model, p *Page) {
	p.Title = "Flags and announcements"
	if m.view.Flags == nil {
		p.add("headline", ui.Heading(p.Title), ui.Paragraph("empty",
			"This control plane has no flags repository, or has not read "+
				"it yet: ", markup.Element("code", nil, "sluice serve --flags-repo"), " names one."))
		return
	}
	p.add("headline", ui.Heading(p.Title))
	m.withIndex(func(x *view.FlagIndex) {
		p.add("kills", kills(x.Kills("")))
		p.add("announcements", renderAnnouncements(m))
		p.add("flags", flagTable(x, p.Address, m.view.Desired.Order))
	})
}

// kills lists kills with how many cells confirmed each.
func kills(all []view.FlagKill) markup.HTML {
	var rows [][]markup.HTML
	for _, k := range all[:min(len(all), pageRows)] {
		shape, word := "passed", "in force everywhere"
		switch {
		case k.NotOff != "":
			shape, word = "failing", "not off: "+words.OneLine(k.NotOff)
		case k.Confirmed < k.Cells:
			shape, word = "failing", "not confirmed everywhere"
		}
		rows = append(rows, []markup.HTML{link(Flags, k.Flag), ui.State(shape, word),
			markup.Join(markup.Text(fmt.Sprintf("%s of %s", ui.Thousands(k.Confirmed), ui.Thousands(k.Cells))),
				ui.Bar(k.Cells, ui.Share{Class: "healthy", N: k.Confirmed})),
			markup.Text(words.OneLine(k.Reason)), ui.Text(k.By), some(Cell, k.Offline)})
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Subheading("Kills") + ui.Table("Kills", []string{"Flag", "State", "Confirmed", "Reason", "By",
		"Out of contact"}, rows)
}

// announcementShape returns the shape of an announcement's state.
func announcementShape(s announce.State) string {
	switch s {
	case announce.Published:
		return "healthy"
	case announce.Publishing, announce.Armed:
		return "updating"
	case announce.Missed, announce.Retracted:
		return "failing"
	case announce.Held, announce.Draft, announce.Scheduled, announce.Approved:
		return "held"
	}
	return "none"
}

func renderAnnouncements(m *Model) markup.HTML {
	all := slices.Clone(m.view.Flags.Plan.Announcements)
	slices.SortStableFunc(all, func(a, b announce.Status) int { return firstTime(b).Compare(firstTime(a)) })
	var rows [][]markup.HTML
	for _, a := range all[:min(len(all), pageRows)] {
		at := ui.Soft("when ready")
		if t := firstTime(a); !t.IsZero() {
			at = ui.Instant(t)
		}
		rows = append(rows, []markup.HTML{link(Announcements, a.Announcement.ID),
			ui.State(announcementShape(a.State), string(a.State)), markup.Text(a.Announcement.Title), at,
			markup.Text(cmp.Or(a.Needs, a.Summary))})
	}
	if len(rows) == 0 {
		return ui.Subheading("Announcements") + ui.Paragraph("empty", "There are none.")
	}
	return ui.Subheading("Announcements") + ui.Table("Announcements", []string{"Announcement", "State", "Title", "When",
		"In words"}, rows)
}

func flagTable(x *view.FlagIndex, a Address, channels []string) markup.HTML {
	keys := x.Keys()
	if a.Filter != "" {
		keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.Contains(key, a.Filter) })
	}
	whole := len(keys)
	keys, next := view.Paginate(keys, a.After, pageRows)
	var rows [][]markup.HTML
	for _, key := range keys {
		s := x.Status(key)
		how := ui.State("none", "not gated")
		switch {
		case s.Killed:
			how = ui.State("shut-out", "killed")
		case s.Disabled:
			how = ui.State("none", "disabled")
		case s.Feature != "":
			how = ui.State("held", "gated")
		}
		on, all := 0, 0
		for _, c := range s.Channels {
			for st, n := range c.Cells {
				if all += n; st == "on" {
					on += n
				}
			}
		}
		rows = append(rows, []markup.HTML{link(Flags, key), how, ui.Text(s.Feature),
			markup.Join(markup.Text(fmt.Sprintf("%s of %s", ui.Thousands(on), ui.Thousands(all))),
				ui.Bar(all, ui.Share{Class: "healthy", N: on})), some(Announcements, s.Announcements)})
	}
	pager := markup.HTML("")
	if next != "" {
		more := a
		more.After = next
		pager = ui.Paragraph("pager", markup.Element("a", markup.Attributes{"rel", "next", "href", more.String()},
			"Next"))
	}
	if len(rows) == 0 {
		return ui.Subheading("Flags") + ui.Paragraph("empty", "There are none.")
	}
	return markup.Element("h2", nil, "Flags ", ui.Soft(ui.Counted(whole, "flag"))) + ui.Table("Flags",
		[]string{"Flag", "State",
			"Feature", "On in cells", "Announcements"}, rows) + pager
}

// renderFlag renders one flag: where it is on, its rule, and its cells.
func renderFlag(m *Model, p *Page) {
	key := p.Address.Name
	p.Title = key
	p.Found = false
	m.withIndex(func(x *view.FlagIndex) {
		if !x.Exists(key) {
			return
		}
		p.Found = true
		s := x.Status(key)
		p.add("headline", ui.Heading("Flag "+key), confirmedLine(x.Kills(key)),
			ui.Facts([2]markup.HTML{"Feature", ui.Text(s.Feature)},
				[2]markup.HTML{"Announcements", some(Announcements, s.Announcements)}))
		p.add("actions", offersOfFlag(key, s.Killed))
		p.add("kills", kills(x.Kills(key)))
		p.add("channels", flagInChannels(s))
		whoSees(m, p)
		if d := x.Definition(key); d != nil {
			p.add("definition", ui.Subheading("Definition"), markup.Element("pre", markup.Attributes{"tabindex", "0"},
				ui.Code(words.Clip(indented(d.Encode()), 16<<10))))
		}
		p.add("cells", flagInCells(m, x, p.Address))
	})
}

// indented returns JSON as people read it.
func indented(text []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, text, "", "  ") != nil {
		return string(text)
	}
	return out.String()
}

func flagInChannels(s view.FlagStatus) markup.HTML {
	var rows [][]markup.HTML
	for _, c := range s.Channels {
		whole := 0
		var counts []markup.HTML
		for _, st := range sortedKeys(c.Cells) {
			whole += c.Cells[st]
			counts = append(counts, ui.State(flagShape(string(st)),
				fmt.Sprintf("%s %s", ui.Thousands(c.Cells[st]), st)), " ")
		}
		at := ui.Soft("")
		if !c.At.IsZero() {
			at = ui.Instant(c.At)
		}
		announced := markup.HTML("")
		if c.State != "" {
			announced = ui.State(announcementShape(c.State), string(c.State))
		}
		if c.Percent > 0 && c.Percent < 100 {
			announced = markup.Join(announced, markup.Text(fmt.Sprintf(" to %d %% of users", c.Percent)))
		}
		rows = append(rows, []markup.HTML{link(Channel, c.Channel), announced, at, markup.Join(counts...),
			ui.Bar(whole, ui.Share{Class: "healthy", N: c.Cells["on"]},
				ui.Share{Class: "updating", N: c.Cells["ramping"] + c.Cells["armed"]},
				ui.Share{Class: "shut-out", N: c.Cells["killed"]})})
	}
	return ui.Subheading("Where it is on") + ui.Table("Where it is on",
		[]string{"Channel", "Announced", "When", "Cells", "On"}, rows)
}

// flagShape returns the shape of a flag's state in a cell.
func flagShape(state string) string {
	switch state {
	case "on":
		return "healthy"
	case "ramping", "armed", "ready":
		return "updating"
	case "killed":
		return "shut-out"
	case "waiting", "held", "suspended":
		return "held"
	}
	return "none"
}

func flagCellRow(first markup.HTML, c view.FlagCell) []markup.HTML {
	confirmed := ui.State("none", "not confirmed")
	switch {
	case c.Confirmed:
		confirmed = ui.State("passed", "confirmed")
	case c.Offline:
		confirmed = ui.State("silent", "out of contact")
	}
	return []markup.HTML{first, ui.State(flagShape(string(c.State)), string(c.State)), confirmed,
		ui.Text(words.OneLine(c.Why))}
}

func flagInCells(m *Model, x *view.FlagIndex, a Address) markup.HTML {
	var names []string
	for _, c := range m.status().Cells {
		names = append(names, c.Name)
	}
	whole := len(names)
	names, next := view.Paginate(names, a.After, pageRows)
	at := x.CellStates(a.Name)
	var rows [][]markup.HTML
	for _, name := range names {
		rows = append(rows, flagCellRow(link(Cell, name), x.Cell(a.Name, name, at)))
	}
	if len(rows) == 0 {
		return ""
	}
	pager := markup.HTML("")
	if next != "" {
		more := a
		more.After = next
		pager = ui.Paragraph("pager", markup.Element("a", markup.Attributes{"rel", "next", "href", more.String()},
			"Next"))
	}
	return markup.Element("h2", nil, "Cells ", ui.Soft(ui.Counted(whole, "cell"))) + ui.Table("Cells",
		[]string{"Cell", "State",
			"Confirmed", "Why"}, rows) + pager
}
