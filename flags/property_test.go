package flags

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// nestedRule returns a rule that chooses on and is deep arrays and objects deep. deep is even.
func nestedRule(deep int) string {
	return strings.Repeat(`{"if":[true,`, deep/2) + `"on"` + strings.Repeat(`]}`, deep/2)
}

// documentFlags returns the flags of a document.
func documentFlags(t interface{ Fatal(...any) }, f *Folded) map[string]json.RawMessage {
	var set struct {
		Flags map[string]json.RawMessage `json:"flags"`
	}
	if err := json.Unmarshal(f.Document(), &set); err != nil {
		t.Fatal(err)
	}
	return set.Flags
}

// checkDocumentAgrees checks that the document's flag, without facts and gates, evaluates as Evaluate does.
func checkDocumentAgrees(t interface {
	Fatal(...any)
	Errorf(string, ...any)
}, f *Folded, key string, ctx Context, at int64) {
	raw, ok := documentFlags(t, f)[key]
	if !ok {
		t.Fatal("the document has no " + key)
	}
	d, err := parseDefinition(key, raw, documentBounds())
	if err != nil {
		t.Fatal(err)
	}
	rule, err := newEvaluator(d)
	if err != nil {
		t.Fatal(err)
	}
	want, got := f.Evaluate(key, ctx, at), rule.evaluate(ctx, nil, at)
	want.Message, got.Message = "", ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s with %v at %d: the document %s\ngives otherwise than Evaluate (-Evaluate +document):\n%s", key,
			ctx, at, raw, diff)
	}
}

// world is everything that an answer may depend on.
type world struct {
	bundle *Bundle
	orders Orders
	facts  Facts
	at     int64
}

const horizon = 60 // all times of a world are earlier

func featureNames() []string { return []string{"f0", "f1", "f2"} }

func subset(t *rapid.T, name string, of []string) []string {
	var some []string
	for _, x := range of {
		if rapid.Bool().Draw(t, name+" "+x) {
			some = append(some, x)
		}
	}
	return some
}

func drawWorld(t *rapid.T) *world {
	w := &world{
		bundle: &Bundle{
			Version: BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{},
			Hidden: subset(t, "hidden", featureNames()[2:]),
		},
		at: rapid.Int64Range(0, horizon).Draw(t, "at"),
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "flags") {
		w.bundle.Flags[fmt.Sprintf("k%d", i)] = drawFlag(t)
	}
	var ids []string
	for i := range rapid.IntRange(0, 4).Draw(t, "gates") {
		g := drawGate(t, fmt.Sprintf("a%d", i))
		w.bundle.Gates = append(w.bundle.Gates, g)
		ids = append(ids, g.ID)
	}
	w.drawConditions(t, ids)
	return w
}

// drawConditions draws what may change while the bundle stays.
func (w *world) drawConditions(t *rapid.T, ids []string) {
	w.orders, w.facts = Orders{}, Facts{Channel: "dedicated"}
	for _, key := range subset(t, "killed", []string{"k0", "k1", "k9"}) {
		w.orders.Killed = append(w.orders.Killed, KilledFlag{
			Flag: key, Reason: rapid.SampledFrom([]string{"", "slow"}).Draw(t, "reason"),
		})
	}
	if rapid.Bool().Draw(t, "held at all") {
		w.orders.Held = subset(t, "held", ids)
	}
	w.facts.Cell = rapid.SampledFrom([]string{"acme", "beta", "gamma"}).Draw(t, "cell")
	w.facts.Release = rapid.SampledFrom([]string{"", "2026.11.2", "2026.11.3"}).Draw(t, "release")
	w.facts.Features = subset(t, "contained", featureNames())
	if rapid.Bool().Draw(t, "owner holds") {
		w.facts.Held = subset(t, "kept", featureNames())
	}
	if rapid.Bool().Draw(t, "labelled") {
		w.facts.Labels = map[string]string{"tier": rapid.SampledFrom([]string{"gold", "silver"}).Draw(t, "tier")}
	}
}

