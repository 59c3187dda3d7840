package flags

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

const (
	// MaxKey bounds a flag's key and a feature's name, in bytes: overrides/kill-KEY.yaml must be a valid file name.
	MaxKey = 200

	maxText   = 16 << 10 // bytes of one text in rules and values
	maxFaults = 200      // faults reported of one file
)

// bounds limit definitions after references and the set's metadata are written out for each flag. Files may be far
// smaller.
type bounds struct {
	depth, nodes        int // of a rule; an operator with a list of arguments is two levels deep
	flagBytes, setBytes int // bytes of a flag, and of all flags in a file
}

// sourceBounds are for flags as people write them, and as bundles carry them.
func sourceBounds() bounds {
	return bounds{depth: 64, nodes: 10_000, flagBytes: 256 << 10, setBytes: 8 << 20}
}

// documentBounds are for folded flags, with ramps around rules and constants in the place of facts.
func documentBounds() bounds {
	return bounds{depth: 80, nodes: 50_000, flagBytes: 2 << 20, setBytes: MaxBundle}
}

// ParseDefinition reads one flag as Encode writes it. Unlike a flags repository, it does not lint. The error is the
// first fault.
func ParseDefinition(key string, raw []byte) (*Definition, error) {
	return parseDefinition(key, raw, sourceBounds())
}

func parseDefinition(key string, raw []byte, b bounds) (*Definition, error) {
	root, faults := jsondoc.Read("", raw, b.limits())
	r := newSetReader("", faults, b)
	if !r.badLines[0] && root.Line > 0 {
		r.readFlag(key, root.Line, root, nil)
	}
	if f := r.firstFault(); f != nil {
		return nil, fmt.Errorf("flag %.100q: %s", key, f.Message)
	}
	d := r.Flags[0]
	d.Line = 0
	return d, nil
}

// SetReader reads one file with a flagd flag set as people write it, and checks form and bounds.
type SetReader struct {
	// Flags are in the file's order, faulty flags included, so that references to a faulty flag are no further fault.
	Flags  []*Definition
	Bytes  int // upper bound of the size of the flags, written out
	Faults []jsondoc.Fault

	file   string
	bounds bounds
	linter Linter // nil: only form is checked
	// badLines have syntax errors: further faults there would only follow from these.
	badLines   map[int]bool
	evaluators references

	flagBytes int // size of the current flag, written out
}

// Linter checks the sense of well-formed flags. A Linter adds its findings to its SetReader.
type Linter interface {
	Variants(d *Definition, all jsondoc.Members)
	Metadata(d *Definition, line int, own *jsondoc.Member) // own: nil if only the set has metadata
	Targeting(d *Definition, rule jsondoc.Node)            // with references resolved
}

// NewSetReader returns a reader of a file in which parsing found the given faults.
func NewSetReader(file string, faults []jsondoc.Fault) *SetReader {
	return newSetReader(file, faults, sourceBounds())
}

// Limits returns the limits of a document with a flag set.
func Limits() jsondoc.Limits { return sourceBounds().limits() }

func (b bounds) limits() jsondoc.Limits { return jsondoc.Limits{Depth: b.depth + 16, Text: maxText} }

func newSetReader(file string, faults []jsondoc.Fault, b bounds) *SetReader {
	r := &SetReader{Faults: faults, file: file, bounds: b, badLines: map[int]bool{}, evaluators: references{}}
	for _, f := range faults {
		r.badLines[f.Line] = r.badLines[f.Line] || !f.Warning
	}
	return r
}

// firstFault returns the fault to fix first; nil: none.
func (r *SetReader) firstFault() (first *jsondoc.Fault) {
	for i := range r.Faults {
		f := &r.Faults[i]
		if !f.Warning &&
			(first == nil || cmp.Or(cmp.Compare(f.Line, first.Line), cmp.Compare(f.Message, first.Message)) < 0) {
			first = f
		}
	}
	return first
}

