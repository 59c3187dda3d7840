// Package ownerpage is the page of a cell's owner: what the vendor offers, what the owner decided, and what runs.
//
// Site serves it on the cell's own machine, beside a running agent or without one. It reads what the agent keeps in its
// state folder for the owner, and asks nothing of the network. It changes owner.yaml alone, by the functions that the
// verbs of sluice cell use, and shows for each change the command line that does the same. Pages are pure functions of
// a State; everything is written with packages ui and markup, so that text of the vendor's or of a release can neither
// run, load nor deceive.
//
// Whoever has the printed address, once, or may open the unix socket, may decide. A page of another site can neither
// read nor do anything: see guard. All methods of Site may be called at once.
package ownerpage

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// maxRows bounds each table of the page.
const maxRows = 100

// place says where the pages are, and where the state folder is.
type place struct {
	base   string // path of the first page, with a slash at its end
	folder string
}

// command returns the command line of a decision.
func (p place) command(args ...string) string {
	return words.Shell(slices.Concat([]string{"sluice", "cell"}, args, []string{"--state", p.folder})...)
}

func (p place) action(name string, values ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(values); i += 2 {
		query.Set(values[i], values[i+1])
	}
	to := p.base + "do/" + name
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	return to
}

func (p place) difference(d releases.Digest) string {
	return p.base + "difference/" + url.PathEscape(string(d))
}

// outcome is what came of a decision.
type outcome struct{ text, command string }

// overview returns the first page. done is the outcome that it shows; nil: none.
func overview(s *State, at place, done *outcome, now time.Time) *ui.Frame {
	f := &ui.Frame{Title: cellName(s), Base: at.base, Followed: at.base}
	add := func(id string, parts ...markup.HTML) {
		if html := markup.Join(parts...); html != "" {
			f.Regions = append(f.Regions, ui.Region{ID: id, HTML: html})
		}
	}
	if done != nil {
		f.Followed = "" // the notice is of this moment
		add("done", ui.Element("div", "alert passed", ui.Element("p", "alert-title", ui.Mark("passed", ""), "Done"),
			ui.Paragraph("", markup.Text(done.text)), ui.Command(done.command)))
	}
	add("headline", ui.Heading(cellName(s)+" ", stateOf(s)), ui.Paragraph("lead", markup.Text(summary(s))))
	add("faults", faults(s)...)
	add("offered", anchor("offered", "What is offered"), offered(s, at))
	add("decided", anchor("decided", "What you decided"), decided(s, at, now),
		offers(s, at, "What you can do", releaseActions()))
	add("runs", anchor("runs", "What runs"), runs(s))
	add("operations", anchor("maintenance", "Maintenance"), operations(s.Maintenance, s.Decided.Maintenance),
		ui.Command(at.command("maintenance", "show")))
	add("infrastructure", anchor("infrastructure", "Infrastructure"), infrastructure(s))
	add("exports", anchor("exports", "What leaves this cell"), exported(s, at))
	add("flags", anchor("flags", "Flags in force"), flagsInForce(s), ui.Command(at.command("flags")))
	add("reports", anchor("reports", "What the vendor is told"), reports(s))
	return framed(f, at, now)
}

// framed adds the regions around a page.
func framed(f *ui.Frame, at place, now time.Time) *ui.Frame {
	var items []markup.HTML
	for _, s := range [][3]string{{"offered", "Offered", "o"}, {"decided", "Decisions", "d"}, {"runs", "Runs", "r"},
		{"maintenance", "Maintenance", "m"}, {"infrastructure", "Infrastructure", "i"}, {"exports", "Exports", "e"},
		{"flags", "Flags", "l"}, {"reports", "Reports", "t"}} {
		items = append(items, markup.Element("li", nil, markup.Element("a",
			markup.Attributes{"href", at.base + "#" + s[0], "data-key", s[2]}, markup.Text(s[1]))))
	}
	f.Regions = append(f.Regions, ui.Region{ID: ui.FrameNavigation, HTML: markup.Element("ul", nil, items...)},
		ui.Region{ID: ui.FrameFoot, HTML: ui.Paragraph("", "the state folder ", ui.Code(at.folder), " as of ",
			ui.Instant(now.Truncate(time.Minute)))})
	return f
}

func anchor(id, title string) markup.HTML {
	return markup.Element("h2", markup.Attributes{"id", id}, markup.Text(title))
}

func cellName(s *State) string {
	if s.Cell == "" {
		return "A cell without a name yet"
	}
	return s.Cell
}

// stateOf returns the state that the agent reports.
func stateOf(s *State) markup.HTML {
	shape := "failing"
	switch s.Reported.State {
	case "":
		return ui.State("none", "nothing reported yet")
	case cells.StateHealthy:
		shape = "healthy"
	case cells.StatePending:
		shape = "new"
	case cells.StateApplying:
		shape = "updating"
	case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
	}
	return ui.State(shape, string(s.Reported.State))
}

