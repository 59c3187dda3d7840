package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/engine/whatif"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
)

// Trial is a trial of another policy: the form's texts and, once it was asked for, the answer.
type Trial struct {
	Policy, Scenario string
	Days             int
	Answer           *whatif.Answer // nil: there is none
	Refused          string         // why there is none, and what to do next; empty: it was not asked for
}

// TrialDays are the lengths of simulations to choose from; the last but one is the default.
func TrialDays() []int { return []int{7, 14, 30, 90} }

// DefaultTrialDays is how long is simulated if nothing else is asked for.
const DefaultTrialDays = 30

// The names of the form's fields.
const (
	PolicyField   = "policy"
	ScenarioField = "scenario"
	DaysField     = "days"
)

// renderWhatIf renders the trial of another policy for one channel, or the channels to choose from.
func renderWhatIf(m *Model, p *Page, f Facts) {
	p.Title = "What if"
	name := p.Address.Name
	if name == "" {
		renderTrials(m, p)
		return
	}
	if m.view.Desired.Channels[name] == nil {
		p.Found = false
		return
	}
	p.Title = "What if: " + name
	t := f.Trial
	if t == nil {
		t = &Trial{Days: DefaultTrialDays}
	}
	p.Still = t.Answer != nil || t.Refused != ""
	p.add("headline", ui.Heading("What if "+name+" had another policy"), ui.Paragraph("soft",
		"The engine itself decides, on virtual time with modelled cells, by the policy as it is and by the one "+
			"below. Nothing is written."))
	p.add("answer", trialAnswer(m, t))
	p.add("form", trialForm(p.Address, t), ui.Paragraph("soft", "The same at a terminal, with the policy on a branch:"),
		ui.Command(words.Shell("sluice", "simulate", "--branch", "BRANCH", "--scenario", "scenario.yaml", "--for",
			strconv.Itoa(t.Days)+"d")))
}

func renderTrials(m *Model, p *Page) {
	p.add("headline", ui.Heading("What if a channel had another policy"), ui.Paragraph("soft",
		"Two policies side by side: the repository as it is, and with another text of one channel's policy."))
	var rows [][]markup.HTML
	for _, name := range m.view.Desired.Order[:min(len(m.view.Desired.Order), 2*pageRows)] {
		c := m.view.Desired.Channels[name]
		gates := ui.Soft("none")
		if c.Valid != nil && len(c.Valid.Gates) > 0 {
			var ids []string
			for _, g := range c.Valid.Gates {
				ids = append(ids, g.ID)
			}
			gates = markup.Text(strings.Join(ids, ", "))
		}
		rows = append(rows, []markup.HTML{linkAs(WhatIf, name, name), gates,
			markup.Text(ui.Counted(len(c.Cells), "cell"))})
	}
	if len(rows) == 0 {
		p.add("channels", ui.Paragraph("empty", "The repository has no channels yet."))
		return
	}
	p.add("channels", ui.Table("Channels", []string{"Try another policy of", "Its gates now", "Cells"}, rows))
}

func trialForm(a Address, t *Trial) markup.HTML {
	area := func(name, label string, rows int, text string) markup.HTML {
		return markup.Element("label", markup.Attributes{"for", name}, markup.Text(label)) +
			markup.Element("textarea", markup.Attributes{"id", name, "name", name, "rows", strconv.Itoa(rows),
				"spellcheck", "false", "autocomplete", "off", "maxlength", strconv.Itoa(MaxTrialText)},
				"\n", markup.Text(text)) // a browser drops the first line end
	}
	var days []markup.HTML
	for _, d := range TrialDays() {
		with := markup.Attributes{"value", strconv.Itoa(d)}
		if d == t.Days {
			with = append(with, "selected", "")
		}
		days = append(days, markup.Element("option", with, markup.Text(ui.Counted(d, "day"))))
	}
	scenario := markup.Attributes{}
	if t.Answer != nil && slices.ContainsFunc(t.Answer.Faults, isOfScenario) {
		scenario = append(scenario, "open", "")
	}
	return markup.Element("form", markup.Attributes{"class", "trial", "method", "post", "action", a.String()},
		area(PolicyField, whatif.PolicyFile(a.Name), 14, t.Policy),
		markup.Element("details", scenario,
			markup.Element("summary", nil, "What happens meanwhile: releases, people, failures"),
			area(ScenarioField, "Scenario", 18, t.Scenario)),
		ui.Element("div", "submit", markup.Element("label", markup.Attributes{"for", DaysField}, "Simulate"),
			markup.Element("select", markup.Attributes{"id", DaysField, "name", DaysField}, days...),
			markup.Element("button", markup.Attributes{"data-busy", "Simulating…"}, "Compare")))
}

