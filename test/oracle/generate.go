package oracle

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
)

// generator makes flags and contexts that are likely to show a difference: half of the rules are what people write, the
// other half is anything that JSON can say. The same seed gives the same.
type generator struct{ *rand.Rand }

func newGenerator(seed, stream uint64) generator {
	return generator{rand.New(rand.NewPCG(seed, stream))}
}

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func list(items ...any) []any { return items }

func op(name string, args any) map[string]any { return map[string]any{name: args} }

// flag makes a flag.
func (g generator) flag() Flag {
	f := Flag{State: "ENABLED", Variants: g.variants(), DefaultVariant: "on"}
	switch g.IntN(12) {
	case 0:
		f.DefaultVariant = nil
	case 1:
		f.DefaultVariant = ""
	case 2:
		f.State = "DISABLED"
	case 3:
		f.Metadata = map[string]any{"feature": "x", "n": 1.5, "no": nil, "yes": true}
	}
	var rule any
	switch g.IntN(20) {
	case 0:
		return f
	case 1:
		rule = map[string]any{}
	case 2:
		rule = g.anything(3)
	case 3, 4, 5, 6, 7, 8:
		rule = g.chaos(4)
	default:
		rule = g.sensible(3)
	}
	text, err := json.Marshal(rule)
	if err != nil {
		panic(err) // the generator makes nothing that JSON can't say
	}
	f.Targeting = text
	return f
}

func (g generator) variants() map[string]any {
	v := map[string]any{"on": true, "off": false}
	switch g.IntN(8) {
	case 0:
		v = map[string]any{"on": "yes", "off": "no", "true": "t", "false": "f", "1": "one", "": "nothing", "null": "nil"}
	case 1:
		v = map[string]any{"on": 1.5, "off": math.Copysign(0, -1), "0": 0.0, "2": 2.0, "1e+21": 1e21, "[]": 3.0, "{}": 4.0}
	case 2:
		v = map[string]any{"on": map[string]any{"a": list(1.0, nil)}, "off": map[string]any{}, "[on]": map[string]any{"x": "y"}}
	case 3:
		v = map[string]any{"on": nil, "off": false, `\u003c`: true, "<": false, "ü": true, `a\nb`: true, " on ": true}
	case 4:
		v = map[string]any{"on": list(1.0), "off": 7.0, "true": "mixed", "false": nil, "[1,2]": 1.0}
	}
	return v
}

// context makes what a caller says of itself.
func (g generator) context() map[string]any {
	c := map[string]any{}
	if g.chance(80) {
		c["targetingKey"] = pick[any](g, "user-1", "user-2", "ü", "", 5.0, nil, "a long key of somebody who is not known to anybody", g.word())
	}
	for _, name := range []string{"email", "name", "version", "age", "n", "list", "groups", "user", "o", "empty", "rule", "ok", "a b"} {
		if g.chance(65) {
			c[name] = g.about(name)
		}
	}
	if g.chance(5) {
		c["$flagd"] = "mine"
	}
	if g.chance(15) {
		for name, v := range c {
			c[name] = g.native(v)
		}
	}
	return c
}

// native gives a value as a Go program may say it, which JSON makes the same of.
func (g generator) native(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int32(v)) {
			return pick[any](g, int(v), int64(v), int32(v), float32(v), v, json.Number("7"))
		}
	case string:
		return pick[any](g, v, &v, v+"\xff", []byte(v))
	case []any:
		native := make([]any, len(v))
		for i, item := range v {
			native[i] = g.native(item)
		}
		return native
	case map[string]any:
		if v["n"] != nil {
			return struct {
				N    any `json:"n"`
				Name any `json:"name"`
			}{g.native(v["n"]), v["name"]}
		}
	case bool:
		return map[string]bool{"a": v}
	}
	return v
}

