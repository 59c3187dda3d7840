// Package actions is the table of what people may ask for in a form of the console: each action with its fields, who
// may do it, the decision of package edits that it becomes, and the command line that does the same. Forms, routes, the
// palette and docs/access.md are made from the table (table.go).
//
// The package is pure and makes no commit. It trusts neither values nor callers: Parse checks values, and whoever
// serves an action checks its Role.
package actions

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/words"
)

// Subject is the kind of thing that an action is about.
type Subject string

// The subjects. Each is also the name of the field that names the thing.
const (
	Everything   Subject = ""
	Channel      Subject = "channel"
	Cell         Subject = "cell"
	Release      Subject = "release"
	Flag         Subject = "flag"
	Announcement Subject = "announcement"
)

// Kind is the kind of a field's values.
type Kind string

// The kinds of fields. A field of a Subject's name has the name of such a thing.
const (
	Name     Kind = "name"
	Text     Kind = "text"     // one line
	Instant  Kind = "instant"  // a time in RFC 3339, or a duration from now
	Span     Kind = "duration" // such as 72h
	Number   Kind = "number"
	Checkbox Kind = "checkbox"
)

// Checked is the value of a Checkbox that is set.
const Checked = "yes"

// maxValue bounds a value in bytes.
const maxValue = 500

// Field is one value that a form asks for.
type Field struct {
	Name     string
	Of       Subject // of a Name: what it names
	Kind     Kind
	Label    string
	Hint     string // what may stand there
	Required bool
	Default  string
}

// Values are what a person put into a form, by the names of fields. Empty values are missing.
type Values map[string]string

// Action is one thing that people may ask for.
type Action struct {
	Name    string // in addresses
	Title   string // an order, such as "Hold a channel"
	Effect  string // what it does, in a sentence
	Subject Subject
	Role    access.Role
	// Scope is Channel or Cell if the role need hold only in the channel that the field channel names, or in the
	// channel of the cell that cell names. Everything: the role must hold everywhere.
	Scope  Subject
	Fields []Field

	// One of these makes the decision; none: people do it by the command line, and the form only shows that.
	Releases func(v Values, now time.Time) (edits.Decision[*edits.Releases], error)
	Flags    func(v Values, now time.Time) (edits.Decision[*edits.Flags], error)

	// Approve makes the decision of an approval that a passkey of the person's signs: the form asks for that first.
	Approve func(v Values) edits.Approve

	Own    bool // it is about whoever is signed in, and nobody else does it
	AtOnce bool // a kill: the control plane takes it to cells before it is a commit
	Undo   bool // it takes back a commit, which whoever serves it reads

	Args func(v Values) []string // the command line, without the program's name; nil with Undo
}

// CommandOnly reports whether people do it by the command line alone.
func (a *Action) CommandOnly() bool {
	return a.Releases == nil && a.Flags == nil && a.Approve == nil && !a.Undo
}

// InFlags reports whether the commit is one of the flags repository.
func (a *Action) InFlags() bool { return a.Flags != nil }

// Find returns an action by name; nil: there is none.
func Find(name string) *Action {
	for _, a := range All() {
		if a.Name == name {
			return &a
		}
	}
	return nil
}

// Problems says what is wrong with values, by the names of fields.
type Problems map[string]string

// Parse returns the values of the action's fields in a query, and what is wrong with them.
func (a *Action) Parse(query url.Values) (Values, Problems) {
	v, wrong := Values{}, Problems{}
	for _, f := range a.Fields {
		value := query.Get(f.Name)
		switch {
		case len(value) > maxValue:
			wrong[f.Name] = fmt.Sprintf("at most %d bytes", maxValue)
			continue
		case !utf8.ValidString(value):
			wrong[f.Name] = "not UTF-8"
			continue
		case f.Kind == Name: // names are looked up as they are
			value = strings.TrimSpace(value)
		default:
			value = words.OneLine(value)
		}
		if value != "" {
			v[f.Name] = value
		}
		if problem := f.check(value); problem != "" {
			wrong[f.Name] = problem
		}
	}
	return v, wrong
}

// check returns what is wrong with a value; empty: nothing.
func (f *Field) check(value string) string {
	if value == "" {
		if f.Required {
			return "is required"
		}
		return ""
	}
	switch f.Kind {
	case Instant:
		if _, err := ParseInstant(value, time.Time{}); err != nil {
			return err.Error()
		}
	case Span:
		if d, err := words.ParseDuration(value); err != nil || d <= 0 {
			return "is a length of time such as 72h or 3d"
		}
	case Number:
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return "is a number"
		}
	case Checkbox:
		if value != Checked {
			return "is " + Checked + " or missing"
		}
	case Name, Text:
	}
	return ""
}

// ParseInstant parses a time in RFC 3339, or a duration from base on.
func ParseInstant(text string, base time.Time) (time.Time, error) {
	if d, err := words.ParseDuration(text); err == nil {
		if d <= 0 {
			return base, fmt.Errorf("%.40q is not a positive length of time", text)
		}
		return base.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%.40q is neither a time like 2026-12-20T00:00:00Z nor a length like 48h", text)
	}
	return t, nil
}

// Query returns the values as the query of an address.
func (v Values) Query() url.Values {
	query := url.Values{}
	for name, value := range v {
		query.Set(name, value)
	}
	return query
}

// Command returns the command line that does the same, with each argument as a shell takes it.
func (a *Action) Command(v Values) string {
	if a.Undo {
		return words.Shell("git", "revert", v["commit"])
	}
	return words.Shell(append([]string{"sluice"}, a.Args(v)...)...)
}

// Seen returns what the person decides on beside the files, at a snapshot: where the action's channel is.
func (a *Action) Seen(s *edits.Releases, v Values) string {
	c := s.Desired.Channels[v[string(Channel)]]
	switch {
	case c == nil:
		return ""
	case c.Effective == nil:
		return c.Name + " has no release yet"
	}
	return fmt.Sprintf("%s is at %s since %s", c.Name, c.Effective.Release,
		c.Effective.Moved.UTC().Format("2 Jan 15:04 MST"))
}

// list returns the items of a value with commas or spaces between them.
func list(value string) []string {
	return slices.DeleteFunc(strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }),
		func(one string) bool { return one == "" })
}

// args are the arguments of a command line.
type args []string

func command(all ...string) args { return all }

// with adds a flag with its value, unless the value is empty.
func (l args) with(flag, value string) args {
	if value == "" {
		return l
	}
	return append(slices.Clip(l), flag, value)
}

// withEach adds a flag for each item of a list.
func (l args) withEach(flag, value string) args {
	for _, one := range list(value) {
		l = l.with(flag, one)
	}
	return l
}

// when adds a flag if a checkbox is set.
func (l args) when(flag, value string) args {
	if value != Checked {
		return l
	}
	return append(slices.Clip(l), flag)
}
