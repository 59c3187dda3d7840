package manifest

import (
	"encoding"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

func (d *decoder) decodeText(n *yaml.Node, v reflect.Value) {
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		d.fault(WrongValue, n, "%s: %s", d.fieldPath(), err)
	}
}

func (d *decoder) decodeScalar(p *decodePlan, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fault(WrongType, n, "%s must be %s, not %s", d.fieldPath(), p.describeType(), describeNode(n))
		return
	}
	wrong := func() {
		d.fault(WrongType, n, "%s must be %s, not %s", d.fieldPath(), p.describeType(), describeNode(n))
	}
	tag := n.ShortTag()
	switch p.kind {
	case readText:
		d.decodeText(n, v)
	case readString:
		if tag != "!!str" && tag != "!!timestamp" {
			d.fault(WrongType, n, "%s must be text, not %s: put it in quotes", d.fieldPath(), describeNode(n))
			return
		}
		v.SetString(n.Value)
	case readBool:
		x, ok := parseBool(n.Value)
		if tag != "!!bool" || !ok {
			wrong()
			return
		}
		v.SetBool(x)
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
		if tag != "!!int" && tag != "!!float" || n.Decode(&x) != nil || math.IsNaN(x) || math.IsInf(x, 0) ||
			v.OverflowFloat(x) {
			wrong()
			return
		}
		v.SetFloat(x)
	case readDuration:
		x, err := parseDuration(n.Value)
		if err != nil || x < 0 {
			d.fault(WrongValue, n,
				"%s must be a length of time such as 30m, 24h or 7d, not %q", d.fieldPath(), jsondoc.Clip(n.Value))
			return
		}
		v.SetInt(int64(x))
	case readTime:
		x, err := time.Parse(time.RFC3339, n.Value)
		if err != nil {
			d.fault(WrongValue, n, "%s must be an instant such as 2026-12-20T00:00:00Z (RFC 3339), not %q",
				d.fieldPath(), jsondoc.Clip(n.Value))
			return
		}
		v.Set(reflect.ValueOf(x))
	}
}

// decodeAny reads what JSON can express: text, whole numbers up to 2^53, other numbers, bools, lists and mappings.
func (d *decoder) decodeAny(n *yaml.Node) any {
	anyPlan := decodePlanOf(reflect.TypeFor[any]())
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.decodeMap(decodePlanOf(reflect.TypeFor[map[string]any]()), n, reflect.ValueOf(&m).Elem())
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
		if x, ok := parseBool(n.Value); ok {
			return x
		}
		d.fault(WrongType, n, "%s must be true or false, not %s", d.fieldPath(), describeNode(n))
	case "!!int":
		var x int64
		if n.Decode(&x) == nil && x <= jsondoc.MaxInteger && x >= -jsondoc.MaxInteger {
			return int(x)
		}
		d.fault(WrongValue, n, "%s is a number too large to be exact: put it in quotes", d.fieldPath())
	case "!!float":
		var x float64
		if n.Decode(&x) == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
			return x
		}
		d.fault(WrongValue, n, "%s must be a finite number, not %s", d.fieldPath(), describeNode(n))
	default:
		d.fault(Syntax, n, "%s has a YAML tag (%s) that is not read", d.fieldPath(), jsondoc.Clip(n.Tag))
	}
	return nil
}

// parseBool reads a bool in YAML's notation, whatever the tag.
func parseBool(s string) (value, ok bool) {
	switch s {
	case "true", "True", "TRUE":
		return true, true
	case "false", "False", "FALSE":
		return false, true
	}
	return false, false
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
