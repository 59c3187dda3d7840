package flags

// Evaluated is a flag's key and result.
type Evaluated struct {
	Key string
	Result
}

// Evaluate returns a flag's result for a caller. at is the instant that rules see, in Unix seconds.
func (f *Folded) Evaluate(key string, ctx Context, at int64) Result {
	flag, known := f.compiled.flags[key]
	if !known {
		return Result{Reason: ReasonError, Error: ErrorFlagNotFound, Message: "there is no such flag"}
	}
	return f.evaluateFlag(flag, ctx, at)
}

// Exposed reports whether browsers may see a flag (R45).
func (f *Folded) Exposed(key string) bool {
	flag, known := f.compiled.flags[key]
	return known && flag.def.Client()
}

// All evaluates flags at one instant (R40) and returns the results by key: all shown flags (R45), or for a browser the
// exposed ones only.
func (f *Folded) All(ctx Context, at int64, client bool) []Evaluated {
	all := make([]Evaluated, 0, len(f.compiled.sorted))
	f.Each(ctx, at, client, func(key string, r *Result) { all = append(all, Evaluated{Key: key, Result: *r}) })
	return all
}

// Each is All without a list: it calls visit with each result, which the next one overwrites.
func (f *Folded) Each(ctx Context, at int64, client bool, visit func(key string, r *Result)) {
	var r Result
	for _, flag := range f.compiled.sorted {
		if f.isShown(flag) && (!client || flag.def.Client()) {
			r = f.evaluateFlag(flag, ctx, at)
			visit(flag.def.Key, &r)
		}
	}
}

func (f *Folded) isShown(flag *flag) bool {
	return flag.featureIndex == ungated || f.openings[flag.featureIndex].shown
}

func (f *Folded) evaluateFlag(flag *flag, ctx Context, at int64) Result {
	if len(f.killed) > 0 {
		if killed, ok := f.killed[flag.def.Key]; ok {
			if killed.evaluator == nil {
				return killed.result
			}
			return killed.evaluator.evaluate(ctx, f.facts, at)
		}
	}
	if flag.featureIndex == ungated {
		return flag.evaluator.evaluate(ctx, f.facts, at)
	}
	o := f.openings[flag.featureIndex]
	switch {
	case o.percent == 0:
		return flag.offResult
	case o.percent == 100:
		return flag.evaluator.evaluate(ctx, f.facts, at)
	}
	if rule := f.rampedEvaluator(flag, o); rule != nil {
		return rule.evaluate(ctx, f.facts, at)
	}
	return flag.offResult
}

// rampedEvaluator returns a flag's rule with a ramp around it while a gate's share grows: the rule of the document, so
// that both agree. It returns nil if that rule can't be compiled; the bounds of bundles leave room for a ramp.
func (f *Folded) rampedEvaluator(flag *flag, o opening) *evaluator {
	if rule, ok := f.ramps.Load(flag); ok {
		return rule.(*evaluator)
	}
	def := addRamp(flag.def, &f.compiled.gates[o.gate], o.percent)
	rule, err := newEvaluator(&def)
	if err != nil {
		rule = nil
	}
	stored, _ := f.ramps.LoadOrStore(flag, rule)
	return stored.(*evaluator)
}
