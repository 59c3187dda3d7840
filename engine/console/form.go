package console

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// ActionBase is the path of all forms, and CommitBase that of commits.
const (
	ActionBase = Base + "do/"
	CommitBase = Base + "commits/"
)

// Parameters of a form beside the fields of its action.
const (
	StepParam  = "step" // PreviewStep: the commit is shown
	AgainParam = "again"
	ShownParam = "shown" // the digest of the commit that was shown
	SinceParam = "since" // when it was shown first, in Unix seconds
)

// PreviewStep is the step in which the commit is shown.
const PreviewStep = "preview"

// ActionAddress returns the address of an action's form with values in it.
func ActionAddress(name string, v actions.Values) string {
	to := ActionBase + url.PathEscape(name)
	if len(v) > 0 {
		to += "?" + v.Query().Encode()
	}
	return to
}

// CommitAddress returns the address of a commit's page.
func CommitAddress(repository, commit string) string {
	return CommitBase + url.PathEscape(repository) + "/" + url.PathEscape(commit)
}

// commitLink leads to the page of a commit of the release repository.
func commitLink(commit string) markup.HTML {
	if commit == "" {
		return ""
	}
	return markup.Element("a", markup.Attributes{"href", CommitAddress("releases", commit)},
		code(words.ShortCommit(commit)))
}

// Form is what the page of an action's form shows.
type Form struct {
	Action   *actions.Action
	Values   actions.Values
	Problems actions.Problems // none: the values can be used
	Error    string           // why the decision can't be made; empty: it can
	Next     string           // what to do then
	Notice   string           // what happened to the form; empty: nothing
	Preview  *Preview         // nil: the values are asked for first
}

// Preview is the commit that a form would make.
type Preview struct {
	Author, Committer releases.Person
	Message           string // empty: there is nothing to do
	Summary, Next     string
	Short             string // what it does not achieve
	Seen              string // what else the person decides on
	Warnings          []string
	Files             []filediff.File
	Digest            string
	Since             time.Time
	MayNot            string // why this caller may not; empty: they may
}

// RenderForm returns the page of an action's form: its fields, or the commit that it would make.
func RenderForm(m *Model, f Form) *Page {
	p := &Page{Found: true, Title: f.Action.Title, Still: true}
	p.add("headline", heading(f.Action.Title), paragraph("lead", markup.Text(f.Action.Effect)))
	if f.Notice != "" {
		p.add("notice", alert("held", "Nothing was done", f.Notice, ""))
	}
	switch {
	case f.Preview == nil || f.Action.CommandOnly():
		if f.Error != "" {
			p.add("error", alert("failing", "It can't be done", f.Error, f.Next))
		}
		p.add("form", askForm(m, f))
		if f.Preview != nil {
			p.add("command", subheading("The command"), command(f.Action.Command(f.Values)))
		}
	case f.Preview.Message == "":
		p.add("preview", paragraph("empty", markup.Text(f.Preview.Summary)), backLink(f, "Change it"))
	default:
		p.add("preview", previewOf(f))
		p.add("confirm", confirmForm(f))
	}
	p.Regions = append(p.Regions, m.frame(Address{Kind: "do"})...)
	return p
}

func alert(shape, title, text, next string) markup.HTML {
	inside := []markup.HTML{element("p", "alert-title", mark(shape, ""), markup.Text(title)),
		paragraph("", markup.Text(text))}
	if next != "" {
		inside = append(inside, paragraph("soft", markup.Text(next)))
	}
	return markup.Element("div", markup.Attributes{"class", "alert " + shape, "role", "alert"}, inside...)
}

// askForm asks for the fields. It has no effect: the next page shows the commit.
func askForm(m *Model, f Form) markup.HTML {
	inside := []markup.HTML{markup.Void("input", "type", "hidden", "name", StepParam, "value", PreviewStep)}
	for _, field := range f.Action.Fields {
		inside = append(inside, fieldOf(m, field, f.Values[field.Name], f.Problems[field.Name]))
	}
	button := "Show the commit"
	if f.Action.CommandOnly() {
		button = "Show the command"
	}
	inside = append(inside, element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"},
		markup.Text(button))))
	return markup.Element("form", markup.Attributes{"class", "ask", "action", ActionAddress(f.Action.Name, nil)},
		inside...)
}