// Fault adds a fault.
func (r *SetReader) Fault(code jsondoc.FaultCode, line int, format string, args ...any) {
	r.addFault(false, code, line, format, args...)
}

// Warn adds a warning: a likely mistake that does not invalidate the file.
func (r *SetReader) Warn(code jsondoc.FaultCode, line int, format string, args ...any) {
	r.addFault(true, code, line, format, args...)
}

func (r *SetReader) addFault(warning bool, code jsondoc.FaultCode, line int, format string, args ...any) {
	switch {
	case r.badLines[line] || len(r.Faults) > maxFaults:
		return
	case len(r.Faults) == maxFaults:
		warning, code, format, args = false, jsondoc.TooLarge, "and more: mend these first", nil
	}
	r.Faults = append(r.Faults, jsondoc.Fault{
		File: r.file, Line: line, Code: code, Message: fmt.Sprintf(format, args...), Warning: warning,
	})
}

// mappingMembers returns a mapping's members and faults those that are not among names. Without names, every member is
// allowed.
func (r *SetReader) mappingMembers(n jsondoc.Node, what string, names ...string) (jsondoc.Members, bool) {
	all, ok := n.Value.(jsondoc.Members)
	if !ok {
		r.Fault(jsondoc.WrongType, n.Line, "%s must be a mapping, not %s", what, jsondoc.Describe(n.Value))
		return nil, false
	}
	for _, m := range all {
		if len(names) > 0 && !slices.Contains(names, m.Key) {
			r.Fault(jsondoc.UnknownField, m.Line,
				"unknown field %.60q in %s; there are: %s", m.Key, what, strings.Join(names, ", "))
		}
	}
	return all, true
}

// Set reads the whole set and runs lint over the flags; nil: no linter.
func (r *SetReader) Set(root jsondoc.Node, lint Linter) {
	if r.badLines[0] || root.Line == 0 { // the file was not parsed
		return
	}
	r.linter = lint
	top, ok := r.mappingMembers(root, "a flag set", "flags", "$evaluators", "metadata", "$schema")
	if !ok {
		return
	}
	if m := top.Get("$evaluators"); m != nil {
		r.readEvaluators(m.Node)
	}
	var metadata map[string]any
	if m := top.Get("metadata"); m != nil {
		metadata = r.readMetadata(m.Node, nil)
	}
	flags := top.Get("flags")
	if flags == nil {
		r.Fault(jsondoc.Missing, root.Line, "flags is required: write flags: {} for an empty flag set")
		return
	}
	switch all := flags.Value.(type) {
	case jsondoc.Members:
		for _, m := range all {
			r.readFlag(m.Key, m.Line, m.Node, metadata)
		}
	case []jsondoc.Node:
		for _, n := range all {
			r.readListedFlag(n, metadata)
		}
	default:
		r.Fault(jsondoc.WrongType, flags.Line, "flags must be a mapping, not %s", jsondoc.Describe(flags.Value))
	}
}

// readListedFlag reads a flag of flagd's alternative form, a list of flags with their keys.
func (r *SetReader) readListedFlag(n jsondoc.Node, shared map[string]any) {
	fields, ok := n.Value.(jsondoc.Members)
	at := fields.Get("key")
	if !ok || at == nil {
		r.Fault(jsondoc.Missing, n.Line, "a flag in a list needs a key")
		return
	}
	key, ok := at.Value.(string)
	if !ok {
		r.Fault(jsondoc.WrongType, at.Line, "key must be text, not %s", jsondoc.Describe(at.Value))
		return
	}
	rest := slices.DeleteFunc(slices.Clone(fields), func(m jsondoc.Member) bool { return m.Key == "key" })
	r.readFlag(key, at.Line, jsondoc.Node{Line: n.Line, Value: rest}, shared)
}