// summary says in one sentence where the cell is.
func summary(s *State) string {
	all := s.Candidates()
	runs := "Nothing runs here yet"
	if r := s.Offer.Running; r != nil {
		runs = r.Release + " runs"
	}
	switch {
	case len(all) == 0 && s.Offer.Running == nil:
		return runs + ", and nothing is offered."
	case len(all) == 0:
		return runs + ", and nothing newer is offered."
	case s.Offer.Waits != "":
		return runs + "; " + all[0].Release + " is offered: " + words.OneLine(s.Offer.Waits) + "."
	case s.Offer.Hold != nil:
		return runs + "; " + all[0].Release + " is offered, and the vendor does not let it start yet."
	}
	return runs + "; " + all[0].Release + " is offered."
}

// faults says what can't be read.
func faults(s *State) (all []markup.HTML) {
	if s.Invalid != "" {
		all = append(all, ui.Alert("failing", "Your decisions can't be read", s.Invalid,
			"Fix the file, or remove it to decide anew. Until then the agent starts nothing new."))
	}
	for _, f := range s.Faults[:min(len(s.Faults), maxRows)] {
		all = append(all, ui.Alert("failing", "A part of the state folder can't be read", f,
			"The rest of the page does not depend on it. A running agent writes the file anew; as another user than "+
				"the agent, you may lack the right to read it."))
	}
	return all
}

// offered shows each candidate: its bytes, its notes, and why it does not start.
func offered(s *State, at place) markup.HTML {
	all := s.Candidates()
	if len(all) == 0 {
		return ui.Paragraph("empty", "The control plane offers nothing that does not run here.")
	}
	var cards []markup.HTML
	for _, c := range all {
		mark, approve := ui.State("updating", "offered"), ""
		switch {
		case slices.Contains(s.Decided.Approved, c.Digest):
			mark = ui.State("passed", "approved by you")
		case s.Decided.Approval:
			mark, approve = ui.State("held", "waits for your approval"), "primary"
		}
		notes := ui.Paragraph("soft", "The agent has not got this release yet: its notes and what it would change are "+
			"here once it has.")
		if k, ok := s.Kept[c.Digest]; ok {
			notes = notesOf(k)
		}
		cards = append(cards, markup.Element("article", markup.Attributes{"class", "card"},
			ui.Element("div", "card-title", markup.Element("h3", nil, ui.Element("span", "version",
				markup.Text(c.Release))), mark),
			ui.Paragraph("", ui.Code(string(c.Digest))), channelOf(c), notes,
			ui.Element("p", "buttons", button("", at.difference(c.Digest), "What it would change"),
				button(approve, at.action("approve", "digest", string(c.Digest)), "Approve…"),
				button("", at.action("pin", "release", c.Release), "Pin…")),
			ui.Command(at.command(owner.Approve(c).Command...))))
	}
	return markup.Join(held(s), ui.Element("div", "needs", cards...))
}

func channelOf(c owner.Candidate) markup.HTML {
	if c.Channel == "" {
		return ""
	}
	return ui.Paragraph("soft", "of the channel ", markup.Text(c.Channel))
}

func button(class, to, text string) markup.HTML {
	return markup.Element("a", markup.Attributes{"class", strings.TrimSpace("button " + class), "href", to},
		markup.Text(text))
}

func notesOf(k Kept) markup.HTML {
	switch {
	case k.Fault != "":
		return ui.Alert("failing", "The notes can't be read", k.Fault,
			"The agent gets the release again when it needs it.")
	case k.Notes == "":
		return ui.Paragraph("soft", "It has no notes.")
	}
	return ui.Element("div", "notes", k.Notes)
}

// held says why what is offered does not start: by the owner's word, and by the vendor's.
func held(s *State) markup.HTML {
	var items []markup.HTML
	add := func(who, why string, until time.Time) {
		parts := []markup.HTML{ui.Element("span", "gate", markup.Text(who)), " ", markup.Text(words.OneLine(why))}
		if !until.IsZero() {
			parts = append(parts, ui.Element("span", "until", " until ", ui.Instant(until)))
		}
		items = append(items, ui.Element("li", "", ui.Mark("held", ""), ui.Element("span", "", parts...)))
	}
	if s.Offer.Waits != "" {
		add("you", s.Offer.Waits, time.Time{})
	}
	if h := s.Offer.Hold; h != nil {
		add("the vendor: "+h.Gate, h.Reason, h.Until)
	}
	if len(items) == 0 {
		return ""
	}
	return ui.Element("ul", "verdicts", items...)
}

