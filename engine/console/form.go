package console

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
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
	// SignedParam has what a passkey signed, as edits.ParseAssertion reads it. Only a body has it.
	SignedParam = "assertion"
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
		ui.Code(words.ShortCommit(commit)))
}

// Form is what the page of an action's form shows.
type Form struct {
	Action   *actions.Action
	Values   actions.Values
	Problems actions.Problems // none: the values can be used
	Error    string           // why the decision can't be made; empty: it can
	Next     string           // what to do then
	Made     string           // the address of the commit that was made all the same; empty: none was
	Notice   string           // what happened to the form; empty: nothing
	Preview  *Preview         // nil: the values are asked for first
	Making   *Making          // the passkey that the form's values are of; nil: none, or nobody known looks
}

// Making is a passkey that a browser is to make for a person.
type Making struct {
	Person string
	Has    []string // ids of the passkeys that the person has for this page's address
}

// Command returns the command line that does the same as the form, whoever runs it.
func (f *Form) Command() string {
	line := f.Action.Command(f.Values)
	if f.Action.Own && f.Making != nil { // without --as it would be done for whoever runs it, such as an owner
		line += " " + words.Shell("--as", f.Making.Person)
	}
	return line
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
	MayNot            string           // why this caller may not; empty: they may
	Sign              *edits.Challenge // a passkey signs it first; nil: none does
}

// RenderForm returns the page of an action's form: its fields, or the commit that it would make.
func RenderForm(m *Model, f Form) *Page {
	p := &Page{Found: true, Title: f.Action.Title, Still: true}
	p.add("headline", ui.Heading(f.Action.Title), ui.Paragraph("lead", markup.Text(f.Action.Effect)))
	if f.Notice != "" {
		p.add("notice", ui.Alert("held", "Nothing was done", f.Notice, ""))
	}
	switch {
	case f.Preview == nil || f.Action.CommandOnly():
		switch {
		case f.Made != "":
			p.add("error", ui.Alert("failing", "It is committed, and does not count", f.Error, f.Next)+
				ui.Paragraph("buttons", markup.Link(f.Made, "The commit")))
		case f.Error != "":
			p.add("error", ui.Alert("failing", "It can't be done", f.Error, f.Next))
		}
		p.add("form", askForm(m, f))
		// What is refused here may be done all the same by a key of the person's.
		if f.Preview != nil || f.Error != "" && (f.Action.Own || f.Action.Approve != nil) {
			p.add("command", passkeyAdvice(f), ui.Subheading("The command"), ui.Command(f.Command()))
		}
	case f.Preview.Message == "":
		p.add("preview", ui.Paragraph("empty", markup.Text(f.Preview.Summary)), backLink(f))
	default:
		p.add("preview", previewOf(f))
		p.add("confirm", confirmForm(f))
	}
	p.Regions = append(p.Regions, m.frame(Address{Kind: "do"})...)
	return p
}

// askForm asks for the fields. It has no effect: the next page shows the commit.
func askForm(m *Model, f Form) markup.HTML {
	inside := []markup.HTML{hidden(StepParam, PreviewStep)}
	for _, field := range f.Action.Fields {
		inside = append(inside, fieldOf(m, field, f.Values[field.Name], f.Problems[field.Name]))
	}
	if f.Action.Own && f.Making == nil {
		return ui.Paragraph("empty", "It is for people whom sluice.yaml lists under people with the address that they "+
			"sign in with, and nobody whom it lists is signed in here.")
	}
	button, with := "Show the commit", markup.Attributes{"class", "ask", "action", ActionAddress(f.Action.Name, nil)}
	if f.Action.Own {
		with = append(with, "method", "post")
	}
	if m := f.Making; m != nil {
		with = append(with, "data-passkey", "make", "data-person", m.Person, "data-has", strings.Join(m.Has, " "))
		inside = append(inside, noScripts("Your browser runs no scripts here, and only a script can have a "+
			"passkey made."))
	}
	switch {
	case f.Action.Approve != nil:
		button = "Show what you approve"
	case f.Action.CommandOnly():
		button = "Show the command"
	}
	inside = append(inside, ui.Element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"},
		markup.Text(button))))
	return markup.Element("form", with, inside...)
}

func hidden(name, value string) markup.HTML {
	return markup.Void("input", "type", "hidden", "name", name, "value", value)
}

// noScripts says what a page can't do without scripts.
func noScripts(text string) markup.HTML {
	return markup.Element("noscript", nil, ui.Paragraph("", ui.Mark("held", ""), markup.Text(text)))
}

// passkeyAdvice leads from an approval that no passkey can sign to where one is made.
func passkeyAdvice(f Form) markup.HTML {
	if f.Action.Approve == nil {
		return ""
	}
	return ui.Paragraph("buttons", markup.Element("a", markup.Attributes{"class", "button", "href",
		ActionAddress("add-passkey", nil)}, "Add a passkey of yours"))
}

func fieldOf(m *Model, field actions.Field, value, problem string) markup.HTML {
	if value == "" {
		value = field.Default
	}
	f := ui.Field{Name: field.Name, Label: field.Label, Hint: field.Hint, Problem: problem, Required: field.Required,
		Checkbox: field.Kind == actions.Checkbox}
	if !f.Checkbox {
		return f.Render(func(with markup.Attributes) markup.HTML { return m.input(field, value, with) })
	}
	return f.Render(func(with markup.Attributes) markup.HTML {
		with = append(with, "type", "checkbox", "value", actions.Checked)
		if value == actions.Checked {
			with = append(with, "checked", "")
		}
		return markup.Void("input", with...)
	})
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
	return ui.TextInput(field.Name, value, names[:min(len(names), maxChoices)], with)
}

