package console

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// prediction is the next promotion into a channel, as the clocks of the gates have it.
type prediction struct {
	place
	at    time.Time // the earliest instant; zero: it waits for something without a clock
	last  channels.Verdict
	waits []channels.Verdict // for people, cells or hosts
}

// predictions returns, for each channel, the promotion of the greatest release that waits: the earliest instant at
// which all its gates may hold, if nothing else happens until then. Those with an instant come first.
func predictions(m *Model) (all []prediction) {
	d := m.view.Desired
	next := map[string]string{} // by channel
	for at := range m.blocked() {
		if r, best := d.Releases[at.release], d.Releases[next[at.channel]]; r != nil && (best == nil ||
			best.Version.Less(r.Version)) {
			next[at.channel] = at.release
		}
	}
	for _, name := range d.Order {
		if next[name] == "" {
			continue
		}
		p := prediction{place: place{name, next[name]}}
		for _, v := range m.blocked()[p.place] {
			switch {
			case v.Until.IsZero():
				p.waits = append(p.waits, v)
			case v.Until.After(p.at):
				p.at, p.last = v.Until, v
			}
		}
		if len(p.waits) > 0 {
			p.at = time.Time{}
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b prediction) int {
		switch {
		case a.at.IsZero() != b.at.IsZero():
			if a.at.IsZero() {
				return 1
			}
			return -1
		}
		return a.at.Compare(b.at)
	})
	return all
}

// momentsOfPredictions returns the promotions that have an instant.
func momentsOfPredictions(all []prediction) (moments []moment) {
	for _, p := range all {
		if !p.at.IsZero() {
			moments = append(moments, moment{at: p.at, lane: predictedLane, plain: "predicted: " + p.release + " to " +
				p.channel,
				what: markup.Join("predicted: ", version(p.release), " comes to ", link(Channel, p.channel))})
		}
	}
	return moments
}

const predictedLane = "promotions"

// renderPredictions says of each next promotion when it may come, or for what it waits.
func renderPredictions(p *Page, all []prediction) {
	if len(all) == 0 {
		return
	}
	var rows [][]markup.HTML
	for _, one := range all[:min(len(all), pageRows)] {
		when, because := ui.Soft("no instant: it waits for more than a clock"), verdicts(one.waits)
		if !one.at.IsZero() {
			when, because = ui.Instant(one.at), markup.Join(ui.Element("span", "gate", markup.Text(one.last.Gate)), " ",
				markup.Text(strings.TrimSpace(one.last.Reason)))
		}
		rows = append(rows, []markup.HTML{link(Channel, one.channel), version(one.release), when, because})
	}
	parts := []markup.HTML{ui.Subheading("Predicted promotions"),
		ui.Paragraph("soft", "The earliest instant of the next "+
			"promotion into each channel, from the clocks of its gates: a prediction, if cells stay healthy and no commit "+
			"comes until then."),
		ui.Table("Predicted promotions", []string{"Channel", "Release", "Not before", "Because"}, rows)}
	if more := len(all) - pageRows; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("and "+ui.Counted(more, "channel")+" more")))
	}
	p.add("predictions", parts...)
}
