package ownerpage

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// Parameters of a form beside the fields of its action.
const (
	stepParam   = "step"
	previewStep = "preview"
	shownParam  = "shown" // the digest of the change that was shown
)

// change is what a decision does to owner.yaml.
type change struct {
	outcome string
	file    filediff.File
	shown   string // a digest of the content before and after
}

// changeOf applies a decision to o, which it changes, and returns how owner.yaml differs.
func changeOf(o *cells.Owner, d owner.Decision) (change, error) {
	before, err := agent.EncodeOwner(o)
	if err != nil {
		return change{}, err
	}
	said, err := d.Change(o)
	if err != nil {
		return change{}, err
	}
	if err := o.Validate(); err != nil {
		return change{}, err
	}
	after, err := agent.EncodeOwner(o)
	if err != nil {
		return change{}, err
	}
	sum := sha256.Sum256(slices.Concat(before, []byte{0}, after))
	return change{outcome: said, file: filediff.One(agent.OwnerFile, before, after),
		shown: hex.EncodeToString(sum[:])}, nil
}

// copyOf returns a copy that a decision may change.
func copyOf(o *cells.Owner) *cells.Owner {
	c := *o
	c.Approved, c.Windows, c.Features = slices.Clone(o.Approved), slices.Clone(o.Windows), slices.Clone(o.Features)
	c.Reasons = maps.Clone(o.Reasons)
	return &c
}

// form is what the page of an action shows.
type form struct {
	action  *action
	values  url.Values
	wrong   problems
	notice  string // what happened to the form; empty: nothing
	refused string // why the decision can't be made; empty: it can
	preview *change
	command string // that does the same
}

// page returns the page of a form: its fields, or what the decision would change.
func (f *form) page(s *State, at place, now time.Time) *ui.Frame {
	out := &ui.Frame{Title: f.action.Title, Base: at.base}
	add := func(id string, parts ...markup.HTML) {
		out.Regions = append(out.Regions, ui.Region{ID: id, HTML: markup.Join(parts...)})
	}
	add("headline", ui.Heading(f.action.Title), ui.Paragraph("lead", markup.Text(f.action.Effect)))
	for _, c := range s.Candidates() {
		if f.action.Name == "approve" && string(c.Digest) == f.values.Get("digest") {
			add("what", ui.Paragraph("", ui.Element("span", "version", markup.Text(c.Release)), " ",
				ui.Code(string(c.Digest))), ui.Element("p", "buttons", button("", at.difference(c.Digest),
				"What it would change")))
		}
	}
	if f.notice != "" {
		add("notice", ui.Alert("held", "Nothing was done", f.notice, ""))
	}
	if f.refused != "" {
		add("error", ui.Alert("failing", "It can't be done", f.refused, ""))
	}
	switch {
	case f.preview == nil:
		add("form", f.ask(s, at))
	case f.preview.file.Diff == "":
		add("preview", ui.Paragraph("empty", "This changes nothing: "+markup.Text(f.preview.outcome)),
			ui.Element("p", "buttons", markup.Link(at.base, "Back")))
	default:
		add("preview", ui.Subheading("What it changes"), ui.Diffs([]filediff.File{f.preview.file}),
			ui.Subheading("The same by command"), ui.Command(f.command))
		add("confirm", f.confirm(at))
	}
	return framed(out, at, now)
}

// ask asks for the fields. It has no effect: the next page shows the change.
func (f *form) ask(s *State, at place) markup.HTML {
	inside := []markup.HTML{markup.Void("input", "type", "hidden", "name", stepParam, "value", previewStep)}
	for _, one := range f.action.fields {
		var names []string
		if one.suggest != nil {
			names = one.suggest(s)
		}
		field := ui.Field{Name: one.Name, Label: one.Label, Hint: one.Hint, Required: one.Required,
			Problem: f.wrong[one.Name]}
		inside = append(inside, field.Render(func(with markup.Attributes) markup.HTML {
			return ui.TextInput(one.Name, f.values.Get(one.Name), names[:min(len(names), maxRows)], with)
		}))
	}
	inside = append(inside, ui.Element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"},
		"Show what it changes"), markup.Link(at.base, "Back")))
	return markup.Element("form", markup.Attributes{"class", "ask", "action", at.action(f.action.Name)}, inside...)
}