func (r *SetReader) readFlag(key string, line int, n jsondoc.Node, shared map[string]any) {
	d := &Definition{Key: key, Metadata: shared, File: r.file, Line: line}
	if err := CheckKey(key); err != nil {
		r.Fault(jsondoc.WrongName, line, "%.60q can't be a flag's key: %v", key, err)
		return
	}
	r.Flags = append(r.Flags, d)
	if r.Bytes > r.bounds.setBytes { // already a fault
		d.Metadata = nil
		return
	}
	r.flagBytes = encodedSize(key)
	fields, ok := r.mappingMembers(n, "flag "+jsondoc.Clip(key), "state", "variants", "defaultVariant",
		"targeting", "metadata")
	if !ok {
		return
	}
	switch state := fields.Get("state"); {
	case state == nil:
		r.Fault(jsondoc.Missing, line, "flag %s: state is required: ENABLED or DISABLED", key)
	case state.Value != "ENABLED" && state.Value != "DISABLED":
		r.Fault(jsondoc.WrongValue, state.Line,
			"flag %s: state must be ENABLED or DISABLED, not %s", key, jsondoc.Describe(state.Value))
	default:
		d.Disabled = state.Value == "DISABLED"
	}
	switch m := fields.Get("variants"); {
	case m == nil:
		r.Fault(jsondoc.Missing, line, "flag %s: variants is required: the values it can have, by name", key)
	default:
		size, _ := measureNode(m.Node)
		if variants, ok := r.mappingMembers(m.Node, "variants"); ok && r.reserveBytes(m.Line, size.bytes) {
			d.Variants, _ = m.PlainValue().(map[string]any)
			if len(variants) == 0 {
				r.Fault(jsondoc.Missing, m.Line, "flag %s: variants is empty: a flag needs at least one", key)
			}
			if r.linter != nil {
				r.linter.Variants(d, variants)
			}
		}
	}
	r.readDefaultVariant(d, fields.Get("defaultVariant"))
	if m := fields.Get("metadata"); m != nil {
		d.Metadata = r.readMetadata(m.Node, shared)
	}
	size := 0
	for name, v := range d.Metadata {
		size += encodedSize(name) + encodedSize(v)
	}
	if !r.reserveBytes(line, size) {
		d.Metadata = nil // shared metadata may be as large for every flag
		return
	}
	if r.linter != nil {
		r.linter.Metadata(d, line, fields.Get("metadata"))
	}
	if m := fields.Get("targeting"); m != nil {
		r.readTargeting(d, m.Node)
	}
}

// reserveBytes adds to the size of the current flag and reports whether the flag and the file are still within bounds.
func (r *SetReader) reserveBytes(line, bytes int) bool {
	r.flagBytes, r.Bytes = r.flagBytes+bytes, r.Bytes+bytes
	switch {
	case r.flagBytes > r.bounds.flagBytes:
		r.Fault(jsondoc.TooLarge, line,
			"the flag has more than %d KiB, references and the set's metadata written out: make it smaller",
			r.bounds.flagBytes>>10)
	case r.Bytes > r.bounds.setBytes:
		r.Fault(jsondoc.TooLarge, line,
			"the file has more than %d MiB, references and metadata written out with each flag: make what its "+
				"flags share smaller",
			r.bounds.setBytes>>20)
	default:
		return true
	}
	return false
}

func (r *SetReader) readDefaultVariant(d *Definition, m *jsondoc.Member) {
	if m == nil || m.Value == nil { // as in flagd, callers get the default in their code
		return
	}
	name, ok := m.Value.(string)
	switch {
	case !ok:
		r.Fault(jsondoc.WrongType, m.Line,
			"flag %s: defaultVariant must be the name of a variant, as text, not %s: put it in quotes",
			d.Key, jsondoc.Describe(m.Value))
		return
	case name == "" && r.linter != nil:
		r.Fault(jsondoc.Missing, m.Line, "flag %s: defaultVariant is empty: name a variant", d.Key)
	}
	d.DefaultVariant = name
	if _, ok := d.Variants[name]; !ok && name != "" && len(d.Variants) > 0 {
		r.Fault(jsondoc.UnknownReference, m.Line,
			"flag %s: there is no variant %.60q for defaultVariant; there are: %s", d.Key, name, d.VariantNames())
	}
}

