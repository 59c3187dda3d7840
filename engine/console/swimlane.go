package console

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// MaxEvents bounds the events of which a cell's history is drawn.
const MaxEvents = 200

// maxHistory bounds how far back a cell's history goes.
const maxHistory = 30 * 24 * time.Hour

// history is what is known of a cell over time.
type history struct {
	from, until time.Time
	hues        ui.Hues
}

// swimlane draws what ran in a cell, what was offered, maintenance, failures and contact over one axis of time, below
// what its channel was at.
func swimlane(m *Model, c *view.CellStatus, s *plan.CellState, events []cells.Event) markup.HTML {
	if s == nil || s.LastReport.IsZero() {
		return ""
	}
	now := m.view.Plan.Now.Truncate(asOfStep)
	own := slices.Clone(events[max(0, len(events)-MaxEvents):])
	for i := range own { // by our clock
		own[i].At = own[i].At.Add(-s.Skew).UTC()
	}
	own = slices.DeleteFunc(own, func(e cells.Event) bool { return e.At.Before(now.Add(-maxHistory)) })
	slices.SortStableFunc(own, func(a, b cells.Event) int { return a.At.Compare(b.At) })
	h := &history{from: now.Add(-time.Hour), until: now}
	for _, at := range firstInstants(s, own) {
		if !at.IsZero() && at.Before(h.from) && at.After(now.Add(-maxHistory)) {
			h.from = at
		}
	}
	ch := ui.Chart{Label: "History of " + c.Name + "; the table below says the same", From: h.from, Until: h.until}
	ch.Tracks = []ui.Track{h.headsTrack(m, c.Channel), h.runsTrack(c, s, own), h.offersTrack(own),
		h.maintenanceTrack(own), h.failuresTrack(s, own), h.contactTrack(m, s)}
	return ui.Subheading("History") + ch.Render() + h.hues.Legend() + laneLegend() +
		markup.Element("details", nil, markup.Element("summary", nil, "As a table"), eventTable(own))
}

// firstInstants returns the instants at which the parts of a history begin.
func firstInstants(s *plan.CellState, own []cells.Event) []time.Time {
	all := []time.Time{s.HealthySince, s.ReachedAt}
	if len(own) > 0 {
		all = append(all, own[0].At)
	}
	for _, b := range s.Boots {
		all = append(all, b.First)
	}
	for _, f := range s.Failures {
		all = append(all, f.At)
	}
	return all
}

// span returns a stretch, cut to the axis; ok is false if nothing is left.
func (h *history) span(from, until time.Time, class, inside, title string) (s ui.Span, ok bool) {
	if from.Before(h.from) {
		from = h.from
	}
	if until.After(h.until) {
		until = h.until
	}
	return ui.Span{From: from, Until: until, Class: class, Inside: inside,
		Title: title + ", " + words.FormatTime(from.Truncate(time.Second)) + " to " +
			words.FormatTime(until.Truncate(time.Second))}, until.After(from)
}

func (h *history) headsTrack(m *Model, channel string) ui.Track {
	t := ui.Track{Name: "its channel"}
	c := m.view.Desired.Channels[channel]
	if c == nil {
		return t
	}
	for i, head := range c.History {
		until := h.until
		if i+1 < len(c.History) {
			until = c.History[i+1].Moved
		}
		if s, ok := h.span(head.Moved, until, "", head.Release, channel+" was at "+head.Release); ok {
			s.Class = h.hues.Of(head.Release)
			t.Spans = append(t.Spans, s)
		}
	}
	return t
}

// runsTrack draws what ran, by the events that say that something was applied or was healthy.
func (h *history) runsTrack(c *view.CellStatus, s *plan.CellState, own []cells.Event) ui.Track {
	t := ui.Track{Name: "ran"}
	release, since := "", time.Time{}
	end := func(at time.Time) {
		if release == "" {
			return
		}
		if one, ok := h.span(since, at, "", release, "ran "+release); ok {
			one.Class = h.hues.Of(release)
			t.Spans = append(t.Spans, one)
		}
	}
	for _, e := range own {
		switch e.Kind {
		case "applied", "healthy", "rolled-back":
			if e.Release != "" && e.Release != release {
				end(e.At)
				release, since = e.Release, e.At
			}
		}
	}
	switch {
	case release == "" && c.Release != "": // no event is known: what it reports, as long as that is known
		release, since = c.Release, s.HealthySince
		if since.IsZero() {
			since = s.LastReport
		}
	case release != c.Release && c.Release != "":
		end(s.LastReport)
		release, since = c.Release, s.LastReport
	}
	end(h.until)
	return t
}

// eventMark returns the mark of an event.
func eventMark(e cells.Event, mark string) ui.Span {
	return ui.Span{From: e.At, Mark: mark, Title: strings.TrimSpace(e.Kind+" "+e.Release) + ", " +
		words.FormatTime(e.At.Truncate(time.Second)) + ": " + words.OneLine(words.Clip(e.Detail, 200))}
}

