package flags

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseDefinition(t *testing.T) {
	for _, tt := range []struct{ in, wrong string }{
		{`{"state":"ENABLED","variants":{"on":true}}`, ""}, // flagd, but not a flags repository, allows no default
		{`{"state":"ENABLED","variants":{"a":1,"b":"x"},"targeting":{"nosuch":[]}}`, ""},
		{`{"state":"ON","variants":{"on":true}}`, "state must be"},
		{`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"off"}`, "no variant"},
		{`{"state":"ENABLED","variants":{"on":true},"targeting":{"$ref":"x"}}`, "no evaluator"},
		{`{"state":"ENABLED"`, "ends too early"},
		{`[]`, "must be a mapping"},
		{``, "is empty"},
	} {
		d, err := ParseDefinition("x", []byte(tt.in))
		if err == nil {
			if tt.wrong != "" || string(d.Encode()) != canonical(t, tt.in) {
				t.Errorf("%s was taken as %s", tt.in, d.Encode())
			}
			continue
		}
		if tt.wrong == "" || !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %v, want %q", tt.in, err, tt.wrong)
		}
	}
	if _, err := ParseDefinition("../x", []byte(`{"state":"ENABLED","variants":{"on":true}}`)); err == nil {
		t.Error("a key that leads elsewhere was taken")
	}
}

// canonical returns JSON as encoding/json writes it, with keys sorted.
func canonical(t *testing.T, in string) string {
	var v any
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
