package flags

import (
	"maps"
	"sync"
)

// Folded is a Compiled for one cell and instant: whatever no caller can influence is settled. What it answers never changes.
type Folded struct {
	compiled   *Compiled
	facts      map[string]any          // what rules may ask of the cell
	killed     map[string]killedResult // by flag
	openings   []opening               // by feature
	states     []CellState             // by gate
	nextChange int64
	revision   string
	document   func() []byte
	ramps      sync.Map // *flag → *compiled: rules with their ramp around them, made when they are asked for
}

// opening is how far a feature is open.
type opening struct {
	percent int   // of users; 0: shut
	gate    int32 // whose ramp counts, if percent is neither 0 nor 100
	shown   bool  // its flags are in bulk answers and in the document (R45)
}

// Fold settles what may be on at all in the cell at an instant, in Unix seconds. What closes a feature, the first that
// holds: its flag is killed, the cell's owner holds it, the vendor holds its announcement, a release that may run does not
// contain it, its time has not come; then the ramp counts. Of several announcements of a feature the most open one counts.
func (c *Compiled) Fold(o Orders, f Facts, at int64) *Folded {
	out := &Folded{
		compiled: c,
		facts:    f.ruleData(),
		killed:   c.resolveKills(o.Killed),
		openings: make([]opening, len(c.featureIndexes)),
		states:   make([]CellState, len(c.gates)),
	}
	for i := range out.openings {
		out.openings[i].shown = !c.gated[i] && !c.hidden[i]
	}
	s := featureFacts{
		contained: c.markFeatures(f.Features),
		held:      c.markFeatures(f.Held),
		killed:    make([]bool, len(c.featureIndexes)),
	}
	for key := range out.killed {
		if place := c.flags[key].featureIndex; place != ungated {
			s.killed[place] = true
		}
	}
	held := make(map[string]bool, len(o.Held))
	for _, id := range o.Held {
		held[id] = true
	}
	for i := range c.gates {
		g := &c.gates[i]
		share := g.percentInCell(f.Cell, at)
		out.states[i] = s.cellState(c.gateFeatures[i], held[g.ID], at >= g.At, share, g.By)
		if held[g.ID] {
			out.openFeatures(i, &s, 0, !g.Embargo)
			continue
		}
		out.openFeatures(i, &s, share, !g.Embargo || at >= g.At)
		if next := g.nextChange(f.Cell, at); next != 0 && (out.nextChange == 0 || next < out.nextChange) {
			out.nextChange = next
		}
	}
	out.revision = out.computeRevision()
	out.document = sync.OnceValue(out.encodeDocument)
	return out
}

// openFeatures lets a gate's share through to those of its features that nothing else closes.
func (f *Folded) openFeatures(gate int, s *featureFacts, share int, shown bool) {
	for _, place := range f.compiled.gateFeatures[gate] {
		o := &f.openings[place]
		o.shown = o.shown || shown
		if share > o.percent && s.contained[place] && !s.held[place] {
			o.percent, o.gate = share, int32(gate)
		}
	}
}

// featureFacts is what is the case for features, by place, whatever their gates say.
type featureFacts struct {
	contained, held, killed []bool
}

// cellState says what an announcement is in the cell.
func (s *featureFacts) cellState(features []int32, held, due bool, share int, by string) CellState {
	var killed, missing bool
	for _, place := range features {
		killed = killed || s.killed[place]
		held = held || s.held[place]
		missing = missing || !s.contained[place]
	}
	switch {
	case killed:
		return Killed
	case held:
		return Held
	case missing:
		return Waiting
	case !due || by == ByCell && share == 0: // the cell's step is its time
		return Armed
	case share < 100:
		return Ramping
	}
	return On
}

// killedResult is a flag as it is while it is killed.
type killedResult struct {
	def    Definition
	result Result
}

// resolveKills gives what killed flags are: their off variant; or else, which is as near to off as they say, the default without rules.
func (c *Compiled) resolveKills(orders []KilledFlag) map[string]killedResult {
	dead := make(map[string]killedResult, len(orders))
	for _, k := range orders {
		f, known := c.flags[k.Flag]
		if !known {
			continue
		}
		def := *f.def
		def.Targeting = nil
		def.Metadata = maps.Clone(def.Metadata)
		if def.Metadata == nil {
			def.Metadata = map[string]any{}
		}
		def.Metadata["killed"] = true
		if k.Reason != "" && !def.Client() { // browsers need not know why (R45)
			def.Metadata["killed"] = k.Reason
		}
		if off := def.Off(); def.Variants[off] != nil { // without one, what is disabled stays so: no kill turns on what was off
			def.DefaultVariant, def.Disabled = off, false
		}
		result := Result{Reason: ReasonDefault, Metadata: def.Metadata}
		if rule, err := newEvaluator(&def); err == nil { // as it was with its rule
			result = rule.evaluate(nil, nil, 0)
		}
		dead[k.Flag] = killedResult{def, result}
	}
	return dead
}

// ruleData gives the facts as rules see them. All are there, so that none is taken from a caller (R36).
func (f *Facts) ruleData() map[string]any {
	labels := make(map[string]any, len(f.Labels))
	for name, value := range f.Labels {
		labels[name] = value
	}
	return map[string]any{"cell": f.Cell, "channel": f.Channel, "release": f.Release, "region": f.Region, "labels": labels}
}

// Next gives the earliest later instant at which time alone changes the folding, in Unix seconds; 0: none.
func (f *Folded) Next() int64 { return f.nextChange }

// Revision changes whenever the answer to any question may change, and is the same while none does.
func (f *Folded) Revision() string { return f.revision }

// States tells what each announcement of the bundle is in the cell, by ID.
func (f *Folded) States() map[string]CellState {
	states := make(map[string]CellState, len(f.states))
	for i, s := range f.states {
		states[f.compiled.gates[i].ID] = s
	}
	return states
}
