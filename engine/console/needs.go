package console

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// Need is something that waits for a person.
type Need struct {
	Harm    int    // how bad it is while nobody acts; the greatest comes first
	Key     string // the same while the need is the same one
	Shape   string
	Title   markup.HTML // in a sentence, with links
	Why     markup.HTML
	Command string // the one command that helps, or that says more
	Form    string // the address of the form that does the same; empty: none does
	FormAs  string // what it does, as an order
}

// How bad a need is while nobody acts.
const (
	harmAll       = 90 // nothing moves anywhere, or what is shown may be old
	harmKill      = 80 // something that must be off may be on
	harmFailing   = 70 // users of a cell are hurt now
	harmStopped   = 60 // a release does not go on
	harmShutOut   = 50
	harmDecision  = 40 // waits for a decision, and nothing is wrong
	harmSilent    = 30
	harmUntidy    = 20
	maxNeedsShown = 200
)

// findNeeds returns what waits for a person, by harm.
func (m *Model) findNeeds() []Need {
	all := slices.Concat(m.needsOfRepository(), m.needsOfChannels(), m.needsOfCells(), m.needsOfInfrastructure(),
		m.needsOfFlags())
	slices.SortStableFunc(all, func(a, b Need) int { return b.Harm - a.Harm })
	return all
}

func (m *Model) needsOfRepository() (all []Need) {
	v := m.view
	if u := v.Unread; u != nil {
		all = append(all, Need{Harm: harmAll, Key: "unread", Shape: "failing",
			Title: "The release repository can't be read",
			Why: markup.Join("since ", ui.Instant(u.Since), ": ", markup.Text(words.OneLine(u.Reason)),
				". What the pages show is as of the last commit that was read."),
			Command: words.Shell("sluice", "status")})
	}
	if d := v.Observed.Diverged; d != nil {
		all = append(all, Need{Harm: harmAll, Key: "diverged", Shape: "failing",
			Title:   "The release branch was rewritten: nothing moves until a person accepts it",
			Why:     markup.Join("since ", ui.Instant(d.At), "; it lost commit ", ui.Code(words.ShortCommit(d.Seen))),
			Command: words.Shell("sluice", "status")})
	}
	for _, b := range v.Plan.Blocked {
		if b.Channel == "" && b.Cell == "" && b.Code != reason.Observing && b.Code != reason.BeingRead {
			all = append(all, Need{Harm: harmAll, Key: "everywhere " + b.Gate, Shape: "held",
				Title: markup.Text("Nothing moves: " + b.Gate), Why: sentence(b), Command: "sluice plan"})
		}
	}
	for _, u := range v.Desired.Unconfirmed {
		all = append(all, Need{Harm: harmStopped, Key: "unconfirmed " + u.Commit, Shape: "held",
			Title: markup.Text(fmt.Sprintf("A commit removed %s of %d %s, and waits to be confirmed",
				ui.Thousands(u.Count), u.Of, u.Dir)),
			Why: ui.Code(words.ShortCommit(u.Commit)), Command: "sluice validate"})
	}
	all = append(all, m.needsOfQuarantine()...)
	faults := 0
	first := ""
	for _, f := range v.Desired.Faults {
		if !f.Warning {
			if faults++; first == "" {
				first = f.String()
			}
		}
	}
	if faults > 0 {
		all = append(all, Need{Harm: harmStopped, Key: "faults", Shape: "failing",
			Title: markup.Text("The release repository has " + ui.Counted(faults, "fault")),
			Why:   markup.Text(words.OneLine(first)), Command: "sluice validate"})
	}
	return all
}

// needsOfQuarantine returns the quarantines of releases that no greater one has replaced: people expect them to arrive.
func (m *Model) needsOfQuarantine() (all []Need) {
	d := m.view.Desired
	for _, q := range d.Quarantine {
		r := d.Releases[q.Release]
		if r == nil || len(d.Versions) == 0 || slices.ContainsFunc(d.Order, func(name string) bool {
			e := d.Channels[name].Effective
			return e != nil && m.isBelow(r, e.Release)
		}) {
			continue
		}
		where := "everywhere"
		if len(q.Channels) > 0 {
			where = "in " + words.Some(q.Channels, maxListed)
		}
		all = append(all, Need{Harm: harmDecision, Key: "quarantine " + q.Release, Shape: "shut-out",
			Title: markup.Join(version(q.Release),
				markup.Text(" is quarantined "+where+": cut a release that mends it")),
			Why: markup.Text(words.OneLine(q.Why())), Command: words.Shell("sluice", "why", q.Release)})
	}
	return all
}

