package flags

// Evaluated is a flag with what it evaluates to.
type Evaluated struct {
	Key string
	Result
}

// Evaluate gives what a flag is for a caller. at is the instant that rules see, in Unix seconds.
func (f *Folded) Evaluate(key string, ctx Context, at int64) Result {
	flag, known := f.compiled.flags[key]
	if !known {
		return Result{Reason: ReasonError, Error: ErrorFlagNotFound, Message: "there is no such flag"}
	}
	return f.resolve(flag, ctx, at)
}

// Exposed tells whether browsers may see a flag (R45).
func (f *Folded) Exposed(key string) bool {
	flag, known := f.compiled.flags[key]
	return known && flag.def.Client()
}

// All evaluates every flag at one instant (R40), by key: all that are shown (R45), or for a browser those that are exposed.
func (f *Folded) All(ctx Context, at int64, client bool) []Evaluated {
	all := make([]Evaluated, 0, len(f.compiled.sorted))
	for _, flag := range f.compiled.sorted {
		if f.shown(flag) && (!client || flag.def.Client()) {
			all = append(all, Evaluated{Key: flag.def.Key, Result: f.resolve(flag, ctx, at)})
		}
	}
	return all
}

func (f *Folded) shown(flag *flag) bool { return flag.feature == ungated || f.open[flag.feature].shown }

func (f *Folded) resolve(flag *flag, ctx Context, at int64) Result {
	if len(f.killed) > 0 {
		if dead, is := f.killed[flag.def.Key]; is {
			return dead.result
		}
	}
	if flag.feature == ungated {
		return flag.rule.evaluate(ctx, f.facts, at)
	}
	o := f.open[flag.feature]
	switch {
	case o.percent == 0:
		return flag.shut
	case o.percent == 100:
		return flag.rule.evaluate(ctx, f.facts, at)
	}
	if rule := f.ramped(flag, o); rule != nil {
		return rule.evaluate(ctx, f.facts, at)
	}
	return flag.shut
}

// ramped gives the rule that a flag has while its gate's share grows: the one that the document has, so that both agree. It is
// nil if it can't be compiled: the bounds of bundles leave room for a ramp.
func (f *Folded) ramped(flag *flag, o opening) *compiled {
	if rule, there := f.ramps.Load(flag); there {
		return rule.(*compiled)
	}
	def := ramp(flag.def, &f.compiled.gates[o.gate], o.percent)
	rule, err := compileFlag(&def)
	if err != nil {
		rule = nil
	}
	kept, _ := f.ramps.LoadOrStore(flag, rule)
	return kept.(*compiled)
}
