package oracle

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	schema "github.com/open-feature/flagd-schemas/json"
	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/zap"

	"github.com/sluice-cd/sluice/flags"
)

const (
	foldings    = 20
	perFolding  = 100 // flags
	perDocument = 5   // contexts
	now         = 1_700_000_000
)

// TestDocumentIsFlagds gives /flags.json to flagd, whose answers must be the cell's, with facts, gates and ramps,
// whatever callers claim (R36).
func TestDocumentIsFlagds(t *testing.T) {
	for stream := range uint64(foldings) {
		g := newGenerator(*first, stream)
		folded, keys := g.foldFlags(t)
		flagd := loadDocument(t, folded.Document())
		for range perDocument {
			caller := g.lyingContext()
			for _, key := range keys {
				before := time.Now().Unix()
				ours, theirs := AnswerOf(folded.Evaluate(key, caller, before)), flagd.Evaluate(key, caller)
				// flagd's answer can depend on chance
				for tries := 0; tries < 20 && !reflect.DeepEqual(ours, theirs); tries++ {
					ours, theirs = AnswerOf(folded.Evaluate(key, caller, time.Now().Unix())), flagd.Evaluate(key,
						caller)
				}
				if !reflect.DeepEqual(ours, theirs) {
					about, _ := json.Marshal(caller)
					t.Fatalf("stream %d, flag %s\ncontext %s\nours  %+v\nflagd %+v\n%s", stream, key, about, ours,
						theirs, folded.Document())
				}
			}
		}
	}
}

// TestDocumentIsOfTheSchema checks the document against flagd's schema, with ramps and facts.
func TestDocumentIsOfTheSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	for name, text := range map[string]string{"flagd": schema.FlagdSchema, "flags": schema.FlagSchema,
		"targeting": schema.TargetingSchema} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("https://flagd.dev/schema/v0/"+name+".json", doc); err != nil {
			t.Fatal(err)
		}
	}
	flagd, err := c.Compile("https://flagd.dev/schema/v0/flagd.json")
	if err != nil {
		t.Fatal(err)
	}
	b := &flags.Bundle{Version: flags.BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{}}
	for i, rule := range []string{
		`{}`,
		`{"if":[{"sem_ver":[{"var":"release"},">=","2026.11.0"]},"on",{"fractional":[["on",1],["off",2]]}]}`,
		`{"if":[{"starts_with":[{"var":"cell"},"ac"]},"on",{"in":[{"var":["region","eu"]},["eu","us"]]},"off",null]}`,
		`{"if":[{"==":[{"var":"labels.tier"},"gold"]},"on","off"]}`,
	} {
		for _, of := range []string{"", "f", "g"} {
			meta := ""
			if of != "" {
				meta = `,"metadata":{"feature":"` + of + `","off":"off"}`
			}
			key := fmt.Sprintf("flag-%d%s", i, of)
			b.Flags[key] = json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},` +
				`"defaultVariant":"on","targeting":` + rule + meta + `}`)
		}
	}
	b.Gates = []flags.Gate{{ID: "a", Features: []string{"f"}, At: 100, Steps: []flags.GateStep{{Percent: 40}}}}
	compiled, err := flags.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	facts := flags.Facts{
		Features: []string{"f"}, Cell: "acme", Release: "2026.11.3", Region: "eu",
		Labels: map[string]string{"tier": "gold"},
	}
	document := compiled.Fold(flags.Orders{Killed: []flags.KilledFlag{{Flag: "flag-0", Reason: "slow"}}}, facts,
		100).Document()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(document)))
	if err != nil {
		t.Fatal(err)
	}
	if err := flagd.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, document)
	}
}

// foldFlags generates flags with rules about facts; half of the flags are gated, by all kinds of ramps.
func (g generator) foldFlags(t *testing.T) (*flags.Folded, []string) {
	t.Helper()
	facts := strings.NewReplacer(`"version"`, `"release"`, `"email"`, `"region"`, `"name"`, `"cell"`, `"user.name"`,
		`"labels.tier"`)
	b := &flags.Bundle{Version: flags.BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{}}
	for i := 0; len(b.Flags) < perFolding; i++ {
		f := g.flag()
		rule, err := json.Marshal(g.realisticRule(3))
		if err != nil {
			t.Fatal(err)
		}
		f.Targeting = json.RawMessage(facts.Replace(string(rule)))
		f.Metadata = map[string]any{"n": 1.5}
		if g.chance(60) {
			f.Metadata["feature"], f.Metadata["off"] = fmt.Sprintf("f%d", g.IntN(5)), "off"
		}
		key := fmt.Sprintf("flag-%d", i)
		d := f.Definition(key)
		b.Flags[key] = d.Encode()
		one := &flags.Bundle{Version: 1, Channel: "c", Flags: map[string]json.RawMessage{key: b.Flags[key]}}
		if _, err := flags.Compile(one); err != nil { // flagd accepts more than package flags
			delete(b.Flags, key)
		}
	}
	for i := range 5 {
		gate := flags.Gate{
			ID: fmt.Sprintf("a%d", i), Features: []string{fmt.Sprintf("f%d", i)}, At: now - 10 + int64(i*4),
		}
		gate.By = pickOne(g, "", flags.ByUser, flags.ByUser, flags.ByCell)
		if g.chance(80) {
			gate.Steps = []flags.GateStep{{Percent: g.IntN(101)}}
		}
		b.Gates = append(b.Gates, gate)
	}
	compiled, err := flags.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	folded := compiled.Fold(
		flags.Orders{Killed: []flags.KilledFlag{{Flag: "flag-3", Reason: "slow"}, {Flag: "flag-4"}}},
		flags.Facts{
			Cell: g.word(), Channel: "dedicated", Release: g.version(), Region: "eu",
			Labels: map[string]string{"tier": g.word()}, Features: []string{"f0", "f1", "f2", "f3", "f4"},
		},
		now)
	var keys []string
	for _, e := range folded.All(nil, now, false) {
		keys = append(keys, e.Key)
	}
	return folded, keys
}

// lyingContext generates a context with false claims about the cell.
func (g generator) lyingContext() flags.Context {
	c := g.context()
	delete(c, "$flagd")
	for _, name := range []string{"cell", "release", "region", "labels"} {
		if g.chance(50) {
			c[name] = pickOne[any](g, g.word(), g.version(), "eu", map[string]any{"tier": g.word()})
		}
	}
	return c
}

// loadDocument gives flagd a document as its sources do.
func loadDocument(t *testing.T, document []byte) Flagd {
	t.Helper()
	log := logger.NewLogger(zap.NewNop(), false)
	flagStore, err := store.NewStore(log, []string{source})
	if err != nil {
		t.Fatal(err)
	}
	f := Flagd{evaluator.NewJSON(log, flagStore)}
	if err := f.SetState(sync.DataSync{FlagData: string(document), Source: source}); err != nil {
		t.Fatal(err)
	}
	return f
}
