package diagnostics

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// File is the file of a release that declares its commands.
const File = "diagnostics.yaml"

// Bounds of what a release declares.
const (
	MaxFile      = 64 << 10 // bytes
	MaxCommands  = 50
	MaxArguments = 8
	MaxWords     = 64   // of a command
	MaxWord      = 1024 // bytes
	MaxText      = 200  // bytes of a description
	MaxValues    = 64   // of an enum
	maxValue     = 128  // bytes of an argument's value
)

// Bounds and defaults of one run of a command.
const (
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 10 * time.Minute
	DefaultOutput  = 1 << 20 // bytes
	MaxOutput      = 16 << 20
)

// Type is the type of an argument.
type Type string

const (
	Enum     Type = "enum"
	Integer  Type = "integer"
	Name     Type = "name"     // letters, digits and ._-
	Duration Type = "duration" // such as 15m
)

// Document is diagnostics.yaml.
type Document struct {
	APIVersion string    `yaml:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string    `yaml:"kind" required:"true" enum:"Diagnostics"`
	Commands   []Command `yaml:"commands,omitempty"`
	Logs       []Log     `yaml:"logs,omitempty"`
}

// Command is one declared command.
type Command struct {
	Name        string        `yaml:"name" json:"name" required:"true" doc:"in lower-case letters, digits and dashes"`
	Description string        `yaml:"description" json:"description" required:"true" doc:"one line, for the person who debugs and for the cell's owner"`
	Run         []string      `yaml:"run" json:"run" required:"true" doc:"the program and its arguments, without a shell; {NAME} stands for the value of an argument"`
	Arguments   []Argument    `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	Timeout     time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty" doc:"after which it is killed; default 30s, at most 10m"`
	Output      int           `yaml:"output,omitempty" json:"output,omitempty" doc:"bytes after which it is killed; default 1048576, at most 16777216"`
}

// Argument is what a person may choose of a command.
type Argument struct {
	Name        string        `yaml:"name" json:"name" required:"true" doc:"in lower-case letters, digits and dashes"`
	Description string        `yaml:"description,omitempty" json:"description,omitempty"`
	Type        Type          `yaml:"type" json:"type" required:"true" enum:"enum,integer,name,duration"`
	Values      []string      `yaml:"values,omitempty" json:"values,omitempty" doc:"of an enum"`
	Least       int           `yaml:"least,omitempty" json:"least,omitempty" doc:"of an integer; default 0"`
	Most        int           `yaml:"most,omitempty" json:"most,omitempty" doc:"of an integer; it has to be there"`
	Longest     time.Duration `yaml:"longest,omitempty" json:"longest,omitempty" doc:"of a duration; default 24h"`
	Default     string        `yaml:"default,omitempty" json:"default,omitempty" doc:"without one, the argument has to be given"`
}

// ValidName reports whether a command may have a name.
func ValidName(name string) bool { return manifest.IsLabel(name) }

// List is what a release declares, in the file's order.
type List []Command

var (
	placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{[a-z0-9][a-z0-9-]*\}`) })
	enumValue   = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$`)
	})
)

// Parse reads a release's diagnostics.yaml.
func Parse(file string, text []byte) (Document, []manifest.Fault) {
	if len(text) > MaxFile {
		return Document{}, []manifest.Fault{{File: file, Code: manifest.TooLarge,
			Message: fmt.Sprintf("is larger than %d bytes", MaxFile)}}
	}
	doc, faults := manifest.Decode[Document](file, text)
	c := checker{}
	c.check(doc.Value.Commands)
	c.checkLogs(doc.Value.Logs)
	for _, f := range c.faults {
		faults = append(faults, doc.Fault(manifest.WrongValue, f.at, "%s", f.reason))
	}
	if len(faults) > 0 {
		return Document{}, faults
	}
	return doc.Value, nil
}

type fault struct{ at, reason string }

type checker struct{ faults []fault }

func (c *checker) refuse(at, format string, args ...any) {
	c.faults = append(c.faults, fault{at, fmt.Sprintf(format, args...)})
}

