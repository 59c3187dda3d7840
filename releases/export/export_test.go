package export_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/releases/export"
)

const wishText = `apiVersion: sluice/v1
kind: Export
metrics:
  - name: http_requests
    type: counter
    labels:
      method: {as: enum, values: [GET, POST]}
      user: {as: hash}
      pod: {as: drop}
  - {name: queue_length, type: gauge, every: 5m}
events:
  - kind: login.failed
    fields: {tries: {as: number}, agent: {as: text}}
`

func parse(t *testing.T, text string) export.List {
	t.Helper()
	list, faults := export.Parse("export.yaml", []byte(text))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return *list
}

func TestLines(t *testing.T) {
	list := parse(t, wishText)
	want := []string{
		"metric http_requests: a counter, at most one point in 1m0s",
		"metric http_requests, label method: the value GET",
		"metric http_requests, label method: the value POST",
		"metric http_requests, label user: a hash, by a key that stays in the cell",
		"metric queue_length: a gauge, at most one point in 5m0s",
		"event login.failed: that it happened, and when",
		"event login.failed, field agent: any text of at most 80 plain characters",
		"event login.failed, field tries: any number",
	}
	if got := list.Lines(); !slices.Equal(got, want) {
		t.Errorf("the list reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A release that wishes for more shows the difference, and only that; one that wishes for less needs no agreement.
func TestWider(t *testing.T) {
	old := parse(t, wishText)
	for name, c := range map[string]struct{ from, to, wider string }{
		"another value": {"[GET, POST]", "[GET, PUT]", "metric http_requests, label method: the value PUT"},
		"a dropped label": {"pod: {as: drop}", "pod: {as: hash}",
			"metric http_requests, label pod: a hash, by a key that stays in the cell"},
		"more often": {"every: 5m", "every: 1m", "metric queue_length: a gauge, at most one point in 1m0s"},
		"less often": {"every: 5m", "every: 10m", ""},
		"another type": {"type: gauge, every: 5m", "type: counter, every: 5m",
			"metric queue_length: a counter, at most one point in 5m0s"},
		"another field": {"tries: {as: number}", "tries: {as: text}",
			"event login.failed, field tries: any text of at most 80 plain characters"},
		"a label less":     {"      user: {as: hash}\n", "", ""},
		"in another order": {"[GET, POST]", "[POST, GET]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(wishText, c.from, c.to, 1)
			if changed == wishText {
				t.Fatal("nothing was changed")
			}
			if got := strings.Join(export.Wider(parse(t, changed), old), "\n"); got != c.wider {
				t.Errorf("an owner would have to agree to %q, want %q", got, c.wider)
			}
		})
	}
}

func TestParseFaults(t *testing.T) {
	for name, c := range map[string]struct{ from, to, fault string }{
		"a name with a space":      {"http_requests", "http requests", "can't be a metric's name"},
		"Sluice's own":             {"queue_length", "sluice_export_x", "Sluice's own"},
		"not the agent's":          {"queue_length", "sluice_agent_x", "the agent measures no gauge"},
		"twice":                    {"queue_length", "http_requests", "is there twice"},
		"an unknown type":          {"type: gauge", "type: summary", "summary"},
		"text of a label":          {"user: {as: hash}", "user: {as: text}", "text is not for labels"},
		"an enum without values":   {"{as: enum, values: [GET, POST]}", "{as: enum}", "lets nothing through"},
		"values of a hash":         {"user: {as: hash}", "user: {as: hash, values: [a]}", "only an enum has values"},
		"a value twice":            {"[GET, POST]", "[GET, GET]", "is there twice"},
		"a value that is no ASCII": {"[GET, POST]", `["GÉT"]`, "printable"},
		"too often":                {"every: 5m", "every: 1s", "from 1m0s to 1h0m0s"},
		"in half minutes":          {"every: 5m", "every: 90s", "in whole minutes"},
		"a body":                   {"    fields: {", "    body: true\n    fields: {", "body"},
		"a kind without a name":    {"kind: login.failed", "kind: ''", "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(wishText, c.from, c.to, 1)
			if changed == wishText {
				t.Fatal("nothing was changed")
			}
			_, faults := export.Parse("export.yaml", []byte(changed))
			var all []string
			for _, f := range faults {
				all = append(all, f.String())
				if f.Line == 0 {
					t.Errorf("%s has no line", f)
				}
			}
			if !strings.Contains(strings.Join(all, "\n"), c.fault) {
				t.Errorf("the faults are %q, want one of %q", all, c.fault)
			}
		})
	}
	if _, faults := export.Parse("export.yaml", []byte(strings.Repeat("# long\n", 30_000))); len(faults) != 1 {
		t.Errorf("a file that is too large has the faults %v", faults)
	}
}

func lists() *rapid.Generator[export.List] {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	uses := rapid.MapOfN(names, rapid.Custom(func(t *rapid.T) export.Use {
		as := rapid.SampledFrom([]export.Treatment{export.Enum, export.Hash, export.Drop}).Draw(t, "as")
		u := export.Use{As: as}
		if as == export.Enum {
			u.Values = rapid.SliceOfNDistinct(names, 1, 3, rapid.ID).Draw(t, "values")
		}
		return u
	}), 0, 3)
	return rapid.Custom(func(t *rapid.T) export.List {
		var l export.List
		for _, name := range rapid.SliceOfNDistinct(names, 0, 3, rapid.ID).Draw(t, "metrics") {
			l.Metrics = append(l.Metrics, export.Metric{Name: name,
				Type:   rapid.SampledFrom([]export.Type{export.Gauge, export.Counter}).Draw(t, "type"),
				Labels: uses.Draw(t, "labels"), Every: time.Duration(rapid.IntRange(0, 3).Draw(t,
					"every")) * time.Minute})
		}
		for _, kind := range rapid.SliceOfNDistinct(names, 0, 3, rapid.ID).Draw(t, "events") {
			l.Events = append(l.Events, export.Event{Kind: kind, Fields: uses.Draw(t, "fields")})
		}
		return l
	})
}

// What leaves is in the wish and in what was agreed to, whatever both are, and no agreement is asked for twice.
func TestIntersectionIsInBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wish, allowed := lists().Draw(t, "wish"), lists().Draw(t, "allowed")
		through := export.Intersect(wish, allowed)
		if more := export.Wider(through, allowed); len(more) > 0 {
			t.Fatalf("what leaves is wider than what was agreed to: %q", more)
		}
		if more := export.Wider(through, wish); len(more) > 0 {
			t.Fatalf("what leaves is wider than the wish: %q", more)
		}
		if more := export.Wider(wish, wish); len(more) > 0 {
			t.Fatalf("a wish is wider than itself: %q", more)
		}
	})
}
