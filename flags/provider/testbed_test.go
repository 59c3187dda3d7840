package provider

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/ofrep"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// testbed is testdata/testbed.yaml.
type testbed struct {
	Flags   map[string]any
	Refused map[string]struct {
		Says string
		Flag any
	}
	Scenarios [][]any
	AsFlagd   [][]any `yaml:"asFlagd"`
}

func loadTestbed(t *testing.T) (b testbed) {
	t.Helper()
	text, err := os.ReadFile("testdata/testbed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// readSet reads a document of flags as flagd's format has it.
func readSet(t *testing.T, document any) *flags.SetReader {
	t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	root, faults := jsondoc.Read("testbed.json", text, flags.Limits())
	r := flags.NewSetReader("testbed.json", faults)
	r.Set(root, nil)
	return r
}

// flagd's own testbed: every scenario has its value and reason, or its error, through the OpenFeature client and by
// OFREP.
func TestTestbed(t *testing.T) {
	t.Parallel()
	b := loadTestbed(t)
	set := readSet(t, b.Flags)
	if len(set.Faults) > 0 {
		t.Fatal(set.Faults)
	}
	bundle := flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Flags: map[string]json.RawMessage{}}
	for _, d := range set.Flags {
		bundle.Flags[d.Key] = d.Encode()
	}
	compiled, err := flags.Compile(&bundle)
	if err != nil {
		t.Fatal(err)
	}
	source := newTestSource()
	source.setFlags(compiled.Fold(flags.Orders{}, flags.Facts{}, testStart))
	c := newClient(t, New(source))
	server := httptest.NewServer(ofrep.New(source, zerolog.Nop(), ofrep.Options{}))
	t.Cleanup(server.Close)
	if len(b.Scenarios) != 104 || len(b.AsFlagd) != 6 {
		t.Errorf("%d and %d scenarios: the table was cut", len(b.Scenarios), len(b.AsFlagd))
	}
	for _, s := range slices.Concat(b.Scenarios, b.AsFlagd) {
		kind, key, fallback := s[0].(string), s[1].(string), s[2]
		attributes, _ := s[3].(map[string]any)
		want := ""
		if len(s) > 5 {
			want = s[5].(string)
		}
		value, reason, code := evaluate(t, c, kind, key, fallback, attributes)
		if !sameValue(value, s[4]) || want != "" && want != string(reason) && want != string(code) {
			t.Errorf("%v: the client gets %v, %s %s", s, value, reason, code)
		}
		if want == string(openfeature.TypeMismatchCode) { // OFREP's client finds out
			continue
		}
		answer, reason2, code2 := ask(t, server.URL, key, attributes)
		if answer == nil {
			answer = fallback
		}
		if !sameValue(answer, s[4]) || reason2 != string(reason) && code2 == "" || code2 != string(code) {
			t.Errorf("%v: by OFREP it is %v, %s %s, and the client gets %s %s", s, answer, reason2, code2, reason, code)
		}
	}
}

// What flagd refuses when it evaluates, we refuse when the file is read.
func TestTestbedRefused(t *testing.T) {
	t.Parallel()
	for key, r := range loadTestbed(t).Refused {
		set := readSet(t, map[string]any{"flags": map[string]any{key: r.Flag}})
		if !slices.ContainsFunc(set.Faults, func(f jsondoc.Fault) bool {
			return !f.Warning && strings.Contains(f.Message, r.Says)
		}) {
			t.Errorf("%s: %v", key, set.Faults)
		}
	}
}

// sameValue compares values as JSON has them.
func sameValue(a, b any) bool {
	normal := func(v any) (out any) {
		text, _ := json.Marshal(v)
		_ = json.Unmarshal(text, &out)
		return out
	}
	return reflect.DeepEqual(normal(a), normal(b))
}

func evaluate(t *testing.T, c *openfeature.Client, kind, key string, fallback any, attributes map[string]any) (
	value any, reason openfeature.Reason, code openfeature.ErrorCode,
) {
	t.Helper()
	ctx := openfeature.NewTargetlessEvaluationContext(attributes)
	if targeting, ok := attributes[openfeature.TargetingKey].(string); ok {
		ctx = openfeature.NewEvaluationContext(targeting, attributes)
	}
	var d openfeature.EvaluationDetails
	switch kind {
	case "Boolean":
		r, _ := c.BooleanValueDetails(t.Context(), key, fallback.(bool), ctx)
		value, d = r.Value, r.EvaluationDetails
	case "String":
		r, _ := c.StringValueDetails(t.Context(), key, fallback.(string), ctx)
		value, d = r.Value, r.EvaluationDetails
	case "Integer":
		r, _ := c.IntValueDetails(t.Context(), key, int64(fallback.(int)), ctx)
		value, d = r.Value, r.EvaluationDetails
	case "Float":
		r, _ := c.FloatValueDetails(t.Context(), key, fallback.(float64), ctx)
		value, d = r.Value, r.EvaluationDetails
	case "Object":
		r, _ := c.ObjectValueDetails(t.Context(), key, fallback, ctx)
		value, d = r.Value, r.EvaluationDetails
	default:
		t.Fatalf("there is no type %s", kind)
	}
	return value, d.Reason, d.ErrorCode
}

// ask evaluates a flag by OFREP.
func ask(t *testing.T, url, key string, attributes map[string]any) (value any, reason, code string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"context": attributes})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/ofrep/v1/evaluate/flags/"+key,
		bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read only
	var answer struct {
		Value     any    `json:"value"`
		Reason    string `json:"reason"`
		ErrorCode string `json:"errorCode"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Value, answer.Reason, answer.ErrorCode
}
