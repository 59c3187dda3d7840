package ui

import (
	"strings"

	"github.com/sluice-cd/sluice/internal/markup"
)

// Field is a field of a form, with what is said about it.
type Field struct {
	Name, Label string
	Hint        string // how to write it; empty: nothing is said
	Problem     string // why what was written can't be used; empty: it can
	Required    bool
	Checkbox    bool // the label follows
}

// Render returns the field. input makes the element that asks for the value, with the attributes that it is given.
func (f *Field) Render(input func(with markup.Attributes) markup.HTML) markup.HTML {
	id := "field-" + f.Name
	with := markup.Attributes{"id", id, "name", f.Name}
	var described []string
	hint, wrong := markup.HTML(""), markup.HTML("")
	if f.Hint != "" {
		hint = markup.Element("p", markup.Attributes{"class", "soft", "id", id + "-hint"}, markup.Text(f.Hint))
		described = append(described, id+"-hint")
	}
	if f.Problem != "" {
		wrong = markup.Element("p", markup.Attributes{"class", "wrong", "id", id + "-wrong"}, Mark("failing", ""),
			markup.Text(f.Problem))
		described = append(described, id+"-wrong")
		with = append(with, "aria-invalid", "true")
	}
	if len(described) > 0 {
		with = append(with, "aria-describedby", strings.Join(described, " "))
	}
	if f.Required {
		with = append(with, "required", "")
	}
	label := []markup.HTML{markup.Text(f.Label)}
	if !f.Required && !f.Checkbox {
		label = append(label, Soft(" (optional)"))
	}
	name := markup.Element("label", markup.Attributes{"for", id}, label...)
	if f.Checkbox {
		return Element("div", "field check", input(with), name, hint, wrong)
	}
	return Element("div", "field", name, input(with), hint, wrong)
}

// TextInput returns an element that asks for a line of text. Each of names is suggested, and another may be typed.
func TextInput(name, value string, names []string, with markup.Attributes) markup.HTML {
	with = append(with, "type", "text", "value", value, "maxlength", "500", "autocomplete", "off")
	if len(names) == 0 {
		return markup.Void("input", with...)
	}
	list := "list-" + name
	var options []markup.HTML
	for _, one := range names {
		options = append(options, markup.Void("option", "value", one))
	}
	return markup.Join(markup.Void("input", append(with, "list", list)...),
		markup.Element("datalist", markup.Attributes{"id", list}, options...))
}
