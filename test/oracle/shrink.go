package oracle

import "encoding/json"

// shrink makes a flag and a context as small as possible while differ holds.
func shrink(f Flag, caller map[string]any, differ func(Flag, map[string]any) bool) (Flag, map[string]any) {
	for budget := 20_000; budget > 0; {
		found := false
		for _, smaller := range smallerCases(f, caller) {
			if budget--; differ(smaller.flag, smaller.caller) {
				f, caller, found = smaller.flag, smaller.caller, true
				break
			}
		}
		if !found {
			break
		}
	}
	return f, caller
}

type testCase struct {
	flag   Flag
	caller map[string]any
}

func smallerCases(f Flag, caller map[string]any) (cases []testCase) {
	for _, c := range shrinkValue(caller) {
		if c, ok := c.(map[string]any); ok {
			cases = append(cases, testCase{f, c})
		}
	}
	var rule any
	if json.Unmarshal(f.Targeting, &rule) != nil {
		return cases
	}
	for _, r := range shrinkValue(rule) {
		text, err := json.Marshal(r)
		if err != nil {
			continue
		}
		g := f
		g.Targeting = text
		cases = append(cases, testCase{g, caller})
	}
	return cases
}

// shrinkValue returns copies of v with something left out.
func shrinkValue(v any) (all []any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			all = append(all, v[i], append(append([]any{}, v[:i]...), v[i+1:]...))
		}
		for i := range v {
			for _, s := range shrinkValue(v[i]) {
				changed := append([]any{}, v...)
				changed[i] = s
				all = append(all, changed)
			}
		}
	case map[string]any:
		for name, item := range v {
			all = append(all, item)
			for i, s := range append([]any{nil}, shrinkValue(item)...) {
				changed := make(map[string]any, len(v))
				for other, item := range v {
					changed[other] = item
				}
				if i == 0 {
					delete(changed, name)
				} else {
					changed[name] = s
				}
				all = append(all, changed)
			}
		}
	}
	return all
}