func (m *Model) needsOfChannels() (all []Need) {
	for _, c := range m.status().Channels {
		add := func(harm int, shape, key, title string, why markup.HTML, command string) {
			all = append(all, Need{Harm: harm, Key: "channel " + c.Name + " " + key, Shape: shape,
				Title: markup.Join(link(Channel, c.Name), markup.Text(title)), Why: why, Command: command})
		}
		for _, h := range c.Holds {
			why := markup.Text(words.OneLine(h.Reason))
			if h.By != "" {
				why = markup.Join(why, ui.Soft(" ("+h.By+")"))
			}
			add(harmStopped, "held", "hold "+h.ID, " is on hold", why,
				words.Shell("sluice", "hold", c.Name, "--lift", h.ID))
			last := &all[len(all)-1]
			last.Form, last.FormAs = actionOf("lift-hold", "channel", c.Name, "hold", h.ID), "Lift the hold"
		}
		if c.Refused != "" {
			add(harmStopped, "failing", "refused", ": the git host refused the last push",
				markup.Text(words.OneLine(c.Refused)), words.Shell("sluice", "why", c.Name))
		}
		if q := c.Request; q != nil && q.Fault != "" {
			add(harmStopped, "failing", "request", ": a request can't be read", markup.Text(words.OneLine(q.Fault)),
				words.Shell("sluice", "why", c.Name))
		}
		r := m.rollouts()[c.Name]
		if len(r.Stalled) > 0 {
			add(harmFailing, "failing", "stalled", ": "+ui.Counted(len(r.Stalled), "cell")+" stalled on "+r.Release,
				some(Cell, r.Stalled), words.Shell("sluice", "rollout", "status", c.Name))
		}
		for _, b := range c.Blocked {
			if b.Channel != "" {
				all = append(all, needOfVerdict(b)...)
			}
		}
	}
	return all
}

// needOfVerdict returns the need that a channel's verdict means; none: time or the engine ends it.
func needOfVerdict(b channels.Verdict) []Need {
	n := Need{Harm: harmDecision, Key: "verdict " + b.Channel + " " + b.Release + " " + b.Gate, Shape: "held",
		Why: sentence(b), Command: words.Shell("sluice", "why", b.Channel)}
	title := func(text string) []Need {
		n.Title = markup.Join(version(b.Release), markup.Text(" "+text+" "), link(Channel, b.Channel))
		return []Need{n}
	}
	switch b.Code {
	case reason.ApprovalMissing:
		n.Command = words.Shell("sluice", "approve", b.Channel, b.Release)
		n.Form, n.FormAs = actionOf("approve", "channel", b.Channel, "release", b.Release), "Approve"
		return title("waits for an approval for")
	case reason.Manual:
		n.Command = words.Shell("sluice", "promote", b.Release, "--to", b.Channel)
		n.Form, n.FormAs = actionOf("promote", "channel", b.Channel, "release", b.Release), "Promote"
		return title("waits for a person to promote it to")
	case reason.SoakImpossible, reason.WhenInvalid, reason.PolicyInvalid, reason.RequestUnknown:
		n.Harm, n.Shape = harmStopped, "failing"
		return title("can never reach")
	case reason.CellsAhead, reason.HeadLost:
		n.Harm, n.Shape = harmStopped, "failing"
		return title("is stopped in")
	}
	return nil
}

func (m *Model) needsOfCells() (all []Need) {
	for _, kind := range []struct {
		condition view.Condition
		harm      int
		what      string
	}{
		{view.ConditionFailing, harmFailing, "failing"}, {view.ConditionShutOut, harmShutOut, "shut out"},
		{view.ConditionSilent, harmSilent, "silent"},
	} {
		byChannel := map[string][]string{}
		for _, c := range m.status().Cells {
			if c.Condition == kind.condition {
				byChannel[c.Channel] = append(byChannel[c.Channel], c.Name)
			}
		}
		for _, channel := range m.view.Desired.Order {
			names := byChannel[channel]
			if len(names) == 0 {
				continue
			}
			verb := " are "
			if len(names) == 1 {
				verb = " is "
			}
			filter := "channel:" + quoted(channel) + " " + string(kind.condition)
			n := Need{Harm: kind.harm, Key: fmt.Sprintf("cells %s %s %d", kind.condition, channel, len(names)),
				Shape: string(kind.condition),
				Title: markup.Join(markup.Link(Address{Kind: Fleet, Filter: filter}.String(),
					ui.Counted(len(names), "cell")+" of "+channel), markup.Text(verb+kind.what)),
				Why: some(Cell, names), Command: words.Shell("sluice", "why", names[0])}
			if kind.condition == view.ConditionFailing {
				n.Form, n.FormAs = actionOf("retry", "cell", names[0]), "Try again in "+names[0]
			}
			if c, ok := m.cellStatus(names[0]); ok && c.Message != "" {
				n.Why = markup.Join(n.Why, markup.Text(" – "+words.OneLine(c.Message)))
			}
			all = append(all, n)
		}
	}
	return all
}