// decided shows what the owner decided.
func decided(s *State, at place, now time.Time) markup.HTML {
	o := s.Decided
	yes := func(word, text string) markup.HTML {
		if text == "" {
			return ui.State("none", "no")
		}
		return markup.Join(ui.State("held", word+": "), markup.Text(words.OneLine(text)))
	}
	approval := ui.State("none", "not required")
	if o.Approval {
		approval = markup.Join(ui.State("held", "required"), ui.Soft(", "+words.Count(len(o.Approved), "release")+
			" approved"))
	}
	windows := markup.Text(owner.AnyTime)
	if n := len(o.Windows); n > 0 {
		windows = markup.Text("something new starts in " + words.Count(n, "window") + " only")
	}
	parts := []markup.HTML{ui.Facts([2]markup.HTML{"Paused", yes("yes", o.Paused)},
		[2]markup.HTML{"Pinned", yes("to", owner.PinText(o))}, [2]markup.HTML{"Approval", approval},
		[2]markup.HTML{"Windows", windows})}
	if len(o.Windows) > 0 {
		parts = append(parts, windowTable(o.Windows, at, now))
	}
	var rows [][]markup.HTML
	for _, feature := range o.Features[:min(len(o.Features), maxRows)] {
		rows = append(rows, []markup.HTML{markup.Text(feature), markup.Text(words.OneLine(o.Reasons[feature])),
			ui.Code(at.command(owner.ReleaseFeature(feature).Command...))})
	}
	if len(rows) > 0 {
		parts = append(parts, ui.Subheading("Features that you hold off"), ui.Table("Features that you hold off",
			[]string{"Feature", "Why", "What ends it"}, rows))
	}
	return markup.Join(parts...)
}

func windowTable(all []window.Window, at place, now time.Time) markup.HTML {
	var rows [][]markup.HTML
	for i, w := range all[:min(len(all), maxRows)] {
		zone := w.Zone
		if zone == "" {
			zone = "UTC"
		}
		is := ui.State("none", "shut")
		open, _, until := window.JudgeAny([]window.Window{w}, now)
		if open {
			is = ui.State("passed", "open")
		}
		when := ui.Soft("never again")
		if !until.IsZero() {
			when = ui.Instant(until)
		}
		n := strconv.Itoa(i + 1)
		rows = append(rows, []markup.HTML{markup.Text(n), ui.Code(w.Opens), markup.Text(words.FormatElapsed(w.For)),
			markup.Text(zone), is, when,
			markup.Link(at.action("remove-window", "number", n), "Remove window "+n+"…")})
	}
	return ui.Table("Your windows", []string{"Number", "Opens", "For", "Zone", "Now", "Changes", "What you can do"},
		rows)
}

// offers leads to those of the actions that make sense now.
func offers(s *State, at place, label string, all []action) markup.HTML {
	var items []markup.HTML
	for _, a := range all {
		if a.fits == nil || a.fits(s) {
			items = append(items, markup.Element("li", nil, button("", at.action(a.Name), a.Title+"…")))
		}
	}
	return markup.Element("nav", markup.Attributes{"aria-label", label}, ui.Element("ul", "actions", items...))
}

// runs shows what runs, what is being applied, and what failed.
func runs(s *State) markup.HTML {
	step := func(title string, a *cells.Assignment) markup.HTML {
		return ui.Element("li", "", ui.Element("span", "soft", markup.Text(title)),
			ui.Element("span", "version", markup.Text(a.Release)), ui.Code(string(a.Digest.Short())))
	}
	var steps []markup.HTML
	if r := s.Offer.Running; r != nil {
		steps = append(steps, step("runs, and was healthy", r))
	}
	if a := s.Reported.Applying; a != nil {
		steps = append(steps, step("is being applied", a))
	}
	parts := []markup.HTML{ui.Paragraph("empty", "Nothing runs here yet.")}
	if len(steps) > 0 {
		parts[0] = ui.Element("ol", "course", steps...)
	}
	if u := s.Reported.Unhealthy; u != nil {
		var lines []markup.HTML
		for _, line := range u.Lines() {
			lines = append(lines, ui.Element("li", "", ui.Mark("failing", ""), markup.Text(words.OneLine(line))))
		}
		parts = append(parts, ui.Subheading("What is not healthy"), ui.Element("ul", "verdicts",
			lines[:min(len(lines), maxRows)]...))
	}
	var rows [][]markup.HTML
	for _, f := range slices.Backward(s.Reported.Failures) {
		rows = append(rows, []markup.HTML{ui.Element("span", "version", markup.Text(f.Assignment.Release)),
			ui.Instant(f.At), markup.Text(words.OneLine(f.Reason))})
	}
	if len(rows) > 0 {
		parts = append(parts, ui.Subheading("What failed here"), ui.Table("What failed here",
			[]string{"Release", "When", "Why"}, rows[:min(len(rows), maxRows)]))
	}
	return markup.Join(parts...)
}