// about gives a value such as a variable of this name mostly has.
func (g generator) about(name string) any {
	if g.chance(15) {
		return g.value(3)
	}
	switch name {
	case "email":
		return pick(g, "jo@example.com", "jo@example.org", "", "@example.com", "ünï@example.com")
	case "version":
		return pick[any](g, g.version(), g.version(), g.version(), 1.2, 2.0, nil)
	case "age", "n":
		return g.number()
	case "list":
		if g.chance(30) {
			return list(map[string]any{"n": g.number(), "name": g.word()}, map[string]any{"n": 1.0}, map[string]any{"name": "a"})
		}
		return g.values(4, 1)
	case "groups":
		return pick[any](g, list("beta", "staff"), list(), list("beta"), list(1.0, "1", true, nil), list(list(1.0, 5.0), "beta"))
	case "user":
		return map[string]any{"name": g.word(), "n": g.number(), "tags": list("a", "b"), "list": list(list(1.0), map[string]any{"n": 2.0})}
	case "o":
		return pick[any](g, map[string]any{}, map[string]any{"var": "name"}, map[string]any{"a": 1.0, "b": 2.0},
			map[string]any{"targetingKey": "k", "$flagd": map[string]any{"FlagKey": "other", "timestamp": 3.0}}, map[string]any{"cat": list("o", "n")})
	case "rule":
		return g.chaos(2)
	case "ok":
		return g.chance(50)
	}
	return g.word()
}

func (g generator) word() string {
	return pick(g, "", "  ", " a", "b ", "a", "on", "off", "null", "true", "0", "1", "1.0", " 1 ", "-3", "0x10", "1e3", "1e999", "Infinity", "NaN", "1_000",
		"ü", "日本語", "e\u0301", "\U0001F600", "a.b", ".", "\"", "\\", "<", "a\nb", " on ", "example.com", "beta", "list", "name", "\ufffd", "x y")
}

func (g generator) number() any {
	return pick(g, 0.0, math.Copysign(0, -1), 1.0, 2.0, 3.0, -1.0, 0.5, 1.5, -2.5, 10.0, 50.0, 100.0, 1e21, 1e-7, 1e308, -1e308, 9007199254740993.0,
		9223372036854775807.0, -9223372036854775808.0, 4294967296.0, 2147483647.0, 2147483648.0, 5e-324)
}

func (g generator) version() string {
	v := pick(g, "1", "1.2", "1.2.3", "v1.2.3", "V1.2.3", "2.0.0", "1.10.0", "1.2.3-rc.1", "1.2.3-rc.2", "1.2.3-rc.10", "1.2.3-rc", "1.2.3-rc.1.0",
		"1.2.3+build", "1.2.3-alpha+b.01", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3.4", "", "v", "x", "1.2.3-0a", "1.2-rc", "vv1", "Vv1",
		"99999999999999999999.0.0", "1.2.3-rc..1", "1.2.3-1", "1.2.3-é", " 1.2.3", "1.2.")
	return v
}

// value gives any JSON.
func (g generator) value(depth int) any {
	switch g.IntN(8) {
	case 0:
		return nil
	case 1:
		return g.chance(50)
	case 2, 3:
		return g.number()
	case 4, 5:
		return g.word()
	case 6:
		if depth > 0 {
			return g.values(3, depth-1)
		}
		return list()
	}
	o := map[string]any{}
	for depth > 0 && g.chance(60) && len(o) < 3 {
		o[pick(g, "a", "b", "n", "name", "list", "var", "0", "user", "")] = g.value(depth - 1)
	}
	return o
}

func (g generator) values(upTo, depth int) []any {
	items := list()
	for range g.IntN(upTo + 1) {
		items = append(items, g.value(depth))
	}
	return items
}

// variable gives a var.
func (g generator) variable() any {
	name := pick[any](g, "email", "name", "version", "age", "n", "list", "groups", "user", "user.name", "user.tags.0", "user.tags.x", "user.list.1.n",
		"user.tags.9", "user.tags.-1", "user.tags.1e0", "list.0", "o", "o.a", "empty", "rule", "ok", "absent", "absent.more", "name.more", "targetingKey",
		"$flagd.flagKey", "$flagd.timestamp", "$flagd", "", ".", ".n", "n.", "a b", "user..name", "accumulator", "current", "current.n", "valueType",
		0.0, 1.0, 1.5, -1.0, nil)
	switch g.IntN(10) {
	case 0:
		return op("var", list(name))
	case 1, 2:
		return op("var", list(name, g.value(1)))
	case 3:
		return op("var", pick[any](g, list(), list(name, 1.0, 2.0), true, op("cat", list("na", "me")), list(op("var", "name"), "d"), list("n", op("var", "age"))))
	}
	return op("var", name)
}

