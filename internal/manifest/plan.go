package manifest

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// decodePlan says how a Go type is read: computed once for a type.
type decodePlan struct {
	typ    reflect.Type
	kind   valueKind
	elem   *decodePlan // pointer, slice, map
	fields []field     // struct
	byName map[string]int
	text   bool // a struct that may be written as one word too, which its UnmarshalText reads
}

type valueKind int

const (
	readText   valueKind = iota // UnmarshalText
	readString                  // and the basic kinds
	readBool
	readInt
	readUint
	readFloat
	readDuration
	readTime
	readAny
	readPointer
	readSlice
	readMap
	readStruct
)

type field struct {
	name             string
	index            int
	plan             *decodePlan
	required         bool
	enum             []string
	minimum, maximum *float64
	emptyIsAbsent    bool
	positive         bool
	doc              string
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// decodePlans holds the plan of each type read so far. It is a global because types are constants of the program: the
// entries never change, and are as many as document types. Otherwise every file would pay for reflection again.
var decodePlans sync.Map // reflect.Type to *plan

func decodePlanOf(t reflect.Type) *decodePlan {
	if p, ok := decodePlans.Load(t); ok {
		return p.(*decodePlan)
	}
	making := map[reflect.Type]*decodePlan{}
	p := makeDecodePlan(t, making)
	for t, p := range making {
		decodePlans.LoadOrStore(t, p)
	}
	return p
}

// makeDecodePlan makes a type's plan; making has the unfinished plans, so that types may contain themselves. It panics
// on a type that no document can have: a programming error, found by the first test that decodes it.
func makeDecodePlan(t reflect.Type, making map[reflect.Type]*decodePlan) *decodePlan {
	if p, ok := making[t]; ok {
		return p
	}
	p := &decodePlan{typ: t}
	making[t] = p
	switch {
	case t == timeType:
		p.kind = readTime
	case t == durationType:
		p.kind = readDuration
	case t.Kind() == reflect.Pointer:
		p.kind, p.elem = readPointer, makeDecodePlan(t.Elem(), making)
	case reflect.PointerTo(t).Implements(textType):
		if p.kind = readText; t.Kind() == reflect.Struct {
			if p.readFields(making); len(p.fields) > 0 {
				p.kind, p.text = readStruct, true
			}
		}
	default:
		p.readKind(making)
	}
	return p
}

func (p *decodePlan) readKind(making map[reflect.Type]*decodePlan) {
	switch t := p.typ; t.Kind() {
	case reflect.String:
		p.kind = readString
	case reflect.Bool:
		p.kind = readBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.kind = readInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.kind = readUint
	case reflect.Float32, reflect.Float64:
		p.kind = readFloat
	case reflect.Interface:
		p.kind = readAny
	case reflect.Slice:
		p.kind, p.elem = readSlice, makeDecodePlan(t.Elem(), making)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic("manifest: " + t.String() + ": only string keys can be read")
		}
		p.kind, p.elem = readMap, makeDecodePlan(t.Elem(), making)
	case reflect.Struct:
		p.kind = readStruct
		p.readFields(making)
	default:
		panic("manifest: " + t.String() + " can't be read from YAML")
	}
}

func (p *decodePlan) readFields(making map[reflect.Type]*decodePlan) {
	p.byName = map[string]int{}
	for i := range p.typ.NumField() {
		f := p.typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "" || name == "-" {
			continue
		}
		p.byName[name] = len(p.fields)
		p.fields = append(p.fields, field{
			name:     name,
			index:    i,
			plan:     makeDecodePlan(f.Type, making),
			required: f.Tag.Get("required") == "true",
			enum:     splitList(f.Tag.Get("enum")),
			minimum:  parseBound(f, "minimum"),
			maximum:  parseBound(f, "maximum"),
			doc:      f.Tag.Get("doc"),

			emptyIsAbsent: f.Tag.Get("empty") == "absent",
			positive:      f.Tag.Get("positive") == "true",
		})
	}
	if len(p.fields) > 64 {
		panic("manifest: " + p.typ.String() + " has more than 64 fields")
	}
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func parseBound(f reflect.StructField, tag string) *float64 {
	s, ok := f.Tag.Lookup(tag)
	if !ok {
		return nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic("manifest: " + f.Name + ": " + tag + " is not a number")
	}
	return &n
}
