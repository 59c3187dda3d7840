package manifest

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

const (
	maxDepth   = 64     // of nesting, aliases included
	maxAliased = 10_000 // nodes reached through aliases, in one document
)

// decoder decodes the nodes of one document according to a plan.
type decoder struct {
	jsondoc.Checker
	path    []string // of the field being read, for messages
	inAlias int
	aliased int
}

func (d *decoder) fault(code FaultCode, n *yaml.Node, format string, args ...any) {
	d.Fault(code, n.Line, format, args...)
}

// countAliased counts a node that is reached through an alias, at any depth, and reports whether to read on.
func (d *decoder) countAliased(line int) bool {
	if d.inAlias > 0 {
		if d.aliased++; d.aliased > maxAliased {
			d.Stop(TooLarge, line, "aliases expand to more than %d nodes", maxAliased)
		}
	}
	return !d.Stopped()
}

// fieldPath returns the path of the field being read, for the beginning of a message.
func (d *decoder) fieldPath() string {
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

// decode reads n into v as p says, and reports whether there is a value: null is none.
func (d *decoder) decode(p *decodePlan, n *yaml.Node, v reflect.Value) (present bool) {
	if d.Stopped() {
		return true
	}
	defer d.Leave()
	d.Enter(n.Line)
	if n.Kind == yaml.AliasNode {
		d.inAlias++
		defer func() { d.inAlias-- }()
		n = n.Alias
	}
	if !d.countAliased(n.Line) {
		return true
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return false
	}
	switch p.kind {
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

func (d *decoder) decodeStruct(p *decodePlan, n *yaml.Node, v reflect.Value) {
	if p.text && n.Kind == yaml.ScalarNode {
		d.decodeText(n, v)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fault(WrongType, n, "%s must be a mapping of fields, not %s", d.fieldPath(), describeNode(n))
		return
	}
	var seen, present uint64
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at, ok := p.byName[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			d.addUnknownField(p, key)
			continue
		}
		if seen&(1<<at) != 0 {
			d.fault(Duplicate, key, "%q is there twice", key.Value)
			continue
		}
		seen |= 1 << at
		f := &p.fields[at]
		d.path = append(d.path, f.name)
		target := v.Field(f.index)
		before := len(d.Faults)
		if d.decode(f.plan, n.Content[i+1], target) &&
			!(f.required && target.Kind() == reflect.String && target.Len() == 0 && len(d.Faults) == before) {
			present |= 1 << at
			if len(d.Faults) == before {
				d.constrain(f, n.Content[i+1], target)
			}
		}
		d.path = d.path[:len(d.path)-1]
	}
	for at := range p.fields {
		if f := &p.fields[at]; f.required && present&(1<<at) == 0 {
			d.path = append(d.path, f.name)
			d.fault(Missing, n, "%s is required", d.fieldPath())
			d.path = d.path[:len(d.path)-1]
		}
	}
}

func (d *decoder) decodeMap(p *decodePlan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fault(WrongType, n, "%s must be a mapping, not %s", d.fieldPath(), describeNode(n))
		return
	}
	v.Set(reflect.MakeMapWithSize(p.typ, len(n.Content)/2))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := d.decodeKey(n.Content[i])
		if !ok {
			continue
		}
		k := reflect.ValueOf(key).Convert(p.typ.Key())
		if v.MapIndex(k).IsValid() {
			d.fault(Duplicate, n.Content[i], "%q is there twice", jsondoc.Clip(key))
			continue
		}
		d.path = append(d.path, key)
		elem := reflect.New(p.elem.typ).Elem()
		d.decode(p.elem, n.Content[i+1], elem)
		v.SetMapIndex(k, elem)
		d.path = d.path[:len(d.path)-1]
	}
}

// decodeKey returns a mapping's key, which must be text that is not empty.
func (d *decoder) decodeKey(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "<<" && n.Style == 0:
		d.fault(Syntax, n, "merge keys (<<) are not read: write the fields out")
	case n.Kind != yaml.ScalarNode || n.Value == "" || n.ShortTag() == "!!null":
		d.fault(WrongType, n, "a key must be text")
	default:
		return n.Value, true
	}
	return "", false
}

func (d *decoder) decodeSlice(p *decodePlan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fault(WrongType, n, "%s must be a list, not %s", d.fieldPath(), describeNode(n))
		return
	}
	s := reflect.MakeSlice(p.typ, len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.path = append(d.path, "["+strconv.Itoa(i)+"]")
		if !d.decode(p.elem, c, s.Index(i)) {
			d.fault(Missing, c, "%s is empty", d.fieldPath())
		}
		d.path = d.path[:len(d.path)-1]
	}
	v.Set(s)
}

// constrain checks a value against its field's enum and bounds.
func (d *decoder) constrain(f *field, n *yaml.Node, v reflect.Value) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if f.enum != nil {
		switch v.Kind() {
		case reflect.String:
			if !slices.Contains(f.enum, v.String()) {
				d.fault(WrongValue, n,
					"%s must be %s, not %q", d.fieldPath(), strings.Join(f.enum, " or "), jsondoc.Clip(v.String()))
			}
		case reflect.Slice:
			for i := range v.Len() {
				if s := v.Index(i).String(); !slices.Contains(f.enum, s) {
					d.fault(WrongValue, n,
						"%s must each be %s, not %q", d.fieldPath(), strings.Join(f.enum, " or "), jsondoc.Clip(s))
				}
			}
		}
	}
	if f.positive && v.CanInt() && v.Int() <= 0 {
		d.fault(WrongValue, n, "%s must be more than 0; without it the default holds", d.fieldPath())
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
		d.fault(WrongValue, n, "%s must be at least %v, not %v", d.fieldPath(), *f.minimum, x)
	}
	if f.maximum != nil && x > *f.maximum {
		d.fault(WrongValue, n, "%s must be at most %v, not %v", d.fieldPath(), *f.maximum, x)
	}
}
