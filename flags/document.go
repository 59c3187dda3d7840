package flags

import (
	"bytes"
	"encoding/json"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Document gives the flags as a flagd flag set, for flagd and its in-process providers: gates and the cell's facts are constants
// in it, so that evaluating it gives the value and variant that Evaluate gives. Flags under embargo are not in it (R45). The
// bytes are shared, and the same whenever Revision is.
func (f *Folded) Document() []byte { return f.document() }

func (f *Folded) encodeDocument() []byte {
	var out bytes.Buffer
	out.WriteString(`{"$schema":"https://flagd.dev/schema/v0/flags.json","flags":{`)
	first := true
	for _, flag := range f.compiled.sorted {
		if !f.isShown(flag) {
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.Write(quoteJSON(flag.def.Key))
		out.WriteByte(':')
		def := f.foldDefinition(flag)
		out.Write(def.Encode())
	}
	out.WriteString("}}\n")
	return out.Bytes()
}

// foldDefinition gives a flag's definition with all that the folding settled as constants.
func (f *Folded) foldDefinition(flag *flag) Definition {
	def := *flag.def
	if dead, is := f.killed[def.Key]; is {
		return dead.def
	}
	if flag.featureIndex != ungated {
		o := f.openings[flag.featureIndex]
		switch {
		case o.percent == 0:
			def.Targeting, def.DefaultVariant, def.Disabled = nil, flag.offResult.Variant, false
			return def
		case o.percent < 100:
			def = addRamp(flag.def, &f.compiled.gates[o.gate], o.percent)
		}
	}
	if len(def.Targeting) > 0 {
		def.Targeting = jsonlogic.Substitute(def.Targeting, f.facts)
	}
	return def
}

// addRamp gives a flag with a ramp around its rule: whoever the share does not have, by flagd's own bucket, gets the off variant,
// and so does a caller without a targeting key (R44). A disabled flag leaves the others their own default.
func addRamp(d *Definition, g *Gate, percent int) Definition {
	ramped, rule := *d, json.RawMessage(d.Targeting)
	if d.Disabled {
		ramped.Disabled, ramped.DefaultVariant, rule = false, "", nil
	}
	if len(rule) == 0 || string(rule) == "{}" {
		rule = json.RawMessage("null") // chooses none, so that the default variant counts
	}
	key := map[string]any{"var": "targetingKey"}
	in := map[string]any{"and": []any{
		map[string]any{"!!": key},
		map[string]any{"==": []any{"in", map[string]any{"fractional": []any{
			map[string]any{"cat": []any{g.ID, key}}, []any{"in", percent}, []any{"out", 100 - percent},
		}}}},
	}}
	raw, err := json.Marshal(map[string]any{"if": []any{in, rule, d.Off()}})
	if err != nil { // the rule was compiled: it is JSON
		raw = json.RawMessage(`{"if":[true,` + string(quoteJSON(d.Off())) + `]}`)
	}
	ramped.Targeting = raw
	return ramped
}

func quoteJSON(s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil { // no string fails
		return []byte(`""`)
	}
	return raw
}
