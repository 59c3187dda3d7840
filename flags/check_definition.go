package flags

import (
	"strings"
	"unicode"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// checkVariants says what is wrong with a flag's variants: flagd's schema wants one type of all, and text, numbers, bools or mappings.
func (r *setReader) checkVariants(d *Definition, line int, variants manifest.Members) {
	if len(variants) == 0 {
		r.fault(line, "flag %s: variants is empty: a flag needs at least one", d.Key)
	}
	if !r.strict {
		return
	}
	first := ""
	for _, m := range variants {
		kind := typeOf(m.Value)
		switch {
		case kind == "":
			r.fault(m.Line, "flag %s: variant %.60q must be text, a number, true or false, or a mapping, not %s", d.Key, m.Key, describe(m.Value))
		case first == "":
			first = kind
		case kind != first:
			r.fault(m.Line, "flag %s: variant %.60q is %s, others are %s: all must have one type", d.Key, m.Key, kind, first)
		}
		r.checkSecrets(d, m.Key, m.Node)
	}
}

// typeOf names the type of a variant's value; empty: it can't be one's.
func typeOf(v any) string {
	switch v.(type) {
	case bool:
		return "true or false"
	case float64:
		return "a number"
	case string:
		return "text"
	case manifest.Members:
		return "a mapping"
	}
	return ""
}

// checkMetadata says what is wrong with what metadata mean here (R37, R45). Whatever else is there is the team's own.
func (r *setReader) checkMetadata(d *Definition, line int, m *manifest.Member) {
	if !r.strict {
		return
	}
	var own manifest.Members
	if m != nil {
		own, _ = m.Value.(manifest.Members)
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
			r.fault(at(name), "flag %s: metadata.%s must be text, not %s", d.Key, name, describe(is))
			return
		}
	}
	if _, there := d.Metadata["feature"]; there && !isName(d.Feature()) {
		r.fault(at("feature"), "flag %s: %.60q can't be a feature's name: it takes visible characters, at most %d bytes", d.Key, d.Feature(), maxKey)
	}
	_, known := d.Variants[d.Off()]
	switch _, there := d.Metadata["off"]; {
	case !there && d.Feature() != "":
		r.fault(at("feature"), "flag %s: metadata.off is required with metadata.feature: name the variant it has before its announcement (R37)", d.Key)
	case there && !known && len(d.Variants) > 0:
		r.fault(at("off"), "flag %s: there is no variant %.60q for metadata.off; there are: %s", d.Key, d.Off(), d.variantNames())
	case there && known && !choosable(d.Off()):
		r.fault(at("off"), "flag %s: no rule can choose %.60q, so no ramp can, either: name the off variant without quotes, <, >, & and control characters", d.Key, d.Off())
	}
	if _, there := d.Metadata["expose"]; there && !d.Client() {
		r.fault(at("expose"), "flag %s: metadata.expose must be client, or not be there, not %.60q", d.Key, d.text("expose"))
	}
}

// choosable tells whether a rule can choose a variant: flagd takes the JSON of what it gives.
func choosable(variant string) bool {
	name, err := variantNamed(variant)
	return err == nil && name == variant
}

// isName tells whether s may be a feature's name.
func isName(s string) bool {
	return s != "" && len(s) <= maxKey && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar })
}
