package flags

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/sluice-cd/sluice/internal/manifest"
)

const (
	maxFlags = 20_000   // in a repository
	maxKey   = 200      // bytes of a flag's key: overrides/kill-KEY.yaml must be a file's name
	maxText  = 16 << 10 // bytes of one text, in rules and in values

	maxAll = 24 << 20 // bytes of all definitions, see bounds: bundles have room for more

	maxFaults = 200 // of one file: a person mends those first
)

// bounds are those of definitions, with references and the set's metadata written out for each flag: files may be far smaller.
type bounds struct {
	depth, nodes int // of a rule. A rule is a mapping in which there mostly is a list: two levels
	flag, set    int // bytes of a flag, and of all in a file
}

// asWritten bounds what people write, and bundles have of it.
func asWritten() bounds { return bounds{depth: 64, nodes: 10_000, flag: 256 << 10, set: 8 << 20} }

// asSettled bounds flags with what a fold settles in them: a ramp around the rule, facts in the place of references to them.
func asSettled() bounds { return bounds{depth: 80, nodes: 50_000, flag: 2 << 20, set: MaxBundle} }

// set is a file of definitions as it was read. It may come from a cache: immutable.
type set struct {
	flags  []*Definition // in the file's order
	faults []manifest.Fault
	bytes  int // of the flags written out, at most
}

// readSet reads one of flagd's flag sets. It looks at nothing but the file.
func readSet(file string, data []byte) set {
	r := newSetReader(file, asWritten())
	r.strict = true
	if root, ok := r.parse(data); ok {
		r.set(root)
	}
	return set{r.flags, manifest.Sort(r.faults), r.bytes}
}

// ParseDefinition reads one flag as Encode gives it. Unlike Load it takes a flag without a default variant, as flagd does,
// and leaves aside what is no fault of form. The error is the first fault.
func ParseDefinition(key string, raw []byte) (*Definition, error) {
	return parseDefinition(key, raw, asWritten())
}

func parseDefinition(key string, raw []byte, b bounds) (*Definition, error) {
	r := newSetReader("flag.json", b)
	if root, ok := r.parse(raw); ok {
		r.flag(key, root.Line, root, nil)
	}
	for _, f := range manifest.Sort(r.faults) {
		if !f.Warning {
			return nil, fmt.Errorf("flag %.100q: %s", key, f.Message)
		}
	}
	d := r.flags[0]
	d.File, d.Line = "", 0
	return d, nil
}

// setReader reads one file. Of lines that could not be parsed it says nothing more: it would most likely follow from that.
type setReader struct {
	file   string
	bounds bounds
	strict bool // as Load reads: what is well formed is also looked at for sense
	flags  []*Definition
	faults []manifest.Fault
	bad    map[int]bool // lines that could not be parsed
	shared references

	bytes, flagBytes int // of the flags, and of the one that is being read, written out
}

func newSetReader(file string, b bounds) *setReader {
	return &setReader{file: file, bounds: b, bad: map[int]bool{}, shared: references{}}
}

func (r *setReader) parse(data []byte) (root manifest.Node, ok bool) {
	const lines = 100_000 // of YAML: 0.2 s
	root, r.faults = manifest.Free(r.file, data, manifest.FreeLimits{Entries: lines, Depth: r.bounds.depth + 16, Text: maxText})
	for _, f := range r.faults {
		r.bad[f.Line] = r.bad[f.Line] || !f.Warning
	}
	return root, !r.bad[0] && root.Line > 0
}

func (r *setReader) fault(line int, format string, args ...any) { r.say(false, line, format, args...) }

func (r *setReader) warn(line int, format string, args ...any) { r.say(true, line, format, args...) }

func (r *setReader) say(warning bool, line int, format string, args ...any) {
	switch {
	case r.bad[line] || len(r.faults) > maxFaults:
		return
	case len(r.faults) == maxFaults:
		warning, format, args = false, "and more: mend these first", nil
	}
	r.faults = append(r.faults, manifest.Fault{File: r.file, Line: line, Message: fmt.Sprintf(format, args...), Warning: warning})
}

