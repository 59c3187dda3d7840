package manifest

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxDepth   = 64     // of nesting, aliases included
	maxAliased = 10_000 // nodes reached through aliases, in one document
	maxFaults  = 100    // of one document; a person mends those first
	maxInteger = 1 << 53
)

// decoder follows a plan through the nodes of one document.
type decoder struct {
	file    string
	faults  []Fault
	path    []string // of the field being read, for messages
	depth   int
	inAlias int
	aliased int
	stopped bool
}

func (d *decoder) fault(n *yaml.Node, format string, args ...any) {
	if d.stopped {
		return
	}
	if len(d.faults) == maxFaults {
		d.stopped = true
		format, args = "and more: mend these first", nil
	}
	d.faults = append(d.faults, Fault{File: d.file, Line: n.Line, Message: fmt.Sprintf(format, args...)})
}

// name gives the field being read, for the beginning of a message.
func (d *decoder) name() string {
	if len(d.path) == 0 {
		return "the document"
	}
	var b strings.Builder
	for i, p := range d.path {
		if i > 0 && p[0] != '[' {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

// decode reads n into v as p says. It tells whether something was there: null is not.
func (d *decoder) decode(p *plan, n *yaml.Node, v reflect.Value) (present bool) {
	if d.stopped {
		return true
	}
	if d.depth++; d.depth > maxDepth {
		d.fault(n, "nests deeper than %d levels", maxDepth)
		d.stopped = true
	}
	defer func() { d.depth-- }()
	if n.Kind == yaml.AliasNode {
		d.inAlias++
		defer func() { d.inAlias-- }()
		n = n.Alias
	}
	if d.inAlias > 0 {
		if d.aliased++; d.aliased > maxAliased {
			d.fault(n, "aliases expand to more than %d nodes", maxAliased)
			d.stopped = true
		}
	}
	if d.stopped {
		return true
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return false
	}
	switch p.read {
	case readPointer:
		if v.IsNil() {
			v.Set(reflect.New(p.typ.Elem()))
		}
		return d.decode(p.elem, n, v.Elem())
	case readStruct:
		d.decodeStruct(p, n, v)
	case readMap:
		d.decodeMap(p, n, v)
	case readSlice:
		d.decodeSlice(p, n, v)
	case readAny:
		if x := d.decodeAny(n); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.decodeScalar(p, n, v)
	}
	return true
}

func (d *decoder) decodeStruct(p *plan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "%s must be a mapping of fields, not %s", d.name(), describe(n))
		return
	}
	var seen, present uint64
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at, ok := p.byName[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			d.unknown(p, key)
			continue
		}
		if seen&(1<<at) != 0 {
			d.fault(key, "%q is there twice", key.Value)
			continue
		}
		seen |= 1 << at
		f := &p.fields[at]
		d.path = append(d.path, f.name)
		target := v.Field(f.index)
		before := len(d.faults)
		if d.decode(f.plan, n.Content[i+1], target) && !(f.required && target.Kind() == reflect.String && target.Len() == 0 && len(d.faults) == before) {
			present |= 1 << at
			if len(d.faults) == before {
				d.constrain(f, n.Content[i+1], target)
			}
		}
		d.path = d.path[:len(d.path)-1]
	}
	for at := range p.fields {
		if f := &p.fields[at]; f.required && present&(1<<at) == 0 {
			d.path = append(d.path, f.name)
			d.fault(n, "%s is required", d.name())
			d.path = d.path[:len(d.path)-1]
		}
	}
}

func (d *decoder) unknown(p *plan, key *yaml.Node) {
	if d.stopped {
		return
	}
	switch near := nearest(key.Value, p.fields); {
	case key.Kind != yaml.ScalarNode:
		d.fault(key, "a field's name must be text")
	case key.Value == "<<":
		d.fault(key, "merge keys (<<) are not read: write the fields out")
	case near != "":
		d.fault(key, "unknown field %q; did you mean %q?", clip(key.Value), near)
	default:
		names := make([]string, len(p.fields))
		for i := range p.fields {
			names[i] = p.fields[i].name
		}
		d.fault(key, "unknown field %q; there are: %s", clip(key.Value), strings.Join(names, ", "))
	}
}