func (h *history) offersTrack(own []cells.Event) ui.Track {
	t := ui.Track{Name: "offers"}
	for _, e := range own {
		switch e.Kind {
		case "started", "retried":
			t.Spans = append(t.Spans, eventMark(e, "updating"))
		case "waiting", "withheld", "superseded":
			t.Spans = append(t.Spans, eventMark(e, "held"))
		case "refused":
			t.Spans = append(t.Spans, eventMark(e, "shut-out"))
		}
	}
	return t
}

func (h *history) maintenanceTrack(own []cells.Event) ui.Track {
	t := ui.Track{Name: "maintenance"}
	var since time.Time
	end := func(at time.Time) {
		if since.IsZero() {
			return
		}
		if s, ok := h.span(since, at, "held", "", "operations were refused"); ok {
			t.Spans = append(t.Spans, s)
		}
		since = time.Time{}
	}
	for _, e := range own {
		switch e.Kind {
		case maintenance.EventEntered:
			end(e.At)
			since = e.At
		case maintenance.EventLeft, maintenance.EventOverran, maintenance.EventWithdrawn:
			end(e.At)
		case maintenance.EventAnnounced, maintenance.EventPutOff, maintenance.EventForced, maintenance.EventProlonged,
			maintenance.EventUnasked, maintenance.EventIgnored:
			t.Spans = append(t.Spans, eventMark(e, "held"))
		}
	}
	end(h.until)
	return t
}

// failuresTrack draws when something did not work: stretches without health, and each failure.
func (h *history) failuresTrack(s *plan.CellState, own []cells.Event) ui.Track {
	t := ui.Track{Name: "failures"}
	var ill time.Time
	end := func(at time.Time) {
		if one, ok := h.span(ill, at, "failing", "", "not healthy"); ok && !ill.IsZero() {
			one.Thin = true
			t.Spans = append(t.Spans, one)
		}
		ill = time.Time{}
	}
	for _, e := range own {
		switch e.Kind {
		case "unhealthy":
			if ill.IsZero() {
				ill = e.At
			}
		case "healthy":
			end(e.At)
		}
	}
	if !ill.IsZero() {
		end(h.until)
	}
	known := map[time.Time]bool{}
	for _, e := range own {
		switch e.Kind {
		case "failed", "stuck", "unhealed", "unhealthy":
			known[e.At.Truncate(time.Minute)] = true
			t.Spans = append(t.Spans, eventMark(e, "failing"))
		case "rolled-back":
			t.Spans = append(t.Spans, eventMark(e, "behind"))
		}
	}
	for _, f := range s.Failures { // remembered longer than events
		at := f.At.Add(-s.Skew)
		if at.After(h.from) && !known[at.Truncate(time.Minute)] {
			t.Spans = append(t.Spans, eventMark(cells.Event{At: at, Kind: "failed", Release: f.Assignment.Release,
				Detail: f.Reason}, "failing"))
		}
	}
	return t
}

// contactTrack draws the starts of the agent, and when it was silent.
func (h *history) contactTrack(m *Model, s *plan.CellState) ui.Track {
	t := ui.Track{Name: "contact"}
	for _, b := range s.Boots {
		if one, ok := h.span(b.First, b.Last, "none", "", "a start of its agent reported"); ok {
			one.Thin = true
			t.Spans = append(t.Spans, one)
		}
		if b.First.After(h.from) {
			t.Spans = append(t.Spans, ui.Span{From: b.First, Mark: "new", Title: "its agent started, " +
				words.FormatTime(b.First.Truncate(time.Second))})
		}
	}
	for _, g := range s.Gaps {
		shape, word := lookOfGap(g.Cause)
		if one, ok := h.span(g.From, g.Until, shape, "", word); ok {
			t.Spans = append(t.Spans, one)
		}
	}
	if m.view.Silent(s) {
		if one, ok := h.span(s.LastReport, h.until, "silent", "silent", "silent"); ok {
			t.Spans = append(t.Spans, one)
		}
	}
	return t
}

func laneLegend() markup.HTML {
	var items []markup.HTML
	for _, one := range [][2]string{{"updating", "began, or tried again"}, {"held", "waits, or maintenance"},
		{"shut-out", "refused"}, {"failing", "failed, or not healthy"}, {"behind", "rolled back"},
		{"new", "its agent started"}, {"silent", "silent"}} {
		items = append(items, markup.Element("li", nil, ui.State(one[0], one[1])))
	}
	return ui.Element("ul", "legend", items...)
}

func eventTable(own []cells.Event) markup.HTML {
	if len(own) == 0 {
		return ui.Paragraph("empty", "The cell reported no event that is kept.")
	}
	var rows [][]markup.HTML
	for _, e := range slices.Backward(own) {
		if len(rows) == pageRows {
			break
		}
		release := ui.Soft("none")
		if e.Release != "" {
			release = version(e.Release)
		}
		rows = append(rows, []markup.HTML{ui.Instant(e.At), markup.Text(words.OneLine(e.Kind)), release,
			markup.Text(words.OneLine(e.Detail))})
	}
	return ui.Table("What the cell reported", []string{"When", "What", "Release", "More"}, rows)
}
