package oracle

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
)

// generator generates flags and contexts that are likely to show a difference: half of the rules are realistic, the
// others are arbitrary JSON. Equal seeds generate equal values.
type generator struct{ *rand.Rand }

func newGenerator(seed, stream uint64) generator {
	return generator{rand.New(rand.NewPCG(seed, stream))}
}

func pickOne[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func listOf(items ...any) []any { return items }

func operation(name string, args any) map[string]any { return map[string]any{name: args} }

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
		rule = g.expression(3)
	case 3, 4, 5, 6, 7, 8:
		rule = g.randomOperator(4)
	default:
		rule = g.realisticRule(3)
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
		v = map[string]any{
			"on": "yes", "off": "no", "true": "t", "false": "f", "1": "one", "": "nothing", "null": "nil",
		}
	case 1:
		v = map[string]any{
			"on": 1.5, "off": math.Copysign(0, -1), "0": 0.0, "2": 2.0, "1e+21": 1e21, "[]": 3.0, "{}": 4.0,
		}
	case 2:
		v = map[string]any{
			"on": map[string]any{"a": listOf(1.0, nil)}, "off": map[string]any{}, "[on]": map[string]any{"x": "y"},
		}
	case 3:
		v = map[string]any{"on": nil, "off": false, `\u003c`: true, "<": false, "ü": true, `a\nb`: true, " on ": true}
	case 4:
		v = map[string]any{"on": listOf(1.0), "off": 7.0, "true": "mixed", "false": nil, "[1,2]": 1.0}
	}
	return v
}

// context generates a caller's attributes.
func (g generator) context() map[string]any {
	c := map[string]any{}
	if g.chance(80) {
		c["targetingKey"] = pickOne[any](g, "user-1", "user-2", "ü", "", 5.0, nil,
			"a long key of somebody who is not known to anybody", g.word())
	}
	for _, name := range []string{"email", "name", "version", "age", "n", "list", "groups", "user", "o", "empty",
		"rule", "ok", "a b"} {
		if g.chance(65) {
			c[name] = g.contextValue(name)
		}
	}
	if g.chance(5) {
		c["$flagd"] = "mine"
	}
	if g.chance(15) {
		for name, v := range c {
			c[name] = g.goValue(v)
		}
	}
	return c
}

// goValue returns a Go value that JSON encodes as v.
func (g generator) goValue(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int32(v)) {
			return pickOne[any](g, int(v), int64(v), int32(v), float32(v), v, json.Number("7"))
		}
	case string:
		return pickOne[any](g, v, &v, v+"\xff", []byte(v))
	case []any:
		native := make([]any, len(v))
		for i, item := range v {
			native[i] = g.goValue(item)
		}
		return native
	case map[string]any:
		if v["n"] != nil {
			return struct {
				N    any `json:"n"`
				Name any `json:"name"`
			}{g.goValue(v["n"]), v["name"]}
		}
	case bool:
		return map[string]bool{"a": v}
	}
	return v
}

// contextValue returns a typical value of the attribute name.
func (g generator) contextValue(name string) any {
	if g.chance(15) {
		return g.value(3)
	}
	switch name {
	case "email":
		return pickOne(g, "jo@example.com", "jo@example.org", "", "@example.com", "ünï@example.com")
	case "version":
		return pickOne[any](g, g.version(), g.version(), g.version(), 1.2, 2.0, nil)
	case "age", "n":
		return g.number()
	case "list":
		if g.chance(30) {
			return listOf(map[string]any{"n": g.number(), "name": g.word()}, map[string]any{"n": 1.0},
				map[string]any{"name": "a"})
		}
		return g.values(4, 1)
	case "groups":
		return pickOne[any](g, listOf("beta", "staff"), listOf(), listOf("beta"), listOf(1.0, "1", true, nil),
			listOf(listOf(1.0, 5.0), "beta"))
	case "user":
		return map[string]any{
			"name": g.word(), "n": g.number(), "tags": listOf("a", "b"),
			"list": listOf(listOf(1.0), map[string]any{"n": 2.0}),
		}
	case "o":
		return pickOne[any](g, map[string]any{}, map[string]any{"var": "name"}, map[string]any{"a": 1.0, "b": 2.0},
			map[string]any{
				"targetingKey": "k", "$flagd": map[string]any{"FlagKey": "other", "timestamp": 3.0},
			}, map[string]any{"cat": listOf("o", "n")})
	case "rule":
		return g.randomOperator(2)
	case "ok":
		return g.chance(50)
	}
	return g.word()
}