func (m *Model) needsOfFlags() (all []Need) {
	f := m.view.Flags
	if f == nil {
		return nil
	}
	if f.Fault != "" {
		all = append(all, Need{Harm: harmStopped, Key: "flags fault", Shape: "failing",
			Title: "The flags repository is not in force as it is", Why: markup.Text(words.OneLine(f.Fault)),
			Command: "sluice flag lint"})
	}
	m.withIndex(func(x *view.FlagIndex) {
		for _, k := range x.Kills("") {
			if k.Confirmed < k.Cells || k.NotOff != "" {
				all = append(all, needOfKill(k))
			}
		}
	})
	for _, a := range f.Plan.Announcements {
		n := Need{Harm: harmDecision, Key: "announcement " + a.Announcement.ID + " " + string(a.State), Shape: "held",
			Title:   markup.Join("Announcement ", link(Announcements, a.Announcement.ID), " waits for a person"),
			Why:     markup.Join(markup.Text(words.OneLine(a.Needs)), dueAt(a)),
			Command: words.Shell("sluice", "announce", "show", a.Announcement.ID)}
		switch {
		case a.State == announce.Missed:
			n.Harm, n.Shape = harmStopped, "failing"
			n.Title = markup.Join("Announcement ", link(Announcements, a.Announcement.ID), " missed its time")
			n.Why = markup.Text(words.OneLine(a.Summary))
		case a.Needs == "":
			continue
		case a.State == announce.Draft:
			n.Form, n.FormAs = actionOf("approve-announcement", "announcement", a.Announcement.ID), "Approve"
		}
		all = append(all, n)
	}
	return all
}

// dueAt says when an announcement is first published; nothing if no time is set.
func dueAt(a announce.Status) markup.HTML {
	first := firstTime(a)
	if first.IsZero() {
		return ""
	}
	return markup.Join("; due ", ui.Instant(first))
}

func needOfKill(k view.FlagKill) Need {
	n := Need{Harm: harmKill, Key: fmt.Sprintf("kill %s %d", k.Flag, k.Confirmed), Shape: "failing",
		Title: markup.Join("The kill of ", link(Flags, k.Flag), markup.Text(fmt.Sprintf(
			" is confirmed by %s of %s", ui.Thousands(k.Confirmed), ui.Counted(k.Cells, "cell")))),
		Why: markup.Text(words.OneLine(k.Reason)), Command: words.Shell("sluice", "flag", "show", k.Flag)}
	if k.By != "" {
		n.Why = markup.Join(n.Why, ui.Soft(" ("+k.By+")"))
	}
	if len(k.Offline) > 0 {
		n.Why = markup.Join(n.Why, " – out of contact: ", some(Cell, k.Offline))
	}
	if k.NotOff != "" {
		n.Why = markup.Join(n.Why, markup.Text(" The flag gives all the same: "+words.OneLine(k.NotOff)))
		if k.Next != "" {
			n.Why = markup.Join(n.Why, markup.Text(". Next: "+words.OneLine(k.Next)+"."))
		}
	}
	return n
}

// renderNeeds renders the page of what waits for a person.
func renderNeeds(m *Model, p *Page) {
	p.Title = "Needs you"
	all := m.needs()
	if len(all) == 0 {
		p.add("headline", ui.Heading("Nothing needs you"),
			ui.Paragraph("soft", "Whatever waits, waits for time, for cells or for the engine: ",
				markup.Link(Address{Kind: When}.String(), "see when")))
		return
	}
	p.Title = fmt.Sprintf("%d need you", len(all))
	p.add("headline", ui.Heading("Needs you"), ui.Paragraph("soft", "The most harmful comes first."))
	items := make([]markup.HTML, 0, len(all))
	for _, n := range all[:min(len(all), maxNeedsShown)] {
		items = append(items, markup.Element("li", markup.Attributes{"class", "need", "tabindex", "-1", "data-key",
			n.Key}, ui.Mark(n.Shape, harmWord(n.Harm)), ui.Element("div", "",
			ui.Element("p", "need-title", n.Title), ui.Paragraph("need-why", n.Why),
			ui.Element("div", "answers", formLink(n), ui.Command(n.Command)))))
	}
	if more := len(all) - len(items); more > 0 {
		items = append(items, ui.Element("li", "soft", markup.Text(fmt.Sprintf("and %d more", more))))
	}
	p.add("needs", ui.Element("ol", "needs", items...))
}

// formLink leads to the form that answers a need.
func formLink(n Need) markup.HTML {
	if n.Form == "" {
		return ""
	}
	return markup.Element("a", markup.Attributes{"class", "button", "href", n.Form}, markup.Text(n.FormAs+"…"))
}

func harmWord(harm int) string {
	switch {
	case harm >= harmKill:
		return "most harmful"
	case harm >= harmStopped:
		return "harmful"
	case harm >= harmDecision:
		return "waits for a decision"
	}
	return "to be looked at"
}
