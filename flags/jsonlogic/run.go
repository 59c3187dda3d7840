package jsonlogic

// run is one evaluation.
type run struct {
	Input
	steps  int // steps left
	depth  int // depth of nested rules from the data
	merged map[string]any
	stack  [8]any // arguments of operators
	top    int
}

// root stands for the data of the whole evaluation where variables are looked up, so that the merged object is built
// only on demand.
type root struct{}

func (r *run) spend(steps int) error {
	if r.steps -= steps; r.steps < 0 {
		return ErrBudget
	}
	return nil
}

// spendText spends the cost of scanning a text. Other values cost nothing here.
func (r *run) spendText(v any) error {
	if s, ok := v.(string); ok && len(s) >= 64 {
		return r.spend(len(s) / 64)
	}
	return nil
}

// pushArgs returns room for n arguments until popArgs(before).
func (r *run) pushArgs(n int) (room []any, before int) {
	before = r.top
	if n > len(r.stack)-r.top {
		return make([]any, n), before
	}
	r.top += n
	return r.stack[before:r.top:r.top], before
}

func (r *run) popArgs(before int) { r.top = before }

// evaluate evaluates a value that appeared during the evaluation.
func (r *run) evaluate(v, data any) (any, error) {
	if v == nil || isPrimitive(v) {
		return v, nil
	}
	n, err := r.compileNested(v)
	if err != nil {
		return nil, err
	}
	return r.evalNested(n, data)
}

func (r *run) compileNested(v any) (node, error) {
	c := compiler{run: r}
	n := c.compile(v)
	return n, r.spend(0)
}

func (r *run) evalNested(n node, data any) (any, error) {
	if r.depth++; r.depth > MaxDepth {
		return nil, ErrBudget
	}
	v, err := n.eval(r, data)
	r.depth--
	return v, err
}

// lookUpData returns the entry called name of the whole evaluation's data; theirs reports that the caller provided the
// entry.
func (r *run) lookUpData(name string) (v any, theirs bool) {
	if name == "$flagd" {
		return r.flagdProperties(), false
	}
	if v, ok := r.Facts[name]; ok {
		return v, false
	}
	return r.Data[name], true
}

func (r *run) flagdProperties() map[string]any {
	return map[string]any{"flagKey": r.FlagKey, "timestamp": float64(r.At)}
}

// allData returns the data of the whole evaluation as one object.
func (r *run) allData() (map[string]any, error) {
	if r.merged != nil {
		return r.merged, nil
	}
	all := make(map[string]any, len(r.Data)+len(r.Facts)+1)
	for name, v := range r.Data {
		v, err := r.toJSONValue(v)
		if err != nil {
			return nil, err
		}
		all[name] = v
	}
	for name, v := range r.Facts {
		all[name] = v
	}
	all["$flagd"] = r.flagdProperties()
	r.merged = all
	return all, r.spend(len(all))
}