func fieldOf(m *Model, field actions.Field, value, problem string) markup.HTML {
	id := "field-" + field.Name
	if value == "" {
		value = field.Default
	}
	with := []string{"id", id, "name", field.Name}
	var described []string
	hint, wrong := markup.HTML(""), markup.HTML("")
	if field.Hint != "" {
		hint = markup.Element("p", markup.Attributes{"class", "soft", "id", id + "-hint"}, markup.Text(field.Hint))
		described = append(described, id+"-hint")
	}
	if problem != "" {
		wrong = markup.Element("p", markup.Attributes{"class", "wrong", "id", id + "-wrong"}, mark("failing", ""),
			markup.Text(problem))
		described = append(described, id+"-wrong")
		with = append(with, "aria-invalid", "true")
	}
	if len(described) > 0 {
		with = append(with, "aria-describedby", strings.Join(described, " "))
	}
	if field.Required {
		with = append(with, "required", "")
	}
	label := []markup.HTML{markup.Text(field.Label)}
	if !field.Required && field.Kind != actions.Checkbox {
		label = append(label, soft(" (optional)"))
	}
	name := markup.Element("label", markup.Attributes{"for", id}, label...)
	if field.Kind == actions.Checkbox {
		with = append(with, "type", "checkbox", "value", actions.Checked)
		if value == actions.Checked {
			with = append(with, "checked", "")
		}
		return element("div", "field check", markup.Void("input", with...), name, hint, wrong)
	}
	return element("div", "field", name, m.input(field, value, with), hint, wrong)
}

// maxChoices bounds the names that a field suggests.
const maxChoices = 200

// input returns the element that asks for a value: a name is suggested, and may be typed.
func (m *Model) input(field actions.Field, value string, with markup.Attributes) markup.HTML {
	var names []string
	switch field.Of {
	case actions.Channel:
		options := []markup.HTML{markup.Element("option", markup.Attributes{"value", ""}, "")}
		for _, name := range m.view.Desired.Order {
			option := markup.Attributes{"value", name}
			if name == value {
				option = append(option, "selected", "")
			}
			options = append(options, markup.Element("option", option, markup.Text(name)))
		}
		if slices.Contains(m.view.Desired.Order, value) || value == "" {
			return markup.Element("select", with, options...)
		}
	case actions.Release:
		for _, r := range slices.Backward(m.view.Desired.Versions) {
			names = append(names, r.Version.String())
		}
	case actions.Cell:
		for _, c := range m.status().Cells {
			names = append(names, c.Name)
		}
	case actions.Flag:
		names = m.flagKeys()
	case actions.Announcement:
		names = m.announcementIDs()
	case actions.Everything:
	}
	with = append(with, "type", "text", "value", value, "maxlength", "500", "autocomplete", "off")
	if len(names) == 0 {
		return markup.Void("input", with...)
	}
	list := "list-" + field.Name
	var options []markup.HTML
	for _, name := range names[:min(len(names), maxChoices)] {
		options = append(options, markup.Void("option", "value", name))
	}
	return markup.Join(markup.Void("input", append(with, "list", list)...),
		markup.Element("datalist", markup.Attributes{"id", list}, options...))
}

// previewOf shows the commit, and the command line that makes the same.
func previewOf(f Form) markup.HTML {
	v := f.Preview
	who := [][2]markup.HTML{{"Author", person(v.Author)}, {"Committed by", person(v.Committer)},
		{"You decide on", text(v.Seen)}}
	parts := []markup.HTML{subheading("The commit that this makes"), facts(who...),
		markup.Element("pre", markup.Attributes{"tabindex", "0", "aria-label", "Message"}, markup.Text(v.Message)),
		diffs(v.Files)}
	if v.Short != "" {
		parts = append(parts, alert("failing", "It does not achieve everything", v.Short, ""))
	}
	for _, w := range v.Warnings {
		parts = append(parts, paragraph("", mark("held", "warning"), " ", markup.Text(w)))
	}
	if v.Next != "" {
		parts = append(parts, paragraph("", soft("Afterwards: "), markup.Text(v.Next)))
	}
	return markup.Join(append(parts, subheading("The same by command"), command(f.Action.Command(f.Values)))...)
}

func person(p releases.Person) markup.HTML { return markup.Text(p.Name + " <" + p.Email + ">") }