// previewOf shows the commit, and the command line that makes the same.
func previewOf(f Form) markup.HTML {
	v := f.Preview
	who := [][2]markup.HTML{{"Author", person(v.Author)}, {"Committed by", person(v.Committer)},
		{"You decide on", ui.Text(v.Seen)}}
	if s := v.Sign; s != nil {
		who = append(who, [2]markup.HTML{"In the name of", ui.Text(s.Person)},
			[2]markup.HTML{"Signed by", ui.Text("your passkey, for the channel, the release and this digest")})
	}
	parts := []markup.HTML{ui.Subheading("The commit that this makes"), ui.Facts(who...),
		markup.Element("pre", markup.Attributes{"tabindex", "0", "aria-label", "Message"}, markup.Text(v.Message)),
		ui.Diffs(v.Files)}
	if v.Short != "" {
		parts = append(parts, ui.Alert("failing", "It does not achieve everything", v.Short, ""))
	}
	for _, w := range v.Warnings {
		parts = append(parts, ui.Paragraph("", ui.Mark("held", "warning"), " ", markup.Text(w)))
	}
	if v.Next != "" {
		parts = append(parts, ui.Paragraph("", ui.Soft("Afterwards: "), markup.Text(v.Next)))
	}
	return markup.Join(append(parts, ui.Subheading("The same by command"), ui.Command(f.Command()))...)
}

func person(p releases.Person) markup.HTML { return markup.Text(p.Name + " <" + p.Email + ">") }

// confirmForm makes the commit that is shown, and no other.
func confirmForm(f Form) markup.HTML {
	v := f.Preview
	if v.MayNot != "" {
		return ui.Alert("held", "You may not do this here", v.MayNot,
			"With your own rights to the repository, the command does the same.") + backLink(f)
	}
	var inside []markup.HTML
	to := ActionAddress(f.Action.Name, nil)
	if f.Action.Own {
		for _, name := range slices.Sorted(maps.Keys(f.Values)) {
			inside = append(inside, hidden(name, f.Values[name]))
		}
	} else {
		query := f.Values.Query()
		query.Set(StepParam, PreviewStep)
		to += "?" + query.Encode()
	}
	word := "Commit this"
	if f.Action.AtOnce {
		word = "Kill it now"
	}
	with := markup.Attributes{"class", "confirm", "method", "post", "action", to}
	if s := v.Sign; s != nil {
		word = "Approve with your passkey"
		with = append(with, "data-passkey", "sign", "data-nonce", s.Nonce, "data-challenge", s.Challenge, "data-rp",
			s.RPID, "data-has", strings.Join(s.Credentials, " "))
		inside = append(inside, hidden(SignedParam, ""),
			noScripts("Your browser runs no scripts here, and only a script can ask your passkey: "+
				"the command does the same."))
	}
	inside = append(inside, hidden(ShownParam, v.Digest), hidden(SinceParam, strconv.FormatInt(v.Since.Unix(), 10)),
		ui.Element("p", "buttons", markup.Element("button", markup.Attributes{"class", "primary"}, markup.Text(word)),
			" ", f.changeLink()))
	return markup.Element("form", with, inside...)
}

func backLink(f Form) markup.HTML { return ui.Paragraph("buttons", f.changeLink()) }

// changeLink leads back to the fields. Of what a person does for themselves, no address has the values.
func (f *Form) changeLink() markup.HTML {
	v := f.Values
	if f.Action.Own {
		v = nil
	}
	return markup.Link(ActionAddress(f.Action.Name, v), "Change it")
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
		p.add("done", ui.Element("div", "alert passed", ui.Element("p", "alert-title", ui.Mark("passed", ""), "Done"),
			ui.Paragraph("", "The commit is in the repository, and the engine reads it now.")))
	}
	p.add("headline", ui.Heading(subject), ui.Facts([2]markup.HTML{"Commit", ui.Code(c.Change.Commit)},
		[2]markup.HTML{"When", ui.Instant(c.Change.When)}, [2]markup.HTML{"Author", person(c.Change.Author)},
		[2]markup.HTML{"Committed by", person(c.Change.Committer)},
		[2]markup.HTML{"Signed with", ui.Code(c.Change.Key)}))
	parts := []markup.HTML{}
	if body = strings.TrimSpace(body); body != "" {
		parts = append(parts, markup.Element("pre", markup.Attributes{"tabindex", "0", "aria-label", "Message"},
			markup.Text(body)))
	}
	parts = append(parts, ui.Subheading("What it changed"), ui.Diffs(c.Files))
	for _, name := range c.Left[:min(len(c.Left), maxListed)] {
		parts = append(parts, ui.Paragraph("", ui.Code(name)))
	}
	if more := len(c.Left) - maxListed; more > 0 {
		parts = append(parts, ui.Paragraph("soft", markup.Text("and "+words.Count(more, "further path"))))
	}
	p.add("commit", parts...)
	next := []markup.HTML{ui.Command(words.Shell("git", "show", c.Change.Commit))}
	if c.Undoable {
		undo := actions.Values{"repository": c.Repository, "commit": c.Change.Commit}
		next = append(next, ui.Element("p", "buttons", markup.Element("a", markup.Attributes{"class", "button", "href",
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