// anything gives rules, values, and lists and objects of both.
func (g generator) anything(depth int) any {
	if depth <= 0 {
		return pick[any](g, g.variable(), g.variable(), g.value(1), g.value(0), op(pick(g, "-", "/"), list()))
	}
	switch g.IntN(10) {
	case 0, 1, 2, 3:
		return g.chaos(depth)
	case 4, 5:
		return g.variable()
	case 6:
		items := list()
		for range g.IntN(4) {
			items = append(items, g.anything(depth-1))
		}
		return items
	case 7:
		return map[string]any{"a": g.anything(depth - 1), pick(g, "b", "var"): g.anything(depth - 1)}
	}
	return g.value(2)
}

func operators() []string {
	return strings.Fields(`== != === !== < <= > >= ! !! + - * / % abs max min cat substr in merge missing missing_some set
		contains_all contains_any contains_none if ?: and or map filter reduce all none some var
		fractional sem_ver starts_with ends_with if and or map filter reduce all none some fractional`)
}

// chaos gives an operator with arguments of any kind and number, though mostly as many as it takes.
func (g generator) chaos(depth int) any {
	name := pick(g, operators()...)
	if g.chance(1) {
		name = pick(g, "no_such", "", "Var", "log", "method")
	}
	switch name {
	case "var":
		return g.variable()
	case "map", "filter", "reduce", "all", "none", "some":
		if g.chance(85) {
			return op(name, list(g.subject(depth-1), g.body(depth-1), g.anything(depth-2))[:2+g.IntN(2)])
		}
	case "fractional":
		if g.chance(70) {
			return g.fractional(depth - 1)
		}
	}
	if g.chance(6) {
		return op(name, g.anything(depth-1))
	}
	if name == "set" && g.chance(70) {
		return op(name, list(op("var", pick(g, "o", "user", "")), g.word(), g.anything(depth-1)))
	}
	if name == "cat" && g.chance(70) {
		return op(name, list(g.word(), g.variable(), g.word()))
	}
	args := list()
	for range pick(g, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3, 4) {
		args = append(args, g.anything(depth-1))
	}
	return op(name, args)
}

func (g generator) subject(depth int) any {
	switch g.IntN(8) {
	case 0:
		return g.anything(depth)
	case 3:
		return list(g.about("o"), g.about("user"), g.about("o"), g.value(2))
	case 1:
		return g.values(4, 2)
	case 2:
		return op("merge", list(op("var", "list"), op("var", "groups")))
	}
	return op("var", pick(g, "list", "groups", "user.tags", "user.list", "list", "groups"))
}

func (g generator) body(depth int) any {
	switch g.IntN(9) {
	case 0, 1:
		return g.anything(depth)
	case 2:
		return op("==", list(op("var", ""), g.value(0)))
	case 3:
		return op(pick(g, "+", "max", "cat"), list(op("var", "current"), op("var", "accumulator")))
	case 4:
		return op(pick(g, ">", "===", "=="), list(op("var", pick(g, "", ".", "n", ".n", "name", ".name")), pick[any](g, g.anything(depth-1), 1.0, op("var", "n"))))
	case 5:
		return map[string]any{"a": op("var", "n"), "b": g.value(1)}
	case 6:
		return pick(g, g.fractional(depth-1), g.variable())
	}
	return op(pick(g, operators()...), list(op("var", pick(g, "", "n", "0")), g.anything(depth-1)))
}

func (g generator) fractional(depth int) any {
	args := list()
	if g.chance(50) {
		args = append(args, pick[any](g, op("cat", list(op("var", "$flagd.flagKey"), op("var", "email"))), op("var", "email"), op("var", "absent"), g.anything(depth), g.word()))
	}
	for range 1 + g.IntN(4) {
		args = append(args, g.share(depth))
	}
	return op("fractional", args)
}

