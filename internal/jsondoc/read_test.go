package jsondoc

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Fault 29: input that is too large or not JSON is refused with its line.
func TestReadRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct{ in, want string }{
		{"", "1: is empty"},
		{"\ufeff{}", "1: begins with a byte order mark: save it as UTF-8 without one"},
		{"{\"a\": 1e999}", "1: 1e999 is a number beyond what can be represented"},
		{"{\"a\":\n 1" + strings.Repeat("0", 70) + "}", "2: has a number of 71 digits: at most 64 are read"},
		{deep(60), "1: nests deeper than 50 levels"},
		{"{\n\"a\": 1,\n\"a\": 2}", `3: "a" is there twice`},
		{"{\"\": 1}", "1: a key must be text"},
		{"[1,\n]", "2: is not JSON: expected a value, not ]"},
		{"[1\n2]", "2: is not JSON: expected , or ], not 2"},
		{"{\"a\" 1}", "1: is not JSON: expected :, not 1"},
		{"{\"a\": 1,}", "1: is not JSON: expected a key in quotes, not }"},
		{"{a: 1}", "1: is not JSON: expected a key in quotes, not a"},
		{"{\"a\": 01}", "1: is not JSON: 01 is not a number"},
		{"{\"a\": \"b\n\"}", "1: is not JSON: a string has a character that must be escaped, or has no end"},
		{`["\x"]`, "1: is not JSON: a string has an unknown escape"},
		{"[1", "1: is not JSON: it ends too early"},
		{"{} {}", "1: is not JSON: there is text after its end"},
		{"\"\xff\"", "1: is not valid UTF-8"},
	} {
		_, faults := Read("x.json", []byte(tt.in), Limits{Depth: 50, Text: 1 << 10})
		if len(faults) != 1 || faults[0].String() != "x.json:"+tt.want {
			t.Errorf("%.60q\nsays  %v\nwants %s", tt.in, faults, tt.want)
		}
	}
}

// checkAgainstStdlib compares Read with encoding/json: both accept the same input, and read the same values.
func checkAgainstStdlib(t interface{ Fatalf(string, ...any) }, in []byte) (taken bool) {
	n, faults := Read("x.json", in, Limits{Depth: 5000, Text: MaxFile})
	if slices.ContainsFunc(faults, func(f Fault) bool { return !f.Warning }) {
		for _, f := range faults {
			if strings.Contains(f.Message, "is not JSON") && json.Valid(in) {
				t.Fatalf("%q: %v, but encoding/json takes it", in, faults)
			}
		}
		return false
	}
	var want any
	if err := json.Unmarshal(in, &want); err != nil {
		t.Fatalf("%q was taken, but encoding/json says %v", in, err)
	}
	if got := n.PlainValue(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is %v, want %v", in, got, want)
	}
	return true
}

func TestReadsJSONAsEncodingJSON(t *testing.T) {
	pieces := []string{"{", "}", "[", "]", ",", ":", `"a"`, `"b\n"`, `"\u00e9"`, `"\ud800"`, "1", "-0", "2.5e3",
		"01", "true", "null", "nul", " ", "\n", "\t", `"`, `\`, "é"}
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		in := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 8).Draw(rt, "pieces"), "")
		for _, in := range []string{in, "[" + in + "]", `{"k":` + in + "}"} {
			if checkAgainstStdlib(rt, []byte(in)) {
				taken++
			}
		}
	})
	if taken == 0 {
		t.Error("none was taken")
	}
}

func FuzzRead(f *testing.F) {
	for _, in := range []string{`{"a":[1,"b",null]}`, "[[[[", `{"a":1,"a":2}`} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) { checkAgainstStdlib(t, in) })
}