// members gives a mapping's members, of which only those that are named may be there. Without names, all may.
func (r *setReader) members(n manifest.Node, what string, names ...string) (manifest.Members, bool) {
	all, ok := n.Value.(manifest.Members)
	if !ok {
		r.fault(n.Line, "%s must be a mapping, not %s", what, describe(n.Value))
		return nil, false
	}
	for _, m := range all {
		if len(names) > 0 && !slices.Contains(names, m.Key) {
			r.fault(m.Line, "unknown field %.60q in %s; there are: %s", m.Key, what, strings.Join(names, ", "))
		}
	}
	return all, true
}

func (r *setReader) set(root manifest.Node) {
	top, ok := r.members(root, "a flag set", "flags", "$evaluators", "metadata", "$schema")
	if !ok {
		return
	}
	if m := top.Get("$evaluators"); m != nil {
		r.evaluators(m.Node)
	}
	var metadata map[string]any
	if m := top.Get("metadata"); m != nil {
		metadata = r.metadata(m.Node, nil)
	}
	flags := top.Get("flags")
	if flags == nil {
		r.fault(root.Line, "flags is required: a flag set without any says flags: {}")
		return
	}
	switch all := flags.Value.(type) {
	case manifest.Members:
		for _, m := range all {
			r.flag(m.Key, m.Line, m.Node, metadata)
		}
	case []manifest.Node:
		for _, n := range all {
			r.listed(n, metadata)
		}
	default:
		r.fault(flags.Line, "flags must be a mapping, not %s", describe(flags.Value))
	}
}

// listed reads a flag of flagd's other form, a list of flags that name their keys.
func (r *setReader) listed(n manifest.Node, shared map[string]any) {
	fields, ok := n.Value.(manifest.Members)
	at := fields.Get("key")
	if !ok || at == nil {
		r.fault(n.Line, "a flag in a list needs its key")
		return
	}
	key, ok := at.Value.(string)
	if !ok {
		r.fault(at.Line, "key must be text, not %s", describe(at.Value))
		return
	}
	rest := slices.DeleteFunc(slices.Clone(fields), func(m manifest.Member) bool { return m.Key == "key" })
	r.flag(key, at.Line, manifest.Node{Line: n.Line, Value: rest}, shared)
}

// flag reads one flag. It is among the flags even if it has faults, so that what else names it has none for that.
func (r *setReader) flag(key string, line int, n manifest.Node, shared map[string]any) {
	d := &Definition{Key: key, Metadata: shared, File: r.file, Line: line}
	if err := CheckKey(key); err != nil {
		r.fault(line, "%.60q can't be a flag's key: %v", key, err)
		return
	}
	r.flags = append(r.flags, d)
	if r.bytes > r.bounds.set { // that was said
		d.Metadata = nil
		return
	}
	r.flagBytes = width(key)
	fields, ok := r.members(n, "flag "+clip(key), "state", "variants", "defaultVariant", "targeting", "metadata")
	if !ok {
		return
	}
	switch state := fields.Get("state"); {
	case state == nil:
		r.fault(line, "flag %s: state is required: ENABLED or DISABLED", key)
	case state.Value != "ENABLED" && state.Value != "DISABLED":
		r.fault(state.Line, "flag %s: state must be ENABLED or DISABLED, not %s", key, describe(state.Value))
	default:
		d.Disabled = state.Value == "DISABLED"
	}
	switch m := fields.Get("variants"); {
	case m == nil:
		r.fault(line, "flag %s: variants is required: the values it can have, by name", key)
	default:
		size, _ := measure(m.Node)
		if variants, ok := r.members(m.Node, "variants"); ok && r.take(m.Line, size.bytes) {
			d.Variants, _ = value(m.Node).(map[string]any)
			r.checkVariants(d, m.Line, variants)
		}
	}
	r.defaultVariant(d, line, fields.Get("defaultVariant"))
	if m := fields.Get("metadata"); m != nil {
		d.Metadata = r.metadata(m.Node, shared)
	}
	size := 0
	for name, v := range d.Metadata {
		size += width(name) + width(v)
	}
	if !r.take(line, size) {
		d.Metadata = nil // which may be as much for each flag
		return
	}
	r.checkMetadata(d, line, fields.Get("metadata"))
	if m := fields.Get("targeting"); m != nil {
		r.targeting(d, m.Node)
	}
}