func (g generator) word() string {
	return pickOne(g, "", "  ", " a", "b ", "a", "on", "off", "null", "true", "0", "1", "1.0", " 1 ", "-3", "0x10",
		"1e3", "1e999", "Infinity", "NaN", "1_000",
		"ü",
		"日本語", "e\u0301", "\U0001F600", "a.b", ".", "\"", "\\", "<", "a\nb", " on ", "example.com", "beta", "list",
		"name", "\ufffd", "x y")
}

func (g generator) number() any {
	return pickOne(g, 0.0, math.Copysign(0, -1), 1.0, 2.0, 3.0, -1.0, 0.5, 1.5, -2.5, 10.0, 50.0, 100.0, 1e21, 1e-7,
		1e308, -1e308, 9007199254740993.0,
		9223372036854775807.0, -9223372036854775808.0, 4294967296.0, 2147483647.0, 2147483648.0, 5e-324)
}

func (g generator) version() string {
	v := pickOne(g, "1", "1.2", "1.2.3", "v1.2.3", "V1.2.3", "2.0.0", "1.10.0", "1.2.3-rc.1", "1.2.3-rc.2",
		"1.2.3-rc.10", "1.2.3-rc", "1.2.3-rc.1.0",
		"1.2.3+build", "1.2.3-alpha+b.01", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3.4", "", "v", "x",
		"1.2.3-0a", "1.2-rc", "vv1", "Vv1",
		"99999999999999999999.0.0", "1.2.3-rc..1", "1.2.3-1", "1.2.3-é", " 1.2.3", "1.2.")
	return v
}

// value generates any JSON.
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
		return listOf()
	}
	o := map[string]any{}
	for depth > 0 && g.chance(60) && len(o) < 3 {
		o[pickOne(g, "a", "b", "n", "name", "list", "var", "0", "user", "")] = g.value(depth - 1)
	}
	return o
}

func (g generator) values(upTo, depth int) []any {
	items := listOf()
	for range g.IntN(upTo + 1) {
		items = append(items, g.value(depth))
	}
	return items
}

// variable generates a var.
func (g generator) variable() any {
	name := pickOne[any](g, "email", "name", "version", "age", "n", "list", "groups", "user", "user.name",
		"user.tags.0", "user.tags.x", "user.list.1.n",
		"user.tags.9", "user.tags.-1", "user.tags.1e0", "list.0", "o", "o.a", "empty", "rule", "ok", "absent",
		"absent.more", "name.more", "targetingKey",
		"$flagd.flagKey", "$flagd.timestamp", "$flagd", "", ".", ".n", "n.", "a b", "user..name", "accumulator",
		"current", "current.n", "valueType",
		0.0, 1.0, 1.5, -1.0, nil)
	switch g.IntN(10) {
	case 0:
		return operation("var", listOf(name))
	case 1, 2:
		return operation("var", listOf(name, g.value(1)))
	case 3:
		return operation("var",
			pickOne[any](g, listOf(), listOf(name, 1.0, 2.0), true, operation("cat", listOf("na", "me")),
				listOf(operation("var", "name"), "d"), listOf("n", operation("var", "age"))))
	}
	return operation("var", name)
}

// expression generates rules, values, and lists and objects of both.
func (g generator) expression(depth int) any {
	if depth <= 0 {
		return pickOne[any](g, g.variable(), g.variable(), g.value(1), g.value(0),
			operation(pickOne(g, "-", "/"), listOf()))
	}
	switch g.IntN(10) {
	case 0, 1, 2, 3:
		return g.randomOperator(depth)
	case 4, 5:
		return g.variable()
	case 6:
		items := listOf()
		for range g.IntN(4) {
			items = append(items, g.expression(depth-1))
		}
		return items
	case 7:
		return map[string]any{"a": g.expression(depth - 1), pickOne(g, "b", "var"): g.expression(depth - 1)}
	}
	return g.value(2)
}