// readMetadata reads the metadata of a flag or a set, over inherited metadata.
func (r *SetReader) readMetadata(n jsondoc.Node, over map[string]any) map[string]any {
	own, ok := r.mappingMembers(n, "metadata")
	if !ok {
		return over
	}
	all := make(map[string]any, len(own)+len(over))
	maps.Copy(all, over)
	for _, m := range own {
		switch m.Value.(type) {
		case bool, float64, string:
			all[m.Key] = m.Value
		default:
			r.Fault(jsondoc.WrongType, m.Line, "metadata %.60q must be text, a number, true or false, not %s", m.Key,
				jsondoc.Describe(m.Value))
		}
	}
	return all
}

// readTargeting reads a flag's rule, resolves references and stores the canonical form. An empty mapping is no rule.
func (r *SetReader) readTargeting(d *Definition, n jsondoc.Node) {
	rules, ok := n.Value.(jsondoc.Members)
	if !ok {
		r.Fault(jsondoc.WrongType, n.Line,
			"flag %s: targeting must be a rule, a mapping, not %s; leave it out if there is none",
			d.Key, jsondoc.Describe(n.Value))
		return
	}
	if len(rules) == 0 {
		return
	}
	resolved, ok := r.resolveReferences(n)
	if !ok {
		return
	}
	d.Targeting = jsondoc.AppendNode(nil, resolved)
	if r.linter != nil {
		r.linter.Targeting(d, resolved)
	}
}

// VariantNames returns the names of the first variants, for messages.
func (d *Definition) VariantNames() string {
	names := slices.Sorted(maps.Keys(d.Variants))
	const few = 8
	if len(names) > few {
		names = append(names[:few:few], "…")
	}
	return jsondoc.Clip(strings.Join(names, ", "))
}

// CheckKey returns why a flag can't have the key; nil: it can. Keys become parts of paths and file names.
func CheckKey(key string) error {
	switch {
	case key == "" || key == ".":
		return errors.New("it must not be empty or a dot")
	case len(key) > MaxKey:
		return fmt.Errorf("it has more than %d bytes", MaxKey)
	case strings.Contains(key, "/"):
		return errors.New("it contains a slash")
	case strings.Contains(key, ".."):
		return errors.New("it contains two dots in a row")
	case strings.TrimSpace(key) != key:
		return errors.New("it begins or ends with a space")
	}
	for _, c := range key {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return fmt.Errorf("it contains the invisible character %U", c)
		}
	}
	return nil
}

// Shut returns d fixed to its off variant.
func (d *Definition) Shut() *Definition {
	out := *d
	out.Targeting = nil
	if _, ok := d.Variants[d.Off()]; ok {
		out.DefaultVariant = d.Off()
	}
	return &out
}

// Encode returns the definition in flagd's form, with references resolved, in canonical form: equal definitions have
// equal bytes.
func (d *Definition) Encode() json.RawMessage {
	b := append([]byte(nil), `{`...)
	if d.DefaultVariant != "" {
		b = append(jsondoc.AppendString(append(b, `"defaultVariant":`...), d.DefaultVariant), ',')
	}
	if len(d.Metadata) > 0 {
		b = append(jsondoc.AppendValue(append(b, `"metadata":`...), d.Metadata), ',')
	}
	state := "ENABLED"
	if d.Disabled {
		state = "DISABLED"
	}
	b = jsondoc.AppendString(append(b, `"state":`...), state)
	if len(d.Targeting) > 0 {
		b = append(append(b, `,"targeting":`...), d.Targeting...)
	}
	b = jsondoc.AppendValue(append(b, `,"variants":`...), d.Variants)
	return append(b, '}')
}