func (d *decoder) decodeMap(p *plan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "%s must be a mapping, not %s", d.name(), describe(n))
		return
	}
	v.Set(reflect.MakeMapWithSize(p.typ, len(n.Content)/2))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := d.key(n.Content[i])
		if !ok {
			continue
		}
		k := reflect.ValueOf(key).Convert(p.typ.Key())
		if v.MapIndex(k).IsValid() {
			d.fault(n.Content[i], "%q is there twice", clip(key))
			continue
		}
		d.path = append(d.path, key)
		elem := reflect.New(p.elem.typ).Elem()
		d.decode(p.elem, n.Content[i+1], elem)
		v.SetMapIndex(k, elem)
		d.path = d.path[:len(d.path)-1]
	}
}

// key gives a mapping's key, which must be text that is not empty.
func (d *decoder) key(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "<<" && n.Style == 0:
		d.fault(n, "merge keys (<<) are not read: write the fields out")
	case n.Kind != yaml.ScalarNode || n.Value == "" || n.ShortTag() == "!!null":
		d.fault(n, "a key must be text")
	default:
		return n.Value, true
	}
	return "", false
}

func (d *decoder) decodeSlice(p *plan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, "%s must be a list, not %s", d.name(), describe(n))
		return
	}
	s := reflect.MakeSlice(p.typ, len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.path = append(d.path, "["+strconv.Itoa(i)+"]")
		if !d.decode(p.elem, c, s.Index(i)) {
			d.fault(c, "%s is empty", d.name())
		}
		d.path = d.path[:len(d.path)-1]
	}
	v.Set(s)
}

func (d *decoder) decodeScalar(p *plan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fault(n, "%s must be %s, not %s", d.name(), p.describe(), describe(n))
		return
	}
	wrong := func() { d.fault(n, "%s must be %s, not %s", d.name(), p.describe(), describe(n)) }
	tag := n.ShortTag()
	switch p.read {
	case readText:
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.fault(n, "%s: %s", d.name(), err)
		}
	case readString:
		if tag != "!!str" && tag != "!!timestamp" {
			d.fault(n, "%s must be text, not %s: put it in quotes", d.name(), describe(n))
			return
		}
		v.SetString(n.Value)
	case readBool:
		if tag != "!!bool" {
			wrong()
			return
		}
		v.SetBool(n.Value[0] == 't' || n.Value[0] == 'T')
	case readInt:
		var x int64
		if tag != "!!int" || n.Decode(&x) != nil || v.OverflowInt(x) {
			wrong()
			return
		}
		v.SetInt(x)
	case readUint:
		var x uint64
		if tag != "!!int" || n.Decode(&x) != nil || v.OverflowUint(x) {
			wrong()
			return
		}
		v.SetUint(x)
	case readFloat:
		var x float64
		if tag != "!!int" && tag != "!!float" || n.Decode(&x) != nil || math.IsNaN(x) || math.IsInf(x, 0) || v.OverflowFloat(x) {
			wrong()
			return
		}
		v.SetFloat(x)
	case readDuration:
		x, err := parseDuration(n.Value)
		if err != nil || x < 0 {
			d.fault(n, "%s must be a length of time such as 30m, 24h or 7d, not %q", d.name(), clip(n.Value))
			return
		}
		v.SetInt(int64(x))
	case readTime:
		x, err := time.Parse(time.RFC3339, n.Value)
		if err != nil {
			d.fault(n, "%s must be an instant such as 2026-12-20T00:00:00Z (RFC 3339), not %q", d.name(), clip(n.Value))
			return
		}
		v.Set(reflect.ValueOf(x))
	}
}