func operators() []string {
	return strings.Fields(`== != === !== < <= > >= ! !! + - * / % abs max min cat substr in merge missing missing_some set
		contains_all contains_any contains_none if ?: and or map filter reduce all none some var
		fractional sem_ver starts_with ends_with if and or map filter reduce all none some fractional`)
}

// randomOperator generates an operator with arguments of any kind and number, mostly as many as it takes.
func (g generator) randomOperator(depth int) any {
	name := pickOne(g, operators()...)
	if g.chance(1) {
		name = pickOne(g, "no_such", "", "Var", "log", "method")
	}
	switch name {
	case "var":
		return g.variable()
	case "map", "filter", "reduce", "all", "none", "some":
		if g.chance(85) {
			return operation(name, listOf(g.subject(depth-1), g.body(depth-1), g.expression(depth-2))[:2+g.IntN(2)])
		}
	case "fractional":
		if g.chance(70) {
			return g.fractional(depth - 1)
		}
	}
	if g.chance(6) {
		return operation(name, g.expression(depth-1))
	}
	if name == "set" && g.chance(70) {
		return operation(name, listOf(operation("var", pickOne(g, "o", "user", "")), g.word(), g.expression(depth-1)))
	}
	if name == "cat" && g.chance(70) {
		return operation(name, listOf(g.word(), g.variable(), g.word()))
	}
	args := listOf()
	for range pickOne(g, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3, 4) {
		args = append(args, g.expression(depth-1))
	}
	return operation(name, args)
}

func (g generator) subject(depth int) any {
	switch g.IntN(8) {
	case 0:
		return g.expression(depth)
	case 3:
		return listOf(g.contextValue("o"), g.contextValue("user"), g.contextValue("o"), g.value(2))
	case 1:
		return g.values(4, 2)
	case 2:
		return operation("merge", listOf(operation("var", "list"), operation("var", "groups")))
	}
	return operation("var", pickOne(g, "list", "groups", "user.tags", "user.list", "list", "groups"))
}

func (g generator) body(depth int) any {
	switch g.IntN(9) {
	case 0, 1:
		return g.expression(depth)
	case 2:
		return operation("==", listOf(operation("var", ""), g.value(0)))
	case 3:
		return operation(pickOne(g, "+", "max", "cat"),
			listOf(operation("var", "current"), operation("var", "accumulator")))
	case 4:
		return operation(pickOne(g, ">", "===", "=="),
			listOf(operation("var", pickOne(g, "", ".", "n", ".n", "name", ".name")),
				pickOne[any](g, g.expression(depth-1), 1.0, operation("var", "n"))))
	case 5:
		return map[string]any{"a": operation("var", "n"), "b": g.value(1)}
	case 6:
		return pickOne(g, g.fractional(depth-1), g.variable())
	}
	return operation(pickOne(g, operators()...),
		listOf(operation("var", pickOne(g, "", "n", "0")), g.expression(depth-1)))
}

func (g generator) fractional(depth int) any {
	args := listOf()
	if g.chance(50) {
		args = append(args,
			pickOne[any](g, operation("cat", listOf(operation("var", "$flagd.flagKey"), operation("var", "email"))),
				operation("var", "email"), operation("var", "absent"), g.expression(depth), g.word()))
	}
	for range 1 + g.IntN(4) {
		args = append(args, g.share(depth))
	}
	return operation("fractional", args)
}

func (g generator) share(depth int) any {
	variant := pickOne[any](g, "on", "off", "on", "off", true, false, nil, 1.0, "true", g.word())
	switch g.IntN(14) {
	case 0:
		return listOf(variant)
	case 1:
		return listOf(variant,
			pickOne[any](g, 0.0, -5.0, 0.5, 2147483647.0, 2147483648.0, 1e19, -1e19, "50", nil, true,
				-9223372036854775808.0))
	case 2:
		return listOf(variant, g.expression(depth))
	case 3:
		return g.expression(depth)
	case 4:
		return listOf(variant, 1.0, 2.0)
	case 5:
		return listOf(operation("if", listOf(operation("var", "ok"), "on", "off")),
			operation("+", listOf(operation("var", "n"), 1.0)))
	}
	return listOf(variant, float64(g.IntN(101)))
}

