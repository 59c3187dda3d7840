package manifest_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// A document's faults have their classes.
func TestCodes(t *testing.T) {
	decode := func(in string) []manifest.Fault {
		_, faults := manifest.Decode[example]("x.yaml", []byte(in))
		return faults
	}
	read := func(in string) []manifest.Fault {
		_, faults := jsondoc.Read("x.json", []byte(in), jsondoc.Limits{Depth: 2, Text: 8})
		return faults
	}
	_, folder := manifest.Load[example](nil, fstest.MapFS{"x.yaml/y": {}}, "x.yaml", nil)
	for _, test := range []struct {
		name   string
		faults []manifest.Fault
		want   manifest.FaultCode
	}{
		{"not YAML", decode("kind: Example\n  a: b\n"), manifest.Syntax},
		{"two documents", decode("kind: Example\n---\nkind: Example\n"), manifest.Syntax},
		{"merge key", decode("kind: Example\n<<: {}\n"), manifest.Syntax},
		{"not UTF-8", decode("kind: \xff\n"), manifest.Encoding},
		{"unknown field", decode("kind: Example\nnope: 1\n"), manifest.UnknownField},
		{"key twice", decode("kind: Example\nkind: Example\n"), manifest.Duplicate},
		{"empty", decode(""), manifest.Missing},
		{"no mapping", decode("- a\n"), manifest.WrongType},
		{"large", decode(strings.Repeat("#", manifest.MaxFile+1)), manifest.TooLarge},
		{"a folder", folder, manifest.Unreadable},
		{"not JSON", read(`{"a"`), manifest.Syntax},
		{"byte order mark", read("\ufeff{}"), manifest.Encoding},
		{"JSON key twice", read(`{"a":1,"a":2}`), manifest.Duplicate},
		{"no JSON", read(" "), manifest.Missing},
		{"deep", read(`[[[1]]]`), manifest.TooLarge},
		{"number", read(`1e999`), manifest.WrongValue},
	} {
		for _, f := range test.faults {
			if f.Code == test.want {
				test.want = ""
			}
		}
		if test.want != "" {
			t.Errorf("%s: %v, none of them %s", test.name, test.faults, test.want)
		}
	}
}
