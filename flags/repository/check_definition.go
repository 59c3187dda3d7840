package repository

import (
	"strings"
	"unicode"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// flagSet is a parsed file of definitions. It may come from a cache: immutable.
type flagSet struct {
	flags  []*flags.Definition // in the file's order
	faults []manifest.Fault
	bytes  int // upper bound of the size of the flags, written out
}

// parseFlagSet parses a file with a flagd flag set, without regard to other files.
func parseFlagSet(file string, data []byte) flagSet {
	const lines = 100_000 // of YAML: 0.2 s
	root, faults := manifest.DecodeFreeForm(file, data, manifest.FreeFormLimits{Entries: lines, Limits: flags.Limits()})
	r := flags.NewSetReader(file, faults)
	r.Set(root, linter{r})
	return flagSet{r.Flags, manifest.Sort(r.Faults), r.Bytes}
}

// linter finds likely mistakes in well-formed flags.
type linter struct{ *flags.SetReader }

// Variants checks a flag's variants: flagd's schema requires one type for all, and text, numbers, bools or mappings.
func (l linter) Variants(d *flags.Definition, variants jsondoc.Members) {
	first := ""
	for _, m := range variants {
		kind := typeName(m.Value)
		switch {
		case kind == "":
			l.Fault(manifest.WrongType, m.Line,
				"flag %s: variant %.60q must be text, a number, true or false, or a mapping, not %s",
				d.Key, m.Key, jsondoc.Describe(m.Value))
		case first == "":
			first = kind
		case kind != first:
			l.Fault(manifest.WrongType, m.Line, "flag %s: variant %.60q is %s, others are %s: all must have one type",
				d.Key, m.Key, kind, first)
		}
		l.checkSecrets(d, m.Key, m.Node)
	}
}

// typeName names the type of a variant's value; empty: not allowed.
func typeName(v any) string {
	switch v.(type) {
	case bool:
		return "true or false"
	case float64:
		return "a number"
	case string:
		return "text"
	case jsondoc.Members:
		return "a mapping"
	}
	return ""
}

// Metadata checks the metadata that have a meaning here (R37, R45). All other metadata are the team's.
func (l linter) Metadata(d *flags.Definition, line int, m *jsondoc.Member) {
	var own jsondoc.Members
	if m != nil {
		own, _ = m.Value.(jsondoc.Members)
	}
	at := func(name string) int { // metadata of the set have no line here
		if member := own.Get(name); member != nil {
			return member.Line
		}
		return line
	}
	for _, name := range [...]string{"feature", "off", "expose"} {
		value, present := d.Metadata[name]
		if _, ok := value.(string); present && !ok {
			l.Fault(manifest.WrongType, at(name),
				"flag %s: metadata.%s must be text, not %s", d.Key, name, jsondoc.Describe(value))
			return
		}
	}
	if _, present := d.Metadata["feature"]; present && !isFeatureName(d.Feature()) {
		l.Fault(manifest.WrongName, at("feature"),
			"flag %s: %.60q can't be a feature's name: use visible characters, at most %d bytes",
			d.Key, d.Feature(), flags.MaxKey)
	}
	_, known := d.Variants[d.Off()]
	switch _, present := d.Metadata["off"]; {
	case !present && d.Feature() != "":
		l.Fault(manifest.Missing, at("feature"),
			"flag %s: metadata.off is required with metadata.feature: name the variant that the flag has before "+
				"its announcement (R37)",
			d.Key)
	case present && !known && len(d.Variants) > 0:
		l.Fault(manifest.UnknownReference, at("off"),
			"flag %s: there is no variant %.60q for metadata.off; there are: %s", d.Key, d.Off(), d.VariantNames())
	case present && known && !flags.Choosable(d.Off()):
		l.Fault(manifest.WrongName, at("off"),
			"flag %s: no rule can choose %.60q, so no ramp can, either: name the off variant without quotes, <, "+
				">, & and control characters",
			d.Key, d.Off())
	}
	if d.IsSwitch() && d.Off() == "" && d.Feature() == "" && d.Kill().Gives != "" && !d.Disabled {
		l.Warn(manifest.Missing, line, "flag %s can't be killed: %s; name a variant in metadata.off", d.Key,
			d.Kill().Gives)
	}
	if value, present := d.Metadata["expose"]; present && !d.Client() {
		l.Fault(manifest.WrongValue, at("expose"),
			"flag %s: metadata.expose must be client or absent, not %.60q", d.Key, value)
	}
}

// isFeatureName reports whether s can be a feature's name.
func isFeatureName(s string) bool {
	return s != "" && len(s) <= flags.MaxKey && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar })
}