// decodeAny reads what JSON could say too: text, whole numbers up to 2^53, other numbers, bools, lists and mappings.
func (d *decoder) decodeAny(n *yaml.Node) any {
	anyPlan := planOf(reflect.TypeFor[any]())
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.decodeMap(planOf(reflect.TypeFor[map[string]any]()), n, reflect.ValueOf(&m).Elem())
		return m
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		for i, c := range n.Content {
			d.path = append(d.path, "["+strconv.Itoa(i)+"]")
			d.decode(anyPlan, c, reflect.ValueOf(&s[i]).Elem())
			d.path = d.path[:len(d.path)-1]
		}
		return s
	}
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!bool":
		return n.Value[0] == 't' || n.Value[0] == 'T'
	case "!!int":
		var x int64
		if n.Decode(&x) == nil && x <= maxInteger && x >= -maxInteger {
			return int(x)
		}
		d.fault(n, "%s is a number too large to be exact: put it in quotes", d.name())
	case "!!float":
		var x float64
		if n.Decode(&x) == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
			return x
		}
		d.fault(n, "%s must be a finite number, not %s", d.name(), describe(n))
	default:
		d.fault(n, "%s has a YAML tag (%s) that is not read", d.name(), clip(n.Tag))
	}
	return nil
}

// constrain holds a value against its field's enum and bounds.
func (d *decoder) constrain(f *field, n *yaml.Node, v reflect.Value) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if f.enum != nil {
		switch v.Kind() {
		case reflect.String:
			if !slices.Contains(f.enum, v.String()) {
				d.fault(n, "%s must be %s, not %q", d.name(), strings.Join(f.enum, " or "), clip(v.String()))
			}
		case reflect.Slice:
			for i := range v.Len() {
				if s := v.Index(i).String(); !slices.Contains(f.enum, s) {
					d.fault(n, "%s must each be %s, not %q", d.name(), strings.Join(f.enum, " or "), clip(s))
				}
			}
		}
	}
	if f.minimum == nil && f.maximum == nil {
		return
	}
	var x float64
	switch {
	case v.CanInt():
		x = float64(v.Int())
	case v.CanUint():
		x = float64(v.Uint())
	case v.CanFloat():
		x = v.Float()
	default:
		return
	}
	if f.minimum != nil && x < *f.minimum {
		d.fault(n, "%s must be at least %v, not %v", d.name(), *f.minimum, x)
	}
	if f.maximum != nil && x > *f.maximum {
		d.fault(n, "%s must be at most %v, not %v", d.name(), *f.maximum, x)
	}
}

// parseDuration reads a Go duration, or whole days: 7d.
func parseDuration(s string) (time.Duration, error) {
	x, err := time.ParseDuration(s)
	if err == nil {
		return x, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, e := strconv.ParseUint(days, 10, 16); e == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return 0, err
}

// describe says what a node is, for people.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return fmt.Sprintf("the text %q", clip(n.Value))
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	}
	return fmt.Sprintf("%q", clip(n.Value))
}

func (p *plan) describe() string {
	switch p.read {
	case readBool:
		return "true or false"
	case readInt:
		return "a whole number"
	case readUint:
		return "a whole number of at least 0"
	case readFloat:
		return "a number"
	case readDuration:
		return "a length of time"
	case readTime:
		return "an instant"
	}
	return "text"
}

// clip keeps what a file says from filling a message.
func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// nearest gives the field that a mistyped name most likely means, if one is near.
func nearest(name string, fields []field) string {
	if len(name) > 40 {
		return ""
	}
	best, at := "", 0
	for i := range fields {
		dist := distance(strings.ToLower(name), strings.ToLower(fields[i].name))
		if dist <= max(1, (len(name)+1)/3) && (best == "" || cmp.Less(dist, at)) {
			best, at = fields[i].name, dist
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
