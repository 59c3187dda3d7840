package edit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

const sample = `# What may be on.
$schema: https://flagd.dev/schema/v0/flags.json
flags:
  # The new editor.
  editor:
    state: ENABLED # by Ada
    variants: {on: true, off: false}
    defaultVariant: "off"   # until it is told
    metadata:
      feature: workspace-classes
      # more to come

  # Colours: "ß".
  colour:
    state: ENABLED
    variants:
      red: '#f00'
      blue: "#00f"
    defaultVariant: red
    targeting:
      if:
        - {in: [eu, {var: region}]} # with 'em
        - blue
    # the end of colour
# the end
`

func TestSet(t *testing.T) {
	rule := map[string]any{"if": []any{map[string]any{"==": []any{1, 2}}, "on"}}
	for name, c := range map[string]struct {
		path   string
		value  any
		before string // of what changes
		after  string
	}{
		"quoted scalar":    {"flags/editor/defaultVariant", "on", `"off"   # until`, `"on"   # until`},
		"plain scalar":     {"flags/editor/state", "DISABLED", `ENABLED # by`, `DISABLED # by`},
		"after multi-byte": {"flags/colour/defaultVariant", "blue", "defaultVariant: red", "defaultVariant: blue"},
		"in brackets":      {"flags/editor/variants/on", false, "{on: true,", "{on: false,"},
		"add in brackets":  {"flags/editor/variants/maybe", "x", "{on: true", `{"maybe":"x", on: true`},
		"add a scalar": {"flags/editor/metadata/off", "off", "      # more to come\n",
			"      # more to come\n      \"off\": \"off\"\n"},
		"replace lines": {"flags/colour/targeting", rule,
			"      if:\n        - {in: [eu, {var: region}]} # with 'em\n        - blue\n",
			"      if:\n        - ==:\n            - 1\n            - 2\n        - \"on\"\n"},
		"add lines": {"flags/editor/targeting", map[string]any{"var": "x"}, "      # more to come\n",
			"      # more to come\n    targeting:\n      var: x\n"},
		"add deep": {"flags/colour/metadata/feature", "f", "    # the end of colour\n",
			"    # the end of colour\n    metadata:\n      feature: f\n"},
		"add a flag": {"flags/new", Fields{{"state", "ENABLED"}, {"defaultVariant", "on"}},
			"    # the end of colour\n",
			"    # the end of colour\n  new:\n    state: ENABLED\n    defaultVariant: \"on\"\n"},
		"add at the top": {"metadata/flagSetId", "x", "# the end\n", "# the end\nmetadata:\n  flagSetId: x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(sample, c.before) != 1 {
				t.Fatalf("%q is not in the sample once", c.before)
			}
			got, err := Set([]byte(sample), strings.Split(c.path, "/"), c.value)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Replace(sample, c.before, c.after, 1), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSetOther(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		path  string
		value any
		want  string
	}{
		"JSON": {"{\n\t\"flags\": {\n\t\t\"a\": {\"state\": \"ENABLED\"}\n\t}\n}\n", "flags/a/state",
			"DISABLED", "{\n\t\"flags\": {\n\t\t\"a\": {\"state\": \"DISABLED\"}\n\t}\n}\n"},
		"JSON field": {"{\n  \"flags\": {\n    \"a\": {\n      \"state\": \"ENABLED\"\n    }\n  }\n}",
			"flags/a/defaultVariant", "on",
			"{\n  \"flags\": {\n    \"a\": {\n      \"state\": \"ENABLED\",\n      \"defaultVariant\": \"on\"\n    }\n  }\n}"},
		"JSON flag": {"{\n  \"flags\": {\n    \"a\": {}\n  }\n}\n", "flags/b", Fields{{"state", "ENABLED"}},
			"{\n  \"flags\": {\n    \"a\": {},\n    \"b\": {\n      \"state\": \"ENABLED\"\n    }\n  }\n}\n"},
		"JSON first flag": {"{\n  \"flags\": {}\n}\n", "flags/b", Fields{{"state", "ENABLED"}},
			"{\n  \"flags\": {\n    \"b\": {\n      \"state\": \"ENABLED\"\n    }\n  }\n}\n"},
		"brackets in YAML": {"a: x\nflags: {}\n", "flags/b", Fields{{"state", "ENABLED"}},
			"a: x\nflags:\n  b:\n    state: ENABLED\n"},
		"JSON rule": {"{\n  \"targeting\": {\"var\": \"}\"},\n  \"a\": 1\n}\n", "targeting",
			map[string]any{"var": "<b>"}, "{\n  \"targeting\": {\n    \"var\": \"<b>\"\n  },\n  \"a\": 1\n}\n"},
		"empty":             {"", "flags/a/state", "ENABLED", "flags:\n  a:\n    state: ENABLED\n"},
		"comments only":     {"# nothing yet", "now", true, "# nothing yet\nnow: true\n"},
		"no value yet":      {"now:\ntitle: x\n", "now", true, "now: true\ntitle: x\n"},
		"no mapping yet":    {"metadata:\nstate: x\n", "metadata/a", "b", "metadata:\n  a: b\nstate: x\n"},
		"no line end":       {"title: x", "now", true, "title: x\nnow: true\n"},
		"Windows line ends": {"title: x\r\nnow: false\r\n", "now", true, "title: x\r\nnow: true\r\n"},
		"literal is kept": {"notes: |\n  a\n  # b\n\nnow: false\n", "now",
			true, "notes: |\n  a\n  # b\n\nnow: true\n"},
		"literal is new":     {"notes: |\n  a\n  b\nnow: false\n", "notes", "c", "notes: c\nnow: false\n"},
		"mapping to scalar":  {"publishAt:\n  a: b\nnow: false\n", "publishAt", "x", "publishAt: x\nnow: false\n"},
		"brackets to lines":  {"a: {b: 1}\nnow: false\n", "a", Fields{{"c", 1}}, "a:\n  c: 1\nnow: false\n"},
		"text of two lines":  {"a: b\n", "a", "x\ny", "a: |-\n  x\n  y\n"},
		"what reads as bool": {"a: b\n", "a", "yes", "a: \"yes\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Set([]byte(c.text), strings.Split(c.path, "/"), c.value)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, path string }{
		"a list":              {"[1]\n", "a"},
		"below a scalar":      {"a: 1\n", "a/b/c"},
		"what else an alias":  {"a: &x {b: 1, d: 2}\nc: *x\n", "c/b"},
		"what an alias means": {"a: &x {b: 1}\nc: *x\n", "a/b"},
	} {
		if got, err := Set([]byte(c.text), strings.Split(c.path, "/"), "new"); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v:\n%s", name, err, got)
		}
	}
	if _, err := Set([]byte("a: [\n"), []string{"a"}, 1); err == nil || errors.Is(err, ErrLayout) {
		t.Errorf("a file that can't be read: %v", err)
	}
}

// For any document, Set's result has the field, has nothing else changed, and still has every comment.
func TestSetChangesOneField(t *testing.T) {
	scalar := rapid.OneOf(rapid.StringMatching(`[ -~äß]{0,12}`).AsAny(), rapid.Bool().AsAny(),
		rapid.IntRange(-99, 99).AsAny())
	key := rapid.SampledFrom([]string{"a", "b", "state", "c d", "ü"})
	rapid.Check(t, func(t *rapid.T) {
		doc := map[string]any{}
		paths := map[string]bool{}
		for range rapid.IntRange(1, 6).Draw(t, "fields") {
			at := doc
			path := rapid.SliceOfN(key, 1, 3).Draw(t, "path")
			for _, k := range path[:len(path)-1] {
				below, ok := at[k].(map[string]any)
				if !ok {
					below = map[string]any{}
					at[k] = below
				}
				at = below
			}
			at[path[len(path)-1]] = scalar.Draw(t, "value")
			paths[strings.Join(path, "/")] = true
		}
		var text []byte
		var err error
		if rapid.Bool().Draw(t, "JSON") {
			text, err = json.MarshalIndent(doc, "", "  ")
		} else {
			text, err = yaml.Marshal(doc)
			text = append([]byte("# first\n"), append(text, "# last\n"...)...)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := rapid.SliceOfN(key, 1, 3).Draw(t, "set")
		value := rapid.OneOf(scalar, rapid.Just[any](map[string]any{"x": []any{"y", true}})).Draw(t, "to")
		got, err := Set(text, path, value)
		if errors.Is(err, ErrLayout) && len(path) > 1 {
			return // below a scalar, say
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if !changesOnly(text, got, path, value) {
			t.Fatalf("%v is not %v in\n%s", path, value, got)
		}
		if strings.Contains(string(text), "# first") &&
			(!strings.Contains(string(got), "# first\n") || !strings.Contains(string(got), "# last\n")) {
			t.Fatalf("a comment is gone:\n%s", got)
		}
	})
}

// Remove takes the field's lines and nothing else, or refuses.
func TestRemove(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1 # one\nlist:\n  - x # ex\n  - y\n# about b\nb: 2\n": "a: 1 # one\n# about b\nb: 2\n",
		"a: 1\nlist: [x,\n  y]\n":                                 "a: 1\n",
		"list: []\nb: 2\n":                                        "b: 2\n",
		"a: 1\nlist: |\n  text\n\n  more\nb: 2\n":                 "a: 1\nb: 2\n",
		"a: 1\n":                "a: 1\n",
		"# nothing yet\n":       "# nothing yet\n",
		"{a: 1, list: [x]}\n":   ErrLayout.Error(),
		"a: &x [1]\nlist: *x\n": "a: &x [1]\n",
		"list: &x [1]\nb: *x\n": ErrLayout.Error(),
	} {
		edited, err := Remove([]byte(text), "list")
		got := string(edited)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
