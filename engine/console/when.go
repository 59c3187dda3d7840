package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// moment is something that is known to happen at a time.
type moment struct {
	at    time.Time
	until time.Time // of a span; zero: it is an instant
	lane  string
	what  markup.HTML
	plain string // what, without links
}

// lanesOfWhen are the lanes of the axis, from top to bottom.
func lanesOfWhen() []string {
	return []string{predictedLane, "gates", "cells", "waves", "freezes", "deadlines", "announcements", "kills"}
}

// renderWhen renders one axis of time with all that is known to happen.
func renderWhen(m *Model, p *Page) {
	p.Title = "When"
	expected := predictions(m)
	all := append(momentsOf(m), momentsOfPredictions(expected)...)
	sortMoments(all)
	p.add("headline", ui.Heading("When"), ui.Paragraph("soft",
		"What is known to happen: the earliest instants at which gates may open, waves may be through, and "+
			"flags turn on."))
	p.add("choice", aheadForm(p.Address))
	renderAhead(m, p)
	if len(all) == 0 {
		renderPredictions(p, expected)
		p.add("moments", ui.Paragraph("empty",
			"Nothing is known to happen. What waits, waits for people, cells or commits."))
		return
	}
	p.add("axis", renderAxis(m, all))
	renderPredictions(p, expected)
	var rows [][]markup.HTML
	for _, x := range all[:min(len(all), pageRows)] {
		when := ui.Instant(x.at)
		if !x.until.IsZero() {
			when = markup.Join(when, " to ", ui.Instant(x.until))
		}
		rows = append(rows, []markup.HTML{when, markup.Text(strings.TrimSuffix(x.lane, "s")), x.what})
	}
	p.add("moments", ui.Subheading("What happens when"),
		ui.Table("What happens when", []string{"When", "Kind", "What"}, rows))
	if more := len(all) - pageRows; more > 0 {
		p.add("more", ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %s later", ui.Thousands(more)))))
	}
}

// momentsOf returns what is known to happen after the plan was made.
func momentsOf(m *Model) (all []moment) {
	v, now := m.view, m.view.Plan.Now
	add := func(x moment) {
		last := x.at
		if !x.until.IsZero() {
			last = x.until
		}
		if !x.at.IsZero() && last.After(now) {
			all = append(all, x)
		}
	}
	for _, b := range v.Plan.Blocked {
		if b.Cell == "" && !b.Until.IsZero() {
			what := markup.Join(version(b.Release), markup.Text(" may pass "+b.Gate+" of "))
			where := ui.Soft("every channel")
			if b.Channel != "" {
				where = link(Channel, b.Channel)
			}
			add(moment{at: b.Until, lane: "gates", what: markup.Join(what, where, ": ", ui.Soft(b.Reason)),
				plain: b.Release + " may pass " + b.Gate + " of " + b.Channel})
		}
	}
	for _, name := range v.Desired.Order {
		r := m.rollouts()[name]
		for _, w := range r.Waiting {
			what := markup.Join(markup.Text(ui.Counted(len(w.Cells), "cell")+" of "), link(Channel, name),
				markup.Text(" may pass "+w.Gate+": "+words.OneLine(w.Reason)))
			add(moment{at: w.Until, lane: "cells", plain: w.Gate + " in " + name, what: what})
		}
		for _, w := range r.Waves {
			add(moment{at: w.Until, lane: "waves", plain: fmt.Sprintf("wave %d of %s", w.Wave, name), what: markup.Join(
				markup.Text(fmt.Sprintf("wave %d of ", w.Wave)), link(Channel, name), " may be through with ",
				version(r.Release))})
		}
		if c := v.Desired.Channels[name]; c.Valid != nil {
			addFreezes(m, add, c.Valid.Freezes, link(Channel, name), name)
		}
	}
	addFreezes(m, add, v.Desired.Pipeline.Freezes, "every channel", "every channel")
	addDeadlines(m, add)
	addFlags(m, add)
	return all
}

// sortMoments sorts moments, the soonest first.
func sortMoments(all []moment) {
	slices.SortStableFunc(all, func(a, b moment) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.plain, b.plain))
	})
}

func addFreezes(m *Model, add func(moment), all []channels.Freeze, where markup.HTML, name string) {
	for _, f := range all {
		add(moment{at: f.From, until: f.Until, lane: "freezes", plain: "freeze of " + name,
			what: markup.Join("freeze of ", where, markup.Text(": "+words.OneLine(f.Reason)))})
	}
}

func addFlags(m *Model, add func(moment)) {
	if m.view.Flags == nil {
		return
	}
	for _, a := range m.view.Flags.Plan.Announcements {
		for _, c := range a.Channels {
			add(moment{at: c.At, lane: "announcements", plain: a.Announcement.ID + " in " + c.Channel,
				what: markup.Join("announcement ", link(Announcements, a.Announcement.ID), " is due in ",
					link(Channel, c.Channel), ": ", markup.Text(string(c.State)))})
		}
	}
	m.withIndex(func(x *view.FlagIndex) {
		for _, k := range x.Kills("") {
			add(moment{at: k.Until, lane: "kills", plain: "review of the kill of " + k.Flag, what: markup.Join(
				"the kill of ", link(Flags, k.Flag), " is to be looked at again")})
		}
	})
}

// renderAxis draws the moments of the time ahead, a track for each kind.
func renderAxis(m *Model, all []moment) markup.HTML {
	from, shown := m.view.Plan.Now, all[:min(len(all), pageRows)]
	until := from.Add(time.Hour)
	for _, x := range shown {
		last := x.at
		if x.until.After(last) {
			last = x.until
		}
		if last.After(until) {
			until = last
		}
	}
	if far := from.Add(90 * 24 * time.Hour); until.After(far) {
		until = far
	}
	c := ui.Chart{Label: "What happens when; the table below says the same", From: from,
		Until: until.Add(until.Sub(from) / 20)}
	for _, lane := range lanesOfWhen() {
		if t := trackOf(lane, shown); len(t.Spans) > 0 {
			c.Tracks = append(c.Tracks, t)
		}
	}
	legend := ui.Element("ul", "legend", markup.Element("li", nil, ui.Swatch("known"), "known"),
		markup.Element("li", nil, ui.Swatch("predicted"), "dashed: predicted"))
	return c.Render() + legend
}

// trackOf returns the track of one kind of moments. What happens at one instant has one mark.
func trackOf(lane string, all []moment) ui.Track {
	t, class := ui.Track{Name: lane}, "known"
	if lane == predictedLane {
		class = "predicted"
	}
	for _, x := range all {
		if x.lane != lane {
			continue
		}
		next := ui.Span{From: x.at, Until: x.until, Class: class, Inside: x.plain,
			Title: x.plain + ", " + x.at.UTC().Format(time.RFC3339)}
		n := len(t.Spans) - 1
		if n < 0 || !x.until.IsZero() || !t.Spans[n].Until.IsZero() || !x.at.Equal(t.Spans[n].From) {
			t.Spans = append(t.Spans, next)
			continue
		}
		t.Spans[n].Inside += ", " + x.plain
		t.Spans[n].Title = x.plain + ", " + t.Spans[n].Title
	}
	return t
}
