package flags

import (
	"maps"
	"slices"
	"sync"
)

// Folded is a Compiled for one cell and instant, with everything decided that no caller can influence. Immutable.
type Folded struct {
	compiled   *Compiled
	facts      map[string]any        // the cell's facts, as rules see them
	killed     map[string]killedFlag // by flag
	openings   []opening             // by feature
	states     []CellState           // by gate
	nextChange int64
	passed     []int // by timed flag: how many of its rule's instants have come, if the rule is in force
	computed   bool  // a rule in force computes with the time, so that nextChange does not name every change
	revision   string
	document   func() []byte
	ramps      sync.Map // *flag → *evaluator: flags with a ramp, made on first use
}

// opening says how far a feature is open.
type opening struct {
	percent int   // of users; 0: shut
	gate    int32 // the gate with the ramp, if percent is neither 0 nor 100
	shown   bool  // bulk answers and the document contain the feature's flags (R45)
}

// Fold decides which flags may be on in the cell at an instant, in Unix seconds. The first of these conditions closes a
// feature: its flag is killed, the cell's owner holds the feature, the vendor holds the announcement, a release that
// may run lacks the feature, the time has not come. Otherwise the ramp counts. Of several announcements of a feature
// the most open one counts.
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
		out.changesAt(g.nextChange(f.Cell, at))
	}
	out.foldInstants(at)
	out.revision = out.computeRevision()
	out.document = sync.OnceValue(out.encodeDocument)
	return out
}

// changesAt notes an instant that changes the folding; 0: none.
func (f *Folded) changesAt(at int64) {
	if at != 0 && (f.nextChange == 0 || at < f.nextChange) {
		f.nextChange = at
	}
}

// foldInstants notes which instants of the rules in force have come, and the next one.
func (f *Folded) foldInstants(at int64) {
	f.passed = make([]int, len(f.compiled.timed))
	for i, flag := range f.compiled.timed {
		rule := flag.evaluator
		if killed, ok := f.killed[flag.def.Key]; ok {
			rule = killed.evaluator
		} else if flag.featureIndex != ungated && f.openings[flag.featureIndex].percent == 0 {
			continue
		}
		instants, computed := rule.clockUse()
		f.computed = f.computed || computed
		if f.passed[i], _ = slices.BinarySearch(instants, at+1); f.passed[i] < len(instants) {
			f.changesAt(instants[f.passed[i]])
		}
	}
}

// openFeatures opens a gate's features up to the gate's share, unless something else closes the feature.
func (f *Folded) openFeatures(gate int, s *featureFacts, share int, shown bool) {
	for _, place := range f.compiled.gateFeatures[gate] {
		o := &f.openings[place]
		o.shown = o.shown || shown
		if share > o.percent && s.contained[place] && !s.held[place] {
			o.percent, o.gate = share, int32(gate)
		}
	}
}

// featureFacts holds, by feature index, what is true of features independent of gates.
type featureFacts struct {
	contained, held, killed []bool
}

// cellState returns the state of an announcement in the cell.
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
	case !due || by == ByCell && share == 0: // for a ramp by cells, the cell's step is the time
		return Armed
	case share < 100:
		return Ramping
	}
	return On
}

// killedFlag is a killed flag's definition. Without an evaluator, result is the flag's result.
type killedFlag struct {
	def       Definition
	evaluator *evaluator
	result    Result
}

// resolveKills returns what killed flags give, see Definition.Kill.
func (c *Compiled) resolveKills(orders []KilledFlag) map[string]killedFlag {
	results := make(map[string]killedFlag, len(orders))
	for _, k := range orders {
		f, known := c.flags[k.Flag]
		if !known {
			continue
		}
		def := *f.def.Kill().Definition
		def.Metadata = maps.Clone(def.Metadata)
		if def.Metadata == nil {
			def.Metadata = map[string]any{}
		}
		def.Metadata["killed"] = true
		if k.Reason != "" && !def.Client() { // browsers don't see the reason (R45)
			def.Metadata["killed"] = k.Reason
		}
		rule, err := newEvaluator(&def) // keeps the reason that the definition yields
		if err != nil {
			rule = nil
		}
		results[k.Flag] = killedFlag{def, rule, Result{Reason: ReasonDefault, Metadata: def.Metadata}}
	}
	return results
}

// ruleData returns the facts as rules see them. Every fact is present, so that a rule never reads one from the caller's
// context (R36).
func (f *Facts) ruleData() map[string]any {
	labels := make(map[string]any, len(f.Labels))
	for name, value := range f.Labels {
		labels[name] = value
	}
	return map[string]any{
		"cell": f.Cell, "channel": f.Channel, "release": f.Release, "region": f.Region, "labels": labels,
	}
}

// Foreseen reports whether Next names each change of answers by time alone. It does not where a rule in force computes
// with $flagd.timestamp instead of comparing it with numbers.
func (f *Folded) Foreseen() bool { return !f.computed }

// Next returns the earliest later instant at which time alone changes the folding, or the result of a rule's comparison
// with $flagd.timestamp, in Unix seconds; 0: none.
func (f *Folded) Next() int64 { return f.nextChange }

// Revision returns a string that changes whenever any answer may change, and only then.
func (f *Folded) Revision() string { return f.revision }

// States returns the state of each announcement of the bundle in the cell, by ID.
func (f *Folded) States() map[string]CellState {
	states := make(map[string]CellState, len(f.states))
	for i, s := range f.states {
		states[f.compiled.gates[i].ID] = s
	}
	return states
}