func drawFlag(t *rapid.T) json.RawMessage {
	d := map[string]any{
		"state":          rapid.SampledFrom([]string{"ENABLED", "ENABLED", "ENABLED", "DISABLED"}).Draw(t, "state"),
		"variants":       map[string]any{"on": true, "off": false},
		"defaultVariant": "on",
	}
	meta := map[string]any{}
	if feature := rapid.SampledFrom(append(featureNames(), "")).Draw(t, "feature"); feature != "" {
		meta["feature"], meta["off"] = feature, "off"
	}
	if rapid.Bool().Draw(t, "client") {
		meta["expose"] = "client"
	}
	if len(meta) > 0 {
		d["metadata"] = meta
	}
	rule := rapid.SampledFrom([]string{
		"", "", "{}",
		`{"if":[{"==":[{"var":"cell"},"acme"]},"on",null]}`,
		`{"if":[{"sem_ver":[{"var":"release"},">=","2026.11.3"]},"on","off"]}`,
		`{"if":[{"==":[{"var":"labels.tier"},"gold"]},"on","off"]}`,
		`{"if":[{"in":[{"var":"mail"},["a@b.c"]]},"off"]}`,
		`{"fractional":[["on",50],["off",50]]}`,
		`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"mail"}]},["on",1],["off",1]]}`,
		`{"if":[{">":[{"var":"$flagd.timestamp"},30]},"on","off"]}`,
		`{"var":"variant"}`,
		`{"missing":["cell","region","mail"]}`,
	}).Draw(t, "rule")
	if rule != "" {
		d["targeting"] = json.RawMessage(rule)
	}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func drawGate(t *rapid.T, id string) Gate {
	g := Gate{ID: id, Features: subset(t, "gate's", featureNames()), Embargo: rapid.Bool().Draw(t, "embargo")}
	g.At = rapid.SampledFrom([]int64{0, 10, 20, 30}).Draw(t, "time")
	g.By = rapid.SampledFrom([]string{"", ByUser, ByCell}).Draw(t, "by")
	percent, after := 0, int64(0)
	for range rapid.IntRange(0, 3).Draw(t, "steps") {
		percent = rapid.IntRange(percent, 100).Draw(t, "percent")
		g.Steps = append(g.Steps, GateStep{Percent: percent, After: after})
		after += rapid.Int64Range(1, 8).Draw(t, "after")
	}
	return g
}

func drawContext(t *rapid.T) Context {
	ctx := Context{}
	if rapid.Bool().Draw(t, "keyed") {
		ctx["targetingKey"] = rapid.SampledFrom([]string{"", "ann", "bob", "cy", "dee", "0"}).Draw(t, "key")
	}
	if rapid.Bool().Draw(t, "mailed") {
		ctx["mail"] = rapid.SampledFrom([]any{"a@b.c", "d@e.f", nil, 4.5, true}).Draw(t, "mail")
	}
	if rapid.Bool().Draw(t, "lying") {
		ctx["cell"], ctx["release"], ctx["labels"] = "acme", "2026.11.9", map[string]any{"tier": "gold"}
	}
	if rapid.Bool().Draw(t, "choosing") {
		ctx["variant"] = rapid.SampledFrom([]any{"on", "off", "none", nil, 1.0}).Draw(t, "variant")
	}
	return ctx
}

func (w *world) fold(t *rapid.T) *Folded {
	b, err := ParseBundle(w.bundle.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	return c.Fold(w.orders, w.facts, w.at)
}

// TestNothingIsOnUnlessAllHolds checks the design's invariant 9 against a second implementation of the five conditions.
func TestNothingIsOnUnlessAllHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		f, ctx := w.fold(t), drawContext(t)
		for key, raw := range w.bundle.Flags {
			d, err := parseDefinition(key, raw, documentBounds())
			if err != nil {
				t.Fatal(err)
			}
			if d.Feature() == "" {
				continue
			}
			got := f.Evaluate(key, ctx, w.at)
			may := w.mayBeOn(t, key, d.Feature(), ctx)
			if got.Variant != "off" && got.Error == "" && got.Reason != ReasonDisabled && !may {
				t.Fatalf("%s is %+v, which not all conditions allow", key, got)
			}
			if got.Value == nil && !may {
				t.Fatalf("%s is %+v instead of its off variant (R37)", key, got)
			}
			if may && !d.Disabled && len(d.Targeting) == 0 && got.Value != true {
				t.Fatalf("%s is %+v, though all conditions hold", key, got)
			}
		}
	})
}

