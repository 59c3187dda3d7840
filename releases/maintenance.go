package releases

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Maintenance says what users of the product meet while a component changes that takes a maintenance.
type Maintenance struct {
	Refuses []string `yaml:"refuses" json:"refuses,omitempty" doc:"kinds of operation that are refused meanwhile; default: start, stop, snapshot"`
	Texts   Texts    `yaml:"texts" json:"texts,omitempty" doc:"what users see, by language and then by kind of operation, or default; {until}, {minutes}, {kind} and {release} are filled in"`
}

// Texts holds what users see, by language tag and then by kind of operation. TextDefault stands for every other kind.
type Texts map[string]map[string]string

// TextDefault is the kind of operation whose text serves every kind without one.
const TextDefault = "default"

// Bounds of a Maintenance. A text may be long, all of them together may not: they are journalled in every cell.
const (
	MaxOperationKinds = 32
	MaxLanguages      = 64
	MaxText           = 4 << 10  // bytes
	MaxTexts          = 64 << 10 // bytes of all texts together
)

var (
	languageTag = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)
	})
	placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{[^{}]*\}`) })
)

// Placeholders are what a text may have in braces.
func Placeholders() []string { return []string{"{until}", "{minutes}", "{kind}", "{release}"} }

// ValidOperationKind reports whether name can be a kind of operation: 1 to 63 small letters, digits and, inside,
// hyphens. Each operation is checked, so there is no regular expression.
func ValidOperationKind(name string) bool {
	for i := range len(name) {
		c, inside := name[i], i > 0 && i < len(name)-1
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || !inside) {
			return false
		}
	}
	return name != "" && len(name) <= 63
}

// TextFault says what is wrong with a Maintenance. At is the path of the field.
type TextFault struct{ At, Reason string }

// Check returns what is wrong with m, ordered by path.
func (m Maintenance) Check() []TextFault {
	var faults []TextFault
	fault := func(at, format string, args ...any) {
		faults = append(faults, TextFault{at, fmt.Sprintf(format, args...)})
	}
	if len(m.Refuses) > MaxOperationKinds {
		fault("refuses", "has more than %d kinds of operation", MaxOperationKinds)
	}
	for i, kind := range m.Refuses {
		at := fmt.Sprintf("refuses[%d]", i)
		switch {
		case !ValidOperationKind(kind) || kind == TextDefault:
			fault(at, "%.70q can't name a kind of operation: use small letters, digits and hyphens", kind)
		case slices.Contains(m.Refuses[:i], kind):
			fault(at, "%s is there twice", kind)
		}
	}
	if len(m.Texts) > MaxLanguages {
		fault("texts", "has more than %d languages", MaxLanguages)
		return faults
	}
	all := 0
	for _, language := range slices.Sorted(maps.Keys(m.Texts)) {
		if !languageTag().MatchString(language) {
			fault("texts", "%.70q is no language tag such as en or pt-BR", language)
		}
		byKind := m.Texts[language]
		for _, kind := range slices.Sorted(maps.Keys(byKind)) {
			text := byKind[kind]
			all += len(text)
			if !ValidOperationKind(kind) {
				fault("texts."+language, "%.70q can't name a kind of operation", kind)
			} else if why := textFault(text); why != "" {
				fault("texts."+language+"."+kind, "%s", why)
			}
		}
	}
	if all > MaxTexts {
		fault("texts", "has %d bytes of text in all, more than %d", all, MaxTexts)
	}
	return faults
}

// textFault returns why users can't be shown a text, or "".
func textFault(text string) string {
	switch {
	case strings.TrimSpace(text) == "":
		return "the text is empty"
	case len(text) > MaxText:
		return fmt.Sprintf("the text has %d bytes, more than %d", len(text), MaxText)
	case !utf8.ValidString(text):
		return "the text is not UTF-8"
	case strings.ContainsFunc(text, isControl):
		return "the text has control characters, or such that change the direction of writing"
	}
	for _, found := range placeholder().FindAllString(text, -1) {
		if !slices.Contains(Placeholders(), found) {
			return fmt.Sprintf("%.70s is not filled in: there are %s", found, strings.Join(Placeholders(), ", "))
		}
	}
	return ""
}

// isControl reports whether a reader's screen would obey r rather than show it.
func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\n' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
