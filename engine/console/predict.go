package console

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/reason"
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
		blocked := m.blocked()[p.place]
		p.waits = unjudged(d.Channels[name], d.Releases[p.release], blocked)
		for _, v := range blocked {
			switch {
			case v.Until.IsZero(), v.Code == reason.AnswerNo, v.Code == reason.AnswerFailed: // until it is asked again
				p.waits = append(p.waits, v)
			case v.Until.After(p.at) && v.Until.After(m.view.Plan.Now):
				p.at, p.last = v.Until, v
			}
		}
		if len(p.waits) > 0 {
			p.at = time.Time{}
		}
		if len(p.waits) > 0 || !p.at.IsZero() {
			all = append(all, p)
		}
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

// unjudged returns what keeps a release from a channel without a clock, and is in no verdict: while an upstream keeps
// the release, the engine judges no other gate, and it asks check and metric gates once all others hold.
func unjudged(c *plan.Channel, r *plan.Release, blocked []channels.Verdict) (waits []channels.Verdict) {
	requested := c != nil && c.Request != nil && c.Request.Release == r.Version.String()
	if c == nil || c.Policy == nil || requested && c.Policy.People == channels.PeopleFree {
		return nil
	}
	isBlocked := func(gate string) bool {
		return slices.ContainsFunc(blocked, func(v channels.Verdict) bool { return v.Gate == gate })
	}
	upstream := "after"
	if i := slices.IndexFunc(c.Policy.Gates, func(g channels.Gate) bool { return g.Soak != nil }); i >= 0 {
		upstream = c.Policy.Gates[i].ID
	}
	comes := isBlocked(upstream) && !requested
	if comes {
		for _, h := range c.Holds {
			waits = append(waits, channels.Blocked("hold", reason.Hold, h.Reason, cmp.Or(h.By, h.ID)))
		}
	}
	if comes && c.Policy.Promote == channels.PromoteManual {
		waits = append(waits, channels.Blocked("manual", reason.Manual, r.Version, c.Name))
	}
	for i := range c.Policy.Gates {
		switch g := &c.Policy.Gates[i]; {
		case isBlocked(g.ID):
		case g.Check != nil, g.Metric != nil:
			waits = append(waits, channels.Blocked(g.ID, reason.AnswerMissing))
		case comes && g.Approval != nil:
			if v := g.Approval.Judge(c.ApproversOf(r), r.Authorship()); !v.Holds {
				v.Gate = g.ID
				waits = append(waits, v)
			}
		}
	}
	return waits
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
			"promotion into each channel, from the clocks of its gates: a prediction, if cells stay healthy and no "+
			"commit comes until then."),
		ui.Table("Predicted promotions", []string{"Channel", "Release", "Not before", "Because"}, rows)}
	if more := len(all) - pageRows; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("and "+ui.Counted(more, "channel")+" more")))
	}
	p.add("predictions", parts...)
}