// confirm makes the change that is shown, and no other.
func (f *form) confirm(at place) markup.HTML {
	inside := []markup.HTML{markup.Void("input", "type", "hidden", "name", shownParam, "value", f.preview.shown)}
	again := []string{}
	for _, one := range f.action.fields {
		inside = append(inside, markup.Void("input", "type", "hidden", "name", one.Name, "value",
			f.values.Get(one.Name)))
		again = append(again, one.Name, f.values.Get(one.Name))
	}
	back := markup.Link(at.base, "Back")
	if len(again) > 0 {
		back = markup.Link(at.action(f.action.Name, again...), "Change it")
	}
	inside = append(inside, ui.Element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"},
		markup.Text(f.action.Title)), back))
	return markup.Element("form", markup.Attributes{"class", "confirm", "method", "post", "action",
		at.action(f.action.Name)}, inside...)
}

// Difference is what a release that is offered would change in the cell.
type Difference struct {
	From      string   // what runs; empty: nothing
	Problems  []string // what keeps the release as a whole from being applied
	Objects   []Object
	Unchanged int
}

// Object is an object, or a file of manifests, that differs.
type Object struct{ Name, Change, Reason, Diff string }

// differencePage shows a difference, or why there is none.
func differencePage(c owner.Candidate, d *Difference, fault, next string, at place, now time.Time) *ui.Frame {
	out := &ui.Frame{Title: c.Release, Base: at.base}
	add := func(id string, parts ...markup.HTML) {
		out.Regions = append(out.Regions, ui.Region{ID: id, HTML: markup.Join(parts...)})
	}
	add("headline", ui.Heading("What "+c.Release+" would change"), ui.Paragraph("",
		ui.Code(string(c.Digest))), channelOf(c),
		ui.Element("p", "buttons", button("", at.action("approve", "digest", string(c.Digest)), "Approve…"),
			button("", at.action("pin", "release", c.Release), "Pin…"), markup.Link(at.base, "Back")))
	if fault != "" {
		add("error", ui.Alert("failing", "It can't be compared", fault, next))
		return framed(out, at, now)
	}
	unchanged := markup.HTML("")
	if d.Unchanged > 0 { // of files it is not counted
		unchanged = markup.Text(ui.Thousands(d.Unchanged))
	}
	parts := []markup.HTML{ui.Facts([2]markup.HTML{"Against", markup.Text(fromText(d.From))},
		[2]markup.HTML{"Differ", markup.Text(ui.Counted(len(d.Objects), "object"))},
		[2]markup.HTML{"Unchanged", unchanged}),
		ui.Paragraph("soft", "Values of Secrets are not shown, only whether they differ.")}
	for _, p := range d.Problems[:min(len(d.Problems), maxRows)] {
		parts = append(parts, ui.Alert("failing", "It could not be applied as it is", p, ""))
	}
	var files []filediff.File
	for _, o := range d.Objects[:min(len(d.Objects), maxObjects)] {
		name := o.Name
		if o.Reason != "" {
			name += ": " + o.Reason
		}
		files = append(files, filediff.File{File: name, Kind: o.Change, Diff: o.Diff})
	}
	parts = append(parts, ui.Diffs(files))
	if more := len(d.Objects) - maxObjects; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("and "+ui.Counted(more, "further object")+": "),
			ui.Code(at.command("diff", string(c.Digest)))))
	}
	add("difference", append(parts, ui.Command(at.command("diff", string(c.Digest))))...)
	return framed(out, at, now)
}

// maxObjects bounds how many differences a page shows.
const maxObjects = 500

func fromText(release string) string {
	if release == "" {
		return "nothing: the cell runs no release yet"
	}
	return release
}

// messagePage says one thing.
func messagePage(at place, title, text, next string, now time.Time) *ui.Frame {
	out := &ui.Frame{Title: title, Base: at.base}
	out.Regions = ui.Regions{{ID: "headline", HTML: ui.Heading(title) + ui.Paragraph("lead", markup.Text(text)) +
		ui.Paragraph("soft", markup.Text(next))}}
	return framed(out, at, now)
}