// MaxTrialText bounds each text of a trial, in bytes.
const MaxTrialText = 128 << 10

func isOfScenario(f manifest.Fault) bool { return f.File == whatif.ScenarioFile }

func trialAnswer(m *Model, t *Trial) markup.HTML {
	switch {
	case t.Refused != "":
		return ui.Element("div", "notice", ui.Mark("failing", ""), ui.Paragraph("", markup.Text(t.Refused)))
	case t.Answer == nil:
		return ""
	case t.Answer.Comparison == nil:
		return ui.Subheading("The text has faults") + faultList(t.Answer.Faults)
	}
	c := t.Answer.Comparison
	parts := []markup.HTML{ui.Subheading(trialSentence(c))}
	if t.Answer.Short {
		parts = append(parts, ui.Element("div", "notice", ui.Mark("held", ""), ui.Paragraph("", markup.Text(
			"The time was over before the end: this is as far as both came, until "), ui.Instant(c.Until),
			markup.Text(". Fewer days come further; sluice simulate has no limit."))))
	}
	if len(t.Answer.Faults) > 0 {
		parts = append(parts, faultList(t.Answer.Faults))
	}
	parts = append(parts, trialChart(m, c), trialMoves(c), trialWaits(c), trialSums(c))
	return markup.Join(parts...)
}

func faultList(faults []manifest.Fault) markup.HTML {
	var items []markup.HTML
	for _, f := range faults[:min(len(faults), 2*maxListed)] {
		shape := "failing"
		if f.Warning {
			shape = "held"
		}
		items = append(items, ui.Element("li", "", ui.Mark(shape, ""), ui.Element("span", "", markup.Text(f.String()))))
	}
	return ui.Element("ul", "verdicts", items...)
}

// trialSentence says the difference in one sentence.
func trialSentence(c *simulate.Comparison) string {
	s := whatif.Summarise(c)
	come := func(n int) string {
		if n == 1 {
			return "comes"
		}
		return "come"
	}
	if s.Later+s.Earlier+s.Only[0]+s.Only[1] == 0 {
		return "Nothing comes at another time"
	}
	text := fmt.Sprintf("%s %s later, %s earlier", ui.Counted(s.Later, "promotion"), come(s.Later),
		ui.Thousands(s.Earlier))
	if s.Only[0] > 0 {
		text += fmt.Sprintf(", %s not within the time", ui.Thousands(s.Only[0]))
	}
	if s.Only[1] > 0 {
		text += fmt.Sprintf(", %s that %s not today", ui.Thousands(s.Only[1]), come(s.Only[1]))
	}
	if s.Longest > 0 {
		text += "; the longest delay is " + words.FormatElapsed(s.Longest)
	}
	return text
}

// trialChart draws the heads of the channels that differ, as they are today and as they would be.
func trialChart(m *Model, c *simulate.Comparison) markup.HTML {
	h := &ui.Hues{}
	from := c.Before.From
	ch := ui.Chart{Label: "The heads of the channels over time, by both policies; the table below says the same",
		From:  from,
		Until: c.Until}
	track := func(r *simulate.Result, name, which string) ui.Track {
		t := ui.Track{Name: ui.ClipName(name, 11) + " " + which}
		for _, one := range r.Channels {
			if one.Name != name {
				continue
			}
			for i, o := range one.Rollouts {
				until := c.Until
				if i+1 < len(one.Rollouts) {
					until = one.Rollouts[i+1].Moved
				}
				if !until.After(from) || o.Moved.After(c.Until) {
					continue
				}
				inside := o.Release
				if o.Kind == "rollback" {
					inside = "↩ " + inside
				}
				t.Spans = append(t.Spans, ui.Span{From: o.Moved, Until: until, Class: h.Of(o.Release), Inside: inside,
					Title: fmt.Sprintf("%s %s, %s at %s", name, which, inside, o.Moved.UTC().Format(time.RFC3339))})
			}
		}
		return t
	}
	for _, name := range m.view.Desired.Order {
		if len(ch.Tracks) >= 4*maxListed {
			break
		}
		before, after := track(c.Before, name, "now"), track(c.After, name, "then")
		if len(before.Spans)+len(after.Spans) > 0 {
			ch.Tracks = append(ch.Tracks, before, after)
		}
	}
	return ch.Render() + h.Legend()
}

