package repository

import (
	"strings"
	"unicode"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// flagSet is a file of definitions as it was read. It may come from a cache: immutable.
type flagSet struct {
	flags  []*flags.Definition // in the file's order
	faults []manifest.Fault
	bytes  int // of the flags written out, at most
}

// parseFlagSet reads one of flagd's flag sets. It looks at nothing but the file.
func parseFlagSet(file string, data []byte) flagSet {
	const lines = 100_000 // of YAML: 0.2 s
	root, faults := manifest.Free(file, data, manifest.FreeLimits{Entries: lines, Limits: flags.Limits()})
	r := flags.NewSetReader(file, faults)
	r.Set(root, linter{r})
	return flagSet{r.Flags, manifest.Sort(r.Faults), r.Bytes}
}

// linter looks at flags for what nobody can have meant.
type linter struct{ *flags.SetReader }

// Variants says what is wrong with a flag's variants: flagd's schema wants one type of all, and text, numbers, bools or mappings.
func (l linter) Variants(d *flags.Definition, variants jsondoc.Members) {
	first := ""
	for _, m := range variants {
		kind := typeName(m.Value)
		switch {
		case kind == "":
			l.Fault(manifest.WrongType, m.Line, "flag %s: variant %.60q must be text, a number, true or false, or a mapping, not %s", d.Key, m.Key, jsondoc.Describe(m.Value))
		case first == "":
			first = kind
		case kind != first:
			l.Fault(manifest.WrongType, m.Line, "flag %s: variant %.60q is %s, others are %s: all must have one type", d.Key, m.Key, kind, first)
		}
		l.checkSecrets(d, m.Key, m.Node)
	}
}

// typeName names the type of a variant's value; empty: it can't be one's.
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

// Metadata says what is wrong with what metadata mean here (R37, R45). Whatever else is there is the team's own.
func (l linter) Metadata(d *flags.Definition, line int, m *jsondoc.Member) {
	var own jsondoc.Members
	if m != nil {
		own, _ = m.Value.(jsondoc.Members)
	}
	at := func(name string) int { // the set's own line is not known here
		if member := own.Get(name); member != nil {
			return member.Line
		}
		return line
	}
	for _, name := range [...]string{"feature", "off", "expose"} {
		is, there := d.Metadata[name]
		if _, ok := is.(string); there && !ok {
			l.Fault(manifest.WrongType, at(name),
				"flag %s: metadata.%s must be text, not %s", d.Key, name, jsondoc.Describe(is))
			return
		}
	}
	if _, there := d.Metadata["feature"]; there && !isFeatureName(d.Feature()) {
		l.Fault(manifest.WrongName, at("feature"), "flag %s: %.60q can't be a feature's name: it takes visible characters, at most %d bytes", d.Key, d.Feature(), flags.MaxKey)
	}
	_, known := d.Variants[d.Off()]
	switch _, there := d.Metadata["off"]; {
	case !there && d.Feature() != "":
		l.Fault(manifest.Missing, at("feature"), "flag %s: metadata.off is required with metadata.feature: name the variant it has before its announcement (R37)", d.Key)
	case there && !known && len(d.Variants) > 0:
		l.Fault(manifest.UnknownReference, at("off"), "flag %s: there is no variant %.60q for metadata.off; there are: %s", d.Key, d.Off(), d.VariantNames())
	case there && known && !flags.Choosable(d.Off()):
		l.Fault(manifest.WrongName, at("off"), "flag %s: no rule can choose %.60q, so no ramp can, either: name the off variant without quotes, <, >, & and control characters", d.Key, d.Off())
	}
	if is, there := d.Metadata["expose"]; there && !d.Client() {
		l.Fault(manifest.WrongValue, at("expose"),
			"flag %s: metadata.expose must be client, or not be there, not %.60q", d.Key, is)
	}
}

// isFeatureName tells whether s may be a feature's name.
func isFeatureName(s string) bool {
	return s != "" && len(s) <= flags.MaxKey && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar })
}