func (g generator) share(depth int) any {
	variant := pick[any](g, "on", "off", "on", "off", true, false, nil, 1.0, "true", g.word())
	switch g.IntN(14) {
	case 0:
		return list(variant)
	case 1:
		return list(variant, pick[any](g, 0.0, -5.0, 0.5, 2147483647.0, 2147483648.0, 1e19, -1e19, "50", nil, true, -9223372036854775808.0))
	case 2:
		return list(variant, g.anything(depth))
	case 3:
		return g.anything(depth)
	case 4:
		return list(variant, 1.0, 2.0)
	case 5:
		return list(op("if", list(op("var", "ok"), "on", "off")), op("+", list(op("var", "n"), 1.0)))
	}
	return list(variant, float64(g.IntN(101)))
}

// sensible gives a rule as people write them.
func (g generator) sensible(depth int) any {
	switch g.IntN(6) {
	case 0:
		return g.fractional(1)
	case 1:
		return g.condition(depth)
	}
	args := list()
	for range 1 + g.IntN(2) {
		args = append(args, g.condition(depth), g.outcome(depth-1))
	}
	if g.chance(70) {
		args = append(args, g.outcome(depth-1))
	}
	return op("if", args)
}

func (g generator) outcome(depth int) any {
	if depth > 0 && g.chance(30) {
		return g.sensible(depth - 1)
	}
	return pick[any](g, "on", "off", "on", "off", nil, true, false, "nowhere", 1.0, op("var", "o"), op("var", "rule"), g.word())
}

func (g generator) condition(depth int) any {
	if depth <= 0 {
		return g.variable()
	}
	switch g.IntN(14) {
	case 0:
		return op(pick(g, "ends_with", "starts_with"), list(op("var", "email"), pick[any](g, "@example.com", "jo", "", g.word(), 1.0)))
	case 1:
		return op("sem_ver", list(op("var", "version"), pick(g, "=", "!=", "<", "<=", ">", ">=", "^", "~", "=="), g.version()))
	case 2:
		return op("in", list(op("var", pick(g, "name", "email", "n")), pick[any](g, op("var", "groups"), "example.com", list("a", "on", 1.0, 0.0), list(list(0.0, 5.0)), g.values(4, 1))))
	case 3:
		return op(pick(g, "and", "or"), list(g.condition(depth-1), g.condition(depth-1)))
	case 4:
		return op(pick(g, "!", "!!"), pick[any](g, g.condition(depth-1), any(list(g.condition(depth-1)))))
	case 5:
		return op(pick(g, "<", "<=", ">", ">="), pick(g, list(g.number(), op("var", "age"), g.number()), list(op("var", "age"), g.number()), list(op("var", "name"), g.word())))
	case 6:
		return op(pick(g, "==", "!=", "===", "!==", "<", ">="), pick(g, list(g.variable(), g.value(0)), list(g.word(), pick(g, 0.0, 1.0)), list(g.word(), g.word())))
	case 7:
		return op(pick(g, "some", "all", "none"), list(op("var", pick(g, "groups", "list")), pick[any](g, op("==", list(op("var", ""), "beta")), op("in", list(op("var", ""), op("var", "groups"))), op("var", "n"),
			op("==", list(op("var", pick(g, "n", ".n")), 1.0)))))
	case 8:
		return op(">", list(op("var", "$flagd.timestamp"), pick(g, 0.0, 4e9)))
	case 9:
		return op(pick(g, "missing", "missing_some"), pick(g, list("email", "absent"), list(1.0, list("email", "name"))))
	case 10:
		return op("==", list(op("%", list(op("var", "age"), pick(g, 2.0, 0.0))), 0.0))
	case 11:
		return op("==", list(op("substr", list(op("var", "name"), pick(g, 0.0, 1.0, -1.0, -3.0, 9.0), pick(g, 1.0, -1.0, 0.0, 5.0))), pick(g, "a", "", "o")))
	case 12:
		return op(pick(g, ">", "<"), list(op("reduce", list(op("var", "list"), op("+", list(op("var", "current"), op("var", "accumulator"))), 0.0)), 3.0))
	}
	return op(pick(g, "contains_any", "contains_all", "contains_none"), list(op("var", "groups"), list("beta", pick[any](g, 1.0, "staff", nil))))
}
