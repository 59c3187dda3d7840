package diagnostics

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HelpCommand lists the commands. Every release has it.
const HelpCommand = "help"

// maxLine bounds what a person writes to run a command, in bytes.
const maxLine = 4 << 10

// Run is a command that a person asked for, ready to be run.
type Run struct {
	Command Command
	Args    []string // the program and its arguments
	Timeout time.Duration
	Output  int // bytes
}

// Resolve returns what a person asked for in one line: a command's name, then NAME=VALUE for its arguments. The values
// are part of no shell's language, and words are divided by spaces alone.
func (l List) Resolve(line string) (Run, error) {
	if len(line) > maxLine {
		return Run{}, fmt.Errorf("a command has at most %d bytes", maxLine)
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return Run{}, errors.New("name a command: " + HelpCommand + " lists them")
	}
	i := slices.IndexFunc(l, func(c Command) bool { return c.Name == words[0] })
	if i < 0 {
		return Run{}, fmt.Errorf("the release declares no command %.80q: %s lists them", words[0], HelpCommand)
	}
	c := l[i]
	values, err := c.values(words[1:])
	if err != nil {
		return Run{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	r := Run{Command: c, Timeout: cmp.Or(c.Timeout, DefaultTimeout), Output: cmp.Or(c.Output, DefaultOutput)}
	for _, word := range c.Run {
		r.Args = append(r.Args, placeholder().ReplaceAllStringFunc(word, func(name string) string {
			return values[strings.Trim(name, "{}")]
		}))
	}
	return r, nil
}

// values returns the value of each argument.
func (c *Command) values(words []string) (map[string]string, error) {
	values := map[string]string{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		i := slices.IndexFunc(c.Arguments, func(a Argument) bool { return a.Name == name })
		switch {
		case !ok:
			return nil, fmt.Errorf("%.80q: write NAME=VALUE", word)
		case i < 0:
			return nil, fmt.Errorf("there is no argument %.80q", name)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		if err := c.Arguments[i].check(value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		values[name] = value
	}
	for _, a := range c.Arguments {
		if _, given := values[a.Name]; given {
			continue
		}
		if a.Default == "" {
			return nil, fmt.Errorf("%s is missing: write %s=%s", a.Name, a.Name, a.Describe())
		}
		values[a.Name] = a.Default
	}
	return values, nil
}

var nameValue = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
})

// check checks a value. None begins with a dash: it would be an option.
func (a *Argument) check(value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("a value has at most %d bytes", maxValue)
	}
	switch a.Type {
	case Enum:
		if !slices.Contains(a.Values, value) {
			return fmt.Errorf("%.80q: use one of %s", value, strings.Join(a.Values, ", "))
		}
	case Integer:
		n, err := strconv.Atoi(value)
		if err != nil || strconv.Itoa(n) != value || n < a.Least || n > a.Most {
			return fmt.Errorf("%.80q: use a number from %d to %d", value, a.Least, a.Most)
		}
	case Name:
		if !nameValue().MatchString(value) {
			return fmt.Errorf("%.80q: use letters, digits and ._-, a letter or digit first", value)
		}
	case Duration:
		d, err := time.ParseDuration(value)
		if err != nil || value[0] < '0' || value[0] > '9' || d < 0 || d > a.longest() {
			return fmt.Errorf("%.80q: use a duration up to %s, such as 15m", value, a.longest())
		}
	default:
		return fmt.Errorf("there is no type %.80q", a.Type)
	}
	return nil
}

func (a *Argument) longest() time.Duration { return cmp.Or(a.Longest, 24*time.Hour) }

// Describe returns which values the argument takes.
func (a *Argument) Describe() string {
	switch a.Type {
	case Enum:
		return strings.Join(a.Values, "|")
	case Integer:
		return fmt.Sprintf("%d..%d", a.Least, a.Most)
	case Duration:
		return "DURATION"
	}
	return "NAME"
}

// Usage returns how a person writes the command, such as "logs unit=NAME [lines=1..500]".
func (c *Command) Usage() string {
	words := []string{c.Name}
	for i := range c.Arguments {
		a := &c.Arguments[i]
		word := a.Name + "=" + a.Describe()
		if a.Default != "" {
			word = "[" + word + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// Help returns the commands as a person reads them, one after the other. only is the name of the only one that may run;
// empty: all may.
func (l List) Help(only string) string {
	var b strings.Builder
	for i := range l {
		c := &l[i]
		if only != "" && c.Name != only {
			continue
		}
		fmt.Fprintf(&b, "%s\n    %s\n    runs: %s\n", c.Usage(), c.Description, strings.Join(c.Run, " "))
		for _, a := range c.Arguments {
			if a.Description != "" {
				fmt.Fprintf(&b, "    %s: %s\n", a.Name, a.Description)
			}
		}
	}
	if b.Len() == 0 {
		return "The release declares no commands that may run.\n"
	}
	return b.String()
}
