package console

import (
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/ui"
)

// renderNow renders the first page: whether all is well, the channels as lanes, and the releases on their way.
func renderNow(m *Model, p *Page) {
	p.Title = "Now"
	p.add("headline", renderHeadline(m))
	p.add("lanes", renderLanes(m))
	if releases := m.newestReleases(maxListed, true); len(releases) > 0 {
		p.add("ladder", ui.Subheading("Releases on their way"), renderLadder(m, "Releases on their way", releases))
	}
}

// renderHeadline says in one sentence whether all is well, and what there is.
func renderHeadline(m *Model) markup.HTML {
	needs := m.needs()
	first := markup.Element("h1", nil, ui.Mark("healthy", ""), " Everything is where it should be")
	if n := len(needs); n > 0 {
		verb := " things need you"
		if n == 1 {
			verb = " thing needs you"
		}
		list := []markup.HTML{}
		for _, need := range needs[:min(n, 3)] {
			list = append(list, markup.Element("li", nil, ui.Mark(need.Shape, ""), ui.Element("span", "", need.Title),
				ui.Element("span", "need-why", need.Why)))
		}
		if n > len(list) {
			list = append(list, markup.Element("li", nil, ui.Mark("none", ""),
				markup.Link(Address{Kind: Needs}.String(), fmt.Sprintf("and %d more", n-len(list)))))
		}
		first = markup.Element("h1", nil, ui.Mark(needs[0].Shape, ""), " ",
			markup.Link(Address{Kind: Needs}.String(), fmt.Sprint(n)+verb)) +
			ui.Element("ul", "urgent", list...)
	}
	return first + renderSummary(m)
}

// renderSummary counts what there is.
func renderSummary(m *Model) markup.HTML {
	s := m.status()
	counts := map[view.Condition]int{}
	for _, c := range s.Cells {
		counts[c.Condition]++
	}
	parts := []markup.HTML{ui.Element("span", "", markup.Text(ui.Counted(len(s.Cells), "cell")+" in "+
		ui.Counted(len(s.Channels), "channel")))}
	for _, c := range conditions() {
		if n := counts[c]; n > 0 {
			parts = append(parts, markup.Element("a", markup.Attributes{"href",
				Address{Kind: Fleet, Filter: string(c)}.String()},
				ui.StateCount(shapeOfCondition(c), n, string(c))))
		}
	}
	return ui.Paragraph("summary", parts...)
}

func renderLanes(m *Model) markup.HTML {
	lanes := m.lanes()
	if len(lanes) == 0 {
		return ui.Paragraph("empty", "The repository has no channels yet: ",
			markup.Element("code", nil, "sluice init"), " makes a first one.")
	}
	columns := make([]markup.HTML, 0, len(lanes))
	for i, lane := range lanes {
		cards := make([]markup.HTML, 0, len(lane))
		for _, c := range lane {
			cards = append(cards, renderCard(m, c))
		}
		columns = append(columns, markup.Element("li", markup.Attributes{"class", "lane", "aria-label",
			fmt.Sprintf("Step %d", i+1)}, cards...))
	}
	return ui.Element("ol", "lanes", columns...)
}

// renderCard renders a channel on the first page.
func renderCard(m *Model, c view.ChannelStatus) markup.HTML {
	title := []markup.HTML{markup.Element("h2", nil, link(Channel, c.Name))}
	if len(c.After) > 0 {
		title = append(title, ui.Element("span", "soft", markup.Text("after "+strings.Join(c.After, ", "))))
	}
	parts := []markup.HTML{ui.Element("div", "card-title", title...), headLine(m, c)}
	parts = append(parts, rolloutLine(m, c), conditionsOf(m, c), waitsOf(m, c))
	return ui.Element("article", "card", parts...)
}

// headLine says what a channel's head is, since when, and how it came there.
func headLine(m *Model, c view.ChannelStatus) markup.HTML {
	if c.Release == "" {
		return ui.Paragraph("head", ui.Soft("no release yet"))
	}
	how := "is here"
	if e := m.view.Desired.Channels[c.Name].Effective; e != nil {
		how = howItCame(e)
	}
	return ui.Paragraph("head", version(c.Release), " ", ui.Element("span", "soft", markup.Text(how+" "),
		ui.Instant(c.Since)))
}

// howItCame says how a channel got its head.
func howItCame(e *plan.EffectiveHead) string {
	switch {
	case e.Kind == plan.Rollback:
		return "rolled back"
	case e.Hotfix:
		return "promoted as a hotfix"
	case e.Kind == plan.Adopted:
		return "here from the start"
	}
	return "promoted"
}

// barOf draws the conditions of cells, in the order in which they are counted below.
func barOf(counts map[view.Condition]int, whole int) markup.HTML {
	shares := []ui.Share{}
	for _, c := range conditions() {
		shares = append(shares, ui.Share{Class: string(c), N: counts[c]})
	}
	return ui.Bar(whole, shares...)
}