// mayBeOn reports whether all five conditions of the design's section 8 hold, by the most open of the feature's
// announcements.
func (w *world) mayBeOn(t *rapid.T, key, feature string, ctx Context) bool {
	for _, k := range w.orders.Killed {
		if k.Flag == key {
			return false
		}
	}
	if !slices.Contains(w.facts.Features, feature) || slices.Contains(w.facts.Held, feature) {
		return false
	}
	most, in := 0, false
	for _, g := range w.bundle.Gates {
		if !slices.Contains(g.Features, feature) || slices.Contains(w.orders.Held, g.ID) || w.at < g.At {
			continue
		}
		percent := 100
		if g.At != 0 && len(g.Steps) > 0 {
			percent = 0
			for _, s := range g.Steps {
				if w.at >= g.At+s.After {
					percent = s.Percent
				}
			}
		}
		user, _ := ctx["targetingKey"].(string)
		within := percent == 100
		if g.By == ByCell {
			if within = within || isInBucket(t, g.ID+w.facts.Cell, percent); within {
				percent = 100
			} else {
				percent = 0
			}
		} else if !within {
			within = user != "" && isInBucket(t, g.ID+user, percent)
		}
		if percent > most {
			most, in = percent, within
		}
	}
	return in
}

// isInBucket evaluates fractional itself.
func isInBucket(t *rapid.T, key string, percent int) bool {
	rule, err := jsonlogic.Compile(fmt.Appendf(nil, `{"fractional":[{"cat":[%q]},["in",%d],["out",%d]]}`, key,
		percent, 100-percent))
	if err != nil {
		t.Fatal(err)
	}
	got, err := rule.Evaluate(jsonlogic.Input{Data: map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	return got == "in"
}

// Until Next nothing changes by time alone; without Next nothing ever does.
func TestNextIsRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		f := w.fold(t)
		until := f.Next()
		if until == 0 {
			until = horizon + 30
		} else if until <= w.at {
			t.Fatalf("next is %d at %d", until, w.at)
		}
		later := *w
		for later.at = w.at + 1; later.at < until; later.at++ {
			g := later.fold(t)
			if g.Revision() != f.Revision() || !cmp.Equal(g.States(), f.States()) {
				t.Fatalf("between %d and %d it is another at %d", w.at, until, later.at)
			}
			if g.Next() != f.Next() {
				t.Fatalf("at %d next is %d, and at %d it is %d", w.at, f.Next(), later.at, g.Next())
			}
		}
	})
}

// Equal revisions imply equal answers.
func TestRevisionCoversAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		f, ctx := w.fold(t), drawContext(t)
		other := *w
		if rapid.Bool().Draw(t, "others") {
			other.drawConditions(t, []string{"a0", "a1", "a2", "a3"})
		}
		if rapid.Bool().Draw(t, "other gates") {
			b := *w.bundle
			b.Gates, b.Hidden = []Gate{
				drawGate(t, "a0"), drawGate(t, "b0"),
			}, subset(t, "hidden now", featureNames()[2:])
			other.bundle = &b
		}
		other.at = rapid.Int64Range(0, horizon).Draw(t, "other time")
		g := other.fold(t)
		if f.Revision() == g.Revision() {
			if diff := cmp.Diff(f.All(ctx, 7, false), g.All(ctx, 7, false)); diff != "" {
				t.Fatalf("one revision, two answers:\n%s", diff)
			}
			if diff := cmp.Diff(string(f.Document()), string(g.Document())); diff != "" {
				t.Fatalf("one revision, two documents:\n%s", diff)
			}
		}
		if same := w.fold(t); same.Revision() != f.Revision() {
			t.Fatal("the same folding has another revision")
		}
	})
}

// Evaluating /flags.json agrees with Evaluate, whatever the caller claims.
func TestDocumentAgreesWithEvaluate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		f, ctx := w.fold(t), drawContext(t)
		at := rapid.Int64Range(0, horizon).Draw(t, "asked at")
		all := f.All(ctx, at, false)
		if len(all) != len(documentFlags(t, f)) {
			t.Fatalf("%d flags in bulk, %d in the document", len(all), len(documentFlags(t, f)))
		}
		for _, e := range all {
			checkDocumentAgrees(t, f, e.Key, ctx, at)
		}
	})
}