// take counts so many bytes more of the flag that is being read. It tells whether there is room for them.
func (r *setReader) take(line, bytes int) bool {
	r.flagBytes, r.bytes = r.flagBytes+bytes, r.bytes+bytes
	switch {
	case r.flagBytes > r.bounds.flag:
		r.fault(line, "the flag has more than %d KiB, references and the set's metadata written out: make it smaller", r.bounds.flag>>10)
	case r.bytes > r.bounds.set:
		r.fault(line, "the file has more than %d MiB, references and metadata written out with each flag: make what its flags share smaller", r.bounds.set>>20)
	default:
		return true
	}
	return false
}

func (r *setReader) defaultVariant(d *Definition, line int, m *manifest.Member) {
	if m == nil || m.Value == nil {
		if m != nil {
			line = m.Line
		}
		if r.strict {
			r.fault(line, "flag %s: defaultVariant is required: without it callers would get whatever their code says", d.Key)
		}
		return
	}
	name, ok := m.Value.(string)
	switch {
	case !ok:
		r.fault(m.Line, "flag %s: defaultVariant must be the name of a variant, as text, not %s: put it in quotes", d.Key, describe(m.Value))
		return
	case name == "" && r.strict:
		r.fault(m.Line, "flag %s: defaultVariant is empty: name a variant", d.Key)
	}
	d.DefaultVariant = name
	if _, ok := d.Variants[name]; !ok && name != "" && len(d.Variants) > 0 {
		r.fault(m.Line, "flag %s: there is no variant %.60q for defaultVariant; there are: %s", d.Key, name, d.variantNames())
	}
}

// metadata reads the metadata of a flag, over those of its set, or of a set.
func (r *setReader) metadata(n manifest.Node, over map[string]any) map[string]any {
	own, ok := r.members(n, "metadata")
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
			r.fault(m.Line, "metadata %.60q must be text, a number, true or false, not %s", m.Key, describe(m.Value))
		}
	}
	return all
}

// targeting reads a flag's rules: references resolved, in one form. Without any rule it stays empty.
func (r *setReader) targeting(d *Definition, n manifest.Node) {
	rules, ok := n.Value.(manifest.Members)
	if !ok {
		r.fault(n.Line, "flag %s: targeting must be a rule, a mapping, not %s; leave it out if there is none", d.Key, describe(n.Value))
		return
	}
	if len(rules) == 0 {
		return
	}
	resolved, ok := r.resolve(n)
	if !ok {
		return
	}
	d.Targeting = appendNode(nil, resolved)
	if r.strict {
		r.checkRules(d, resolved)
	}
}

func (d *Definition) variantNames() string {
	names := slices.Sorted(maps.Keys(d.Variants))
	const few = 8
	if len(names) > few {
		names = append(names[:few:few], "…")
	}
	return clip(strings.Join(names, ", "))
}

// CheckKey says why a flag can't have that key; nil: it can. Keys become parts of paths, and names of files.
func CheckKey(key string) error {
	switch {
	case key == "" || key == ".":
		return errors.New("it needs one that says something")
	case len(key) > maxKey:
		return fmt.Errorf("it has more than %d bytes", maxKey)
	case strings.Contains(key, "/"):
		return errors.New("it has a slash")
	case strings.Contains(key, ".."):
		return errors.New("it has two dots in a row")
	case strings.TrimSpace(key) != key:
		return errors.New("it begins or ends with a space")
	}
	for _, c := range key {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return fmt.Errorf("it has the character %U, which can't be seen", c)
		}
	}
	return nil
}