// operations shows whether the product's operations are refused.
func operations(m maintenance.State, own *maintenance.Owner) markup.HTML {
	kinds := strings.Join(m.Refused, ", ")
	is := ui.State("healthy", "operations are accepted")
	switch m.Phase {
	case maintenance.Off:
	case maintenance.Announced:
		is = ui.State("held", "announced")
	case maintenance.Draining:
		is = ui.State("updating", "refused, and what is under way finishes")
	default:
		is = ui.State("held", "refused")
	}
	pairs := [][2]markup.HTML{{"Now", is}, {"Operations", ui.Text(kinds)}, {"Release", ui.Text(m.Release)},
		{"Why", ui.Text(words.OneLine(m.Reason))}}
	if m.Phase != maintenance.Off && !m.Begins.IsZero() {
		pairs = append(pairs, [2]markup.HTML{"From", ui.Instant(m.Begins)})
	}
	if m.Phase != maintenance.Off && !m.Until.IsZero() {
		pairs = append(pairs, [2]markup.HTML{"At the latest until", ui.Instant(m.Until)})
	}
	if own != nil {
		pairs = append(pairs, [2]markup.HTML{"Begun by you",
			markup.Join(markup.Text(words.OneLine(own.Reason)+", until "),
				ui.Instant(own.Until))})
	}
	return ui.Facts(pairs...)
}

// infrastructure shows what the agent read of the cell's infrastructure, and the vendor's word on its deadline.
func infrastructure(s *State) markup.HTML {
	is := s.Reported.Infrastructure
	text := "update " + strconv.Itoa(is.Number)
	if is.Source != "" {
		text = is.String()
	}
	parts := []markup.HTML{ui.Facts([2]markup.HTML{"The cell has", markup.Text(words.OneLine(text))})}
	for _, n := range s.Offer.Notices[:min(len(s.Offer.Notices), maxRows)] {
		shape, title := "held", "An infrastructure update is due"
		if n.Code == cells.NoticeOutOfSupport {
			shape, title = "failing", "The cell is out of support"
		}
		parts = append(parts, ui.Alert(shape, title, n.Text, ""))
	}
	return markup.Join(parts...)
}

// flagsInForce shows the announcements, kills and holds in this cell.
func flagsInForce(s *State) markup.HTML {
	v := s.Flags
	if v == nil {
		return ui.Paragraph("empty", "This cell has received no flags.")
	}
	var parts []markup.HTML
	if v.Fault != "" {
		parts = append(parts, ui.Alert("failing", "The flags received last are not in force", v.Fault, ""))
	}
	var rows [][]markup.HTML
	for _, k := range v.Killed {
		rows = append(rows, []markup.HTML{markup.Text(k.Flag), ui.State("shut-out", "killed"), ui.Soft("at once"),
			markup.Text(words.OneLine(k.Reason))})
	}
	for _, a := range v.Announcements {
		when := ui.Soft("with the release")
		if !a.At.IsZero() {
			when = ui.Instant(a.At)
		}
		rows = append(rows, []markup.HTML{markup.Text(a.ID), ui.State(flagShape(string(a.State)), string(a.State)),
			when,
			markup.Text(strings.Join(a.Features, ", "))})
	}
	if len(rows) == 0 {
		return markup.Join(append(parts, ui.Paragraph("empty",
			"No announcement is known here, and no flag is killed."))...)
	}
	parts = append(parts, ui.Table("Flags in force", []string{"Announcement or flag", "State", "When",
		"Features, or why"},
		rows[:min(len(rows), maxRows)]))
	if more := len(rows) - maxRows; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %d more", more))))
	}
	return markup.Join(parts...)
}

// flagShape returns the shape of an announcement's state in the cell.
func flagShape(state string) string {
	switch state {
	case "on":
		return "healthy"
	case "armed", "ramping", "ready":
		return "updating"
	case "held", "suspended":
		return "held"
	case "killed":
		return "shut-out"
	}
	return "none"
}

// reports shows what the agent tells the vendor.
func reports(s *State) markup.HTML {
	r := &s.Reported
	pairs := [][2]markup.HTML{{"State", stateOf(s)}, {"Message", ui.Text(words.OneLine(r.Message))}}
	if !r.Since.IsZero() {
		pairs = append(pairs, [2]markup.HTML{"Since", ui.Instant(r.Since.Truncate(time.Minute))})
	}
	var rows [][]markup.HTML
	for _, e := range slices.Backward(r.Events) {
		rows = append(rows, []markup.HTML{ui.Instant(e.At), markup.Text(e.Kind), ui.Text(e.Release),
			markup.Text(words.OneLine(e.Detail))})
	}
	if len(rows) == 0 {
		return ui.Facts(pairs...)
	}
	return ui.Facts(pairs...) + ui.Table("The newest events", []string{"When", "What", "Release", "More"},
		rows[:min(len(rows), maxRows)])
}
