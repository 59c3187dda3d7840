package flags

import (
	"bytes"
	"encoding/json"

	"github.com/sluice-cd/sluice/flags/jsonlogic"
)

// Document returns the flags as a flagd flag set, for flagd and its in-process providers. Gates and the cell's facts
// are constants there, so that evaluating the document yields the value and variant of Evaluate. Flags under embargo
// are left out (R45). The bytes are shared, and are equal whenever Revision is.
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

// foldDefinition returns a flag's definition with everything that folding decided as constants.
func (f *Folded) foldDefinition(flag *flag) Definition {
	def := *flag.def
	killed, isKilled := f.killed[def.Key]
	if isKilled {
		def = killed.def
	}
	if !isKilled && flag.featureIndex != ungated {
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

// addRamp returns a flag with a ramp around its rule. Callers outside the share, by flagd's own bucket, and callers
// without a targeting key get the off variant (R44). A disabled flag leaves the callers within the share their own
// default.
func addRamp(d *Definition, g *Gate, percent int) Definition {
	ramped, rule := *d, json.RawMessage(d.Targeting)
	if d.Disabled {
		ramped.Disabled, ramped.DefaultVariant, rule = false, "", nil
	}
	if len(rule) == 0 || string(rule) == "{}" {
		rule = json.RawMessage("null") // chooses no variant, so that the default counts
	}
	key := map[string]any{"var": "targetingKey"}
	in := map[string]any{"and": []any{
		map[string]any{"!!": key},
		map[string]any{"==": []any{"in", map[string]any{"fractional": []any{
			map[string]any{"cat": []any{g.ID, key}}, []any{"in", percent}, []any{"out", 100 - percent},
		}}}},
	}}
	raw, err := json.Marshal(map[string]any{"if": []any{in, rule, d.Off()}})
	if err != nil { // impossible: the rule was compiled from JSON
		raw = json.RawMessage(`{"if":[true,` + string(quoteJSON(d.Off())) + `]}`)
	}
	ramped.Targeting = raw
	return ramped
}

func quoteJSON(s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil { // impossible for a string
		return []byte(`""`)
	}
	return raw
}