// realisticRule generates a rule as people write them.
func (g generator) realisticRule(depth int) any {
	switch g.IntN(6) {
	case 0:
		return g.fractional(1)
	case 1:
		return g.condition(depth)
	}
	args := listOf()
	for range 1 + g.IntN(2) {
		args = append(args, g.condition(depth), g.outcome(depth-1))
	}
	if g.chance(70) {
		args = append(args, g.outcome(depth-1))
	}
	return operation("if", args)
}

func (g generator) outcome(depth int) any {
	if depth > 0 && g.chance(30) {
		return g.realisticRule(depth - 1)
	}
	return pickOne[any](g, "on", "off", "on", "off", nil, true, false, "nowhere", 1.0, operation("var", "o"),
		operation("var", "rule"), g.word())
}

func (g generator) condition(depth int) any {
	if depth <= 0 {
		return g.variable()
	}
	switch g.IntN(14) {
	case 0:
		return operation(pickOne(g, "ends_with", "starts_with"),
			listOf(operation("var", "email"), pickOne[any](g, "@example.com", "jo", "", g.word(), 1.0)))
	case 1:
		return operation("sem_ver",
			listOf(operation("var", "version"),
				pickOne(g, "=", "!=", "<", "<=", ">", ">=", "^", "~", "=="), g.version()))
	case 2:
		return operation("in",
			listOf(operation("var", pickOne(g, "name", "email", "n")),
				pickOne[any](g, operation("var", "groups"), "example.com", listOf("a", "on", 1.0, 0.0),
					listOf(listOf(0.0, 5.0)), g.values(4, 1))))
	case 3:
		return operation(pickOne(g, "and", "or"), listOf(g.condition(depth-1), g.condition(depth-1)))
	case 4:
		return operation(pickOne(g, "!", "!!"),
			pickOne[any](g, g.condition(depth-1), any(listOf(g.condition(depth-1)))))
	case 5:
		return operation(pickOne(g, "<", "<=", ">", ">="),
			pickOne(g, listOf(g.number(), operation("var", "age"), g.number()),
				listOf(operation("var", "age"), g.number()), listOf(operation("var", "name"), g.word())))
	case 6:
		return operation(pickOne(g, "==", "!=", "===", "!==", "<", ">="),
			pickOne(g, listOf(g.variable(), g.value(0)), listOf(g.word(), pickOne(g, 0.0, 1.0)),
				listOf(g.word(), g.word())))
	case 7:
		return operation(pickOne(g, "some", "all", "none"),
			listOf(operation("var", pickOne(g, "groups", "list")),
				pickOne[any](g, operation("==", listOf(operation("var", ""), "beta")),
					operation("in", listOf(operation("var", ""), operation("var", "groups"))), operation("var", "n"),
					operation("==", listOf(operation("var", pickOne(g, "n", ".n")), 1.0)))))
	case 8:
		return operation(">", listOf(operation("var", "$flagd.timestamp"), pickOne(g, 0.0, 4e9)))
	case 9:
		return operation(pickOne(g, "missing", "missing_some"),
			pickOne(g, listOf("email", "absent"), listOf(1.0, listOf("email", "name"))))
	case 10:
		return operation("==", listOf(operation("%", listOf(operation("var", "age"), pickOne(g, 2.0, 0.0))), 0.0))
	case 11:
		return operation("==",
			listOf(operation("substr",
				listOf(operation("var", "name"), pickOne(g, 0.0, 1.0, -1.0, -3.0, 9.0),
					pickOne(g, 1.0, -1.0, 0.0, 5.0))), pickOne(g, "a", "", "o")))
	case 12:
		return operation(pickOne(g, ">", "<"),
			listOf(operation("reduce",
				listOf(operation("var", "list"),
					operation("+", listOf(operation("var", "current"), operation("var", "accumulator"))), 0.0)), 3.0))
	}
	return operation(pickOne(g, "contains_any", "contains_all", "contains_none"),
		listOf(operation("var", "groups"), listOf("beta", pickOne[any](g, 1.0, "staff", nil))))
}