func trialMoves(c *simulate.Comparison) markup.HTML {
	when := func(t time.Time) markup.HTML {
		if t.IsZero() {
			return ui.Soft("not until " + c.Until.UTC().Format("2 Jan 15:04"))
		}
		return markup.Text(t.UTC().Format("2 Jan 15:04"))
	}
	var rows [][]markup.HTML
	for i := range c.Moved {
		d := &c.Moved[i]
		by, both := d.Later()
		difference := ui.State("none", "the same")
		switch {
		case !both && d.After.IsZero():
			difference = ui.State("shut-out", "not within the time")
		case !both:
			difference = ui.State("new", "only then")
		case by > 0:
			difference = ui.State("held", words.FormatElapsed(by)+" later")
		case by < 0:
			difference = ui.State("passed", words.FormatElapsed(-by)+" earlier")
		}
		if len(rows) < 2*pageRows {
			rows = append(rows, []markup.HTML{markup.Text(d.Release), link(Channel, d.Channel), when(d.Before),
				when(d.After), difference})
		}
	}
	if len(rows) == 0 {
		return ui.Paragraph("empty", "Neither policy promotes anything in this time: the scenario may cut no release.")
	}
	return ui.Subheading("Promotions") + ui.Table("Promotions by both policies, in UTC", []string{"Release", "Channel",
		"By the policy now", "By the one below", "Difference"}, rows)
}

// trialWaits compares for how long each gate made a channel wait.
func trialWaits(c *simulate.Comparison) markup.HTML {
	type gate struct{ channel, name string }
	var order []gate
	longest := map[gate]*[2]simulate.Wait{}
	for side, r := range []*simulate.Result{c.Before, c.After} {
		for _, w := range r.Waits {
			g := gate{w.Channel, w.Gate}
			if longest[g] == nil {
				longest[g] = &[2]simulate.Wait{}
				order = append(order, g)
			}
			longest[g][side] = w
		}
	}
	length := func(w simulate.Wait) markup.HTML {
		if w.Longest == 0 {
			return ui.Soft("never")
		}
		text := words.FormatElapsed(time.Duration(w.Longest) * time.Second)
		if w.Open {
			text += ", still"
		}
		return markup.Text(text)
	}
	var rows [][]markup.HTML
	for _, g := range order {
		w := longest[g]
		if w[0].Longest == w[1].Longest || len(rows) >= pageRows || g.channel == "" {
			continue
		}
		rows = append(rows, []markup.HTML{link(Channel, g.channel), ui.Element("span", "gate", markup.Text(g.name)),
			length(w[0]), length(w[1])})
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Subheading("Longest waits that differ") + ui.Table("Longest waits that differ",
		[]string{"Channel", "Gate",
			"By the policy now", "By the one below"}, rows)
}

// trialSums compares what happened in all.
func trialSums(c *simulate.Comparison) markup.HTML {
	before, after := c.Before.Summary, c.After.Summary
	var rows [][]markup.HTML
	add := func(what string, a, b int) {
		rows = append(rows, []markup.HTML{markup.Text(what), markup.Text(ui.Thousands(a)),
			markup.Text(ui.Thousands(b))})
	}
	add("Promotions", before.Promotions, after.Promotions)
	add("Rollbacks", before.Rollbacks, after.Rollbacks)
	add("Rollouts halted", before.Halts, after.Halts)
	add("Cells that got a release", before.Arrived, after.Arrived)
	add("Cells that failed one", before.Failed, after.Failed)
	return ui.Subheading("In all") + ui.Table("In all", []string{"What", "By the policy now", "By the one below"}, rows)
}