// confirmForm makes the commit that is shown, and no other.
func confirmForm(f Form) markup.HTML {
	v := f.Preview
	if v.MayNot != "" {
		return alert("held", "You may not do this here", v.MayNot,
			"With your own rights to the repository, the command does the same.") + backLink(f, "Change it")
	}
	to := f.Values.Query()
	to.Set(StepParam, PreviewStep)
	word := "Commit this"
	if f.Action.AtOnce {
		word = "Kill it now"
	}
	return markup.Element("form", markup.Attributes{"class", "confirm", "method", "post", "action",
		ActionBase + url.PathEscape(f.Action.Name) + "?" + to.Encode()},
		markup.Void("input", "type", "hidden", "name", ShownParam, "value", v.Digest),
		markup.Void("input", "type", "hidden", "name", SinceParam, "value", strconv.FormatInt(v.Since.Unix(), 10)),
		element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"}, markup.Text(word)), " ",
			markup.Link(ActionAddress(f.Action.Name, f.Values), "Change it")))
}

func backLink(f Form, word string) markup.HTML {
	return paragraph("buttons", markup.Link(ActionAddress(f.Action.Name, f.Values), word))
}

// diffs shows how files differ.
func diffs(files []filediff.File) markup.HTML {
	var parts []markup.HTML
	for _, f := range files {
		title := markup.Element("p", markup.Attributes{"class", "diff-title"}, state(diffShape(f.Kind), f.Kind), " ",
			code(f.File))
		body := markup.HTML("")
		if f.Diff != "" {
			body = markup.Element("pre", markup.Attributes{"class", "diff", "tabindex", "0", "aria-label",
				"Changes of " + f.File}, diffLines(f.Diff)...)
		}
		parts = append(parts, title, body)
	}
	return markup.Join(parts...)
}

func diffShape(kind string) string {
	switch kind {
	case "added":
		return "new"
	case "removed":
		return "shut-out"
	}
	return "updating"
}

// diffLines marks lines by their first character, which stays: a state is never a colour alone.
func diffLines(text string) (lines []markup.HTML) {
	for line := range strings.Lines(text) {
		class := ""
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			continue // the title says it
		case strings.HasPrefix(line, "+"):
			class = "added"
		case strings.HasPrefix(line, "-"):
			class = "removed"
		case strings.HasPrefix(line, "@@"):
			class = "at"
		}
		lines = append(lines, element("span", class, markup.Text(line)))
	}
	return lines
}

// Commit is what the page of a commit shows.
type Commit struct {
	Repository string
	Change     releases.Change
	Files      []filediff.File
	Left       []string // further paths that it changed
	Undoable   bool
	Fresh      bool // it was made just now, for whoever looks
}

// RenderCommit returns the page of a commit.
func RenderCommit(m *Model, c Commit) *Page {
	subject, body, _ := strings.Cut(strings.TrimSpace(c.Change.Message), "\n")
	p := &Page{Found: true, Title: subject, Still: true}
	if c.Fresh {
		p.add("done", element("div", "alert passed", element("p", "alert-title", mark("passed", ""), "Done"),
			paragraph("", "The commit is in the repository, and the engine reads it now.")))
	}
	p.add("headline", heading(subject), facts([2]markup.HTML{"Commit", code(c.Change.Commit)},
		[2]markup.HTML{"When", instant(c.Change.When)}, [2]markup.HTML{"Author", person(c.Change.Author)},
		[2]markup.HTML{"Committed by", person(c.Change.Committer)},
		[2]markup.HTML{"Signed with", code(c.Change.Key)}))
	parts := []markup.HTML{}
	if body = strings.TrimSpace(body); body != "" {
		parts = append(parts, markup.Element("pre", markup.Attributes{"tabindex", "0", "aria-label", "Message"},
			markup.Text(body)))
	}
	parts = append(parts, subheading("What it changed"), diffs(c.Files))
	for _, name := range c.Left[:min(len(c.Left), maxListed)] {
		parts = append(parts, paragraph("", code(name)))
	}
	if more := len(c.Left) - maxListed; more > 0 {
		parts = append(parts, paragraph("soft", markup.Text("and "+words.Count(more, "further path"))))
	}
	p.add("commit", parts...)
	next := []markup.HTML{command(words.Shell("git", "show", c.Change.Commit))}
	if c.Undoable {
		undo := actions.Values{"repository": c.Repository, "commit": c.Change.Commit}
		next = append(next, element("p", "buttons", markup.Element("a", markup.Attributes{"class", "button", "href",
			ActionAddress("undo", undo)}, "Undo it…")))
	}
	p.add("next", next...)
	p.Regions = append(p.Regions, m.frame(Address{Kind: "commits"})...)
	return p
}

// RenderMissing returns a page that says that there is no such thing.
func RenderMissing(m *Model, name string) *Page {
	p := &Page{Address: Address{Name: name}, Still: true}
	p.missing()
	p.Regions = append(p.Regions, m.frame(Address{Kind: "do"})...)
	return p
}