func (c *checker) check(all []Command) {
	if len(all) > MaxCommands {
		c.refuse("commands", "has more than %d entries", MaxCommands)
		return
	}
	names := map[string]bool{HelpCommand: true}
	for i := range all {
		at := fmt.Sprintf("commands[%d]", i)
		c.checkName(at+".name", all[i].Name, names)
		c.checkCommand(at, &all[i])
	}
}

// checkName checks a name, which is to be among those before it only now.
func (c *checker) checkName(at, name string, before map[string]bool) {
	switch {
	case !ValidName(name):
		c.refuse(at, "%.80q: use lower-case letters, digits and dashes", name)
	case before[name]:
		c.refuse(at, "%s is there twice, or is Sluice's own", name)
	}
	before[name] = true
}

func (c *checker) checkText(at, text string) {
	if len(text) > MaxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		c.refuse(at, "has one line of at most %d bytes", MaxText)
	}
}

func (c *checker) checkCommand(at string, cmd *Command) {
	c.checkText(at+".description", cmd.Description)
	if cmd.Timeout < 0 || cmd.Timeout > MaxTimeout {
		c.refuse(at+".timeout", "%s: at most %s is possible", cmd.Timeout, MaxTimeout)
	}
	if cmd.Output < 0 || cmd.Output > MaxOutput {
		c.refuse(at+".output", "%d: at most %d bytes are possible", cmd.Output, MaxOutput)
	}
	if len(cmd.Run) > MaxWords || len(cmd.Arguments) > MaxArguments {
		c.refuse(at, "has more than %d words or %d arguments", MaxWords, MaxArguments)
		return
	}
	names := map[string]bool{}
	for i := range cmd.Arguments {
		at := fmt.Sprintf("%s.arguments[%d]", at, i)
		c.checkName(at+".name", cmd.Arguments[i].Name, names)
		c.checkArgument(at, &cmd.Arguments[i])
	}
	used := map[string]bool{}
	for i, word := range cmd.Run {
		at := fmt.Sprintf("%s.run[%d]", at, i)
		if len(word) > MaxWord || strings.ContainsRune(word, 0) {
			c.refuse(at, "has more than %d bytes, or a zero byte", MaxWord)
		}
		if i == 0 && (word == "" || placeholder().MatchString(word)) {
			c.refuse(at, "%.80q: the program is the same whatever the arguments are", word)
		}
		for _, name := range placeholder().FindAllString(word, -1) {
			name = strings.Trim(name, "{}")
			if !names[name] {
				c.refuse(at, "there is no argument %s", name)
			}
			used[name] = true
		}
	}
	for i, a := range cmd.Arguments {
		if !used[a.Name] {
			c.refuse(fmt.Sprintf("%s.arguments[%d].name", at, i), "no word of run has {%s}", a.Name)
		}
	}
}

func (c *checker) checkArgument(at string, a *Argument) {
	c.checkText(at+".description", a.Description)
	switch {
	case a.Type == Enum && (len(a.Values) == 0 || len(a.Values) > MaxValues):
		c.refuse(at+".values", "an enum has 1 to %d values", MaxValues)
	case a.Type != Enum && len(a.Values) > 0:
		c.refuse(at+".values", "only an enum has values")
	case a.Type == Integer && (a.Least < 0 || a.Most < a.Least || a.Most == 0):
		c.refuse(at+".most", "an integer has bounds: 0 or more, and most above least")
	case a.Type != Integer && (a.Least != 0 || a.Most != 0):
		c.refuse(at+".most", "only an integer has least and most")
	case a.Longest < 0 || a.Type != Duration && a.Longest != 0:
		c.refuse(at+".longest", "only a duration has longest, above 0")
	}
	for i, v := range a.Values[:min(len(a.Values), MaxValues)] {
		if len(v) > maxValue || !enumValue().MatchString(v) {
			c.refuse(fmt.Sprintf("%s.values[%d]", at, i),
				"%.80q: use letters, digits and ._:/@+-, a letter or digit first", v)
		}
	}
	if a.Default != "" {
		if err := a.check(a.Default); err != nil {
			c.refuse(at+".default", "%v", err)
		}
	}
}
