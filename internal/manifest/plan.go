package manifest

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// plan says how a Go type is read: computed once for a type.
type plan struct {
	typ    reflect.Type
	read   reader
	elem   *plan   // pointer, slice, map
	fields []field // struct
	byName map[string]int
	text   bool // a struct that may be written as one word too, which its UnmarshalText reads
}

type reader int

const (
	readText   reader = iota // UnmarshalText
	readString               // and the basic kinds
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
	plan             *plan
	required         bool
	enum             []string
	minimum, maximum *float64
	doc              string
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// plans holds the plan of each type read so far. It is a global because types are constants of the program: the entries
// never change, and are as many as document types. Otherwise every file would pay for reflection again.
var plans sync.Map // reflect.Type to *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	making := map[reflect.Type]*plan{}
	p := makePlan(t, making)
	for t, p := range making {
		plans.LoadOrStore(t, p)
	}
	return p
}

// makePlan makes a type's plan; making has the unfinished plans, so that types may contain themselves. It panics on a
// type that no document can have: a programming error, found by the first test that decodes it.
func makePlan(t reflect.Type, making map[reflect.Type]*plan) *plan {
	if p, ok := making[t]; ok {
		return p
	}
	p := &plan{typ: t}
	making[t] = p
	switch {
	case t == timeType:
		p.read = readTime
	case t == durationType:
		p.read = readDuration
	case t.Kind() == reflect.Pointer:
		p.read, p.elem = readPointer, makePlan(t.Elem(), making)
	case reflect.PointerTo(t).Implements(textType):
		if p.read = readText; t.Kind() == reflect.Struct {
			if p.readFields(making); len(p.fields) > 0 {
				p.read, p.text = readStruct, true
			}
		}
	default:
		p.readKind(making)
	}
	return p
}

func (p *plan) readKind(making map[reflect.Type]*plan) {
	switch t := p.typ; t.Kind() {
	case reflect.String:
		p.read = readString
	case reflect.Bool:
		p.read = readBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.read = readInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.read = readUint
	case reflect.Float32, reflect.Float64:
		p.read = readFloat
	case reflect.Interface:
		p.read = readAny
	case reflect.Slice:
		p.read, p.elem = readSlice, makePlan(t.Elem(), making)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic("manifest: " + t.String() + ": only string keys can be read")
		}
		p.read, p.elem = readMap, makePlan(t.Elem(), making)
	case reflect.Struct:
		p.read = readStruct
		p.readFields(making)
	default:
		panic("manifest: " + t.String() + " can't be read from YAML")
	}
}

func (p *plan) readFields(making map[reflect.Type]*plan) {
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
			plan:     makePlan(f.Type, making),
			required: f.Tag.Get("required") == "true",
			enum:     words(f.Tag.Get("enum")),
			minimum:  bound(f, "minimum"),
			maximum:  bound(f, "maximum"),
			doc:      f.Tag.Get("doc"),
		})
	}
	if len(p.fields) > 64 {
		panic("manifest: " + p.typ.String() + " has more than 64 fields")
	}
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func bound(f reflect.StructField, tag string) *float64 {
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