func conditionsOf(m *Model, c view.ChannelStatus) markup.HTML {
	if c.Cells == 0 {
		return ui.Paragraph("soft", "no cells")
	}
	var items []markup.HTML
	for _, condition := range conditions() {
		if n := c.Counts[condition]; n > 0 {
			items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"href",
				Address{Kind: Fleet, Filter: "channel:" + quoted(c.Name) + " " + string(condition)}.String()},
				ui.StateCount(shapeOfCondition(condition), n, string(condition)))))
		}
	}
	return barOf(c.Counts, c.Cells) + ui.Element("ul", "counts", items...)
}

// rolloutLine says how far the head has come, while it goes out.
func rolloutLine(m *Model, c view.ChannelStatus) markup.HTML {
	r := m.rollouts()[c.Name]
	if r.Release == "" || r.Finished || c.Cells == 0 {
		return ""
	}
	words := []string{fmt.Sprintf("%s of %s healthy on it", ui.Thousands(r.Healthy), ui.Thousands(r.Could))}
	if r.Wave > 0 && r.Wave <= len(r.Waves) {
		words = append([]string{fmt.Sprintf("wave %d of %d", r.Wave, len(r.Waves))}, words...)
	}
	if r.Slots > 0 {
		words = append(words, fmt.Sprintf("%d of %d slots in use", r.InFlight, r.Slots))
	}
	if bad := len(r.Failed) + len(r.Stalled); bad > 0 || r.Budget > 0 {
		words = append(words, fmt.Sprintf("%d failed or stalled, %d may", bad, r.Budget))
	}
	return ui.Paragraph("rollout", ui.Mark("updating", ""), markup.Text("going out: "+strings.Join(words, " · ")))
}

// waitsOf says what keeps releases from a channel, each with its clock.
func waitsOf(m *Model, c view.ChannelStatus) markup.HTML {
	var own []channels.Verdict
	byRelease := map[string][]channels.Verdict{}
	var order []string
	for _, b := range c.Blocked {
		switch {
		case b.Channel == "": // of the whole repository: the headline has it
		case b.Release == "" || b.Release == c.Release:
			own = append(own, b)
		default:
			if byRelease[b.Release] == nil {
				order = append(order, b.Release)
			}
			byRelease[b.Release] = append(byRelease[b.Release], b)
		}
	}
	parts := []markup.HTML{verdicts(own)}
	for _, release := range order[:min(len(order), 3)] {
		is := markup.HTML(" waits")
		if byRelease[release][0].Code == reason.Quarantine {
			is = " is quarantined"
		}
		parts = append(parts, ui.Element("div", "waits", ui.Paragraph("", version(release), is),
			verdicts(byRelease[release])))
	}
	return markup.Join(parts...)
}

// renderLadder renders where each of some releases is, a column for each channel.
func renderLadder(m *Model, caption string, releases []*plan.Release) markup.HTML {
	names := m.view.Desired.Order
	head := append([]string{"Release"}, names[:min(len(names), maxListed)]...)
	if len(names) > maxListed {
		head = append(head, "elsewhere")
	}
	var rows [][]markup.HTML
	for _, r := range releases {
		row := []markup.HTML{version(r.Version.String())}
		for _, name := range head[1:min(len(head), maxListed+1)] {
			w := m.whereabouts(name, r)
			row = append(row, w.render())
		}
		if len(names) > maxListed {
			n := 0
			for _, name := range names[maxListed:] {
				if m.whereabouts(name, r).word == hereWord {
					n++
				}
			}
			row = append(row, markup.Text("in "+ui.Counted(n, "channel")))
		}
		rows = append(rows, row)
	}
	return ui.Table(caption, head, rows)
}

// whereabouts says where a release is on its way into one channel.
type whereabouts struct{ shape, word string }

const hereWord = "here"

// render returns where the release is. What is over does not look as what is now.
func (w whereabouts) render() markup.HTML {
	is := ui.State(w.shape, w.word)
	if w.shape == "passed" {
		is = ui.Element("span", "past", is)
	}
	return is
}

func (m *Model) whereabouts(channel string, r *plan.Release) whereabouts {
	c, name := m.view.Desired.Channels[channel], r.Version.String()
	blocked := m.blocked()[place{channel, name}]
	switch e := c.Effective; {
	case e != nil && e.Release == name:
		return whereabouts{"healthy", hereWord}
	case m.isQuarantined(channel, r):
		return whereabouts{"shut-out", "quarantined"}
	case len(blocked) > 0:
		return whereabouts{"held", "waits: " + blocked[0].Gate}
	case hadIt(c, name):
		return whereabouts{"passed", "was here"}
	case e != nil && m.isBelow(r, e.Release):
		return whereabouts{"none", "passed over"}
	}
	return whereabouts{"none", "not yet"}
}

func (m *Model) isBelow(r *plan.Release, head string) bool {
	h := m.view.Desired.Releases[head]
	return h != nil && r.Version.Less(h.Version)
}

func hadIt(c *plan.Channel, release string) bool {
	for _, h := range c.History {
		if h.Release == release {
			return true
		}
	}
	return false
}

func (m *Model) isQuarantined(channel string, r *plan.Release) bool {
	for _, q := range m.view.Desired.Quarantine {
		if q.Stops(channel, r.Version.String(), r.Digest) {
			return true
		}
	}
	return false
}
