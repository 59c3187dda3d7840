package repository

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// joinCommas joins of(0) to of(n-1).
func joinCommas(n int, of func(i int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = of(i)
	}
	return strings.Join(parts, ",")
}

// ruleFlag returns a member of flags with a rule.
func ruleFlag(key, rule string) string {
	return fmt.Sprintf(
		`%q:{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":%s}`, key, rule)
}

// References and shared metadata expand a file of at most 1 MiB only up to the limits.
func TestSmallFilesThatAreLargeWrittenOut(t *testing.T) {
	text := `"` + strings.Repeat("x", 16_000) + `"`
	looks := func(n int) string { // a rule with n texts
		return `{"if":[{"in":[{"var":"x"},[` + joinCommas(n, func(int) string { return text }) + `]]},"on","off"]}`
	}
	refer := func(n int) string {
		return joinCommas(n, func(i int) string { return ruleFlag(fmt.Sprintf("f%d", i), `{"$ref":"e"}`) })
	}
	doubling := joinCommas(60, func(i int) string {
		return fmt.Sprintf(`"e%d":{"and":[{"$ref":"e%d"},{"$ref":"e%d"}]}`, i+1, i, i)
	})
	for name, test := range map[string]struct {
		files  []string
		faults string
	}{
		"a rule of many texts": {[]string{`{"flags":{` + ruleFlag("f", looks(20)) + `}}`}, "more than 256 KiB"},
		"a shared one": {
			[]string{`{"$evaluators":{"e":` + looks(30) + `},"flags":{` + refer(3000) + `}}`}, "more than 256 KiB",
		},
		"shared by many": {
			[]string{`{"$evaluators":{"e":` + looks(14) + `},"flags":{` + refer(3000) + `}}`}, "more than 8 MiB",
		},
		"shared in many files": {
			repeatText(`{"$evaluators":{"e":`+looks(14)+`},"flags":{`+refer(30)+`}}`, 200), "more than 24 MiB",
		},
		"references that double": {
			[]string{
				`{"$evaluators":{"e0":{"var":"x"},` + doubling + `},"flags":{` + ruleFlag("f", `{"$ref":"e60"}`) + `}}`,
			},
			"more than 10000 nodes",
		},
		"metadata of a set": {
			[]string{
				`{"metadata":{` + joinCommas(14, func(i int) string { return fmt.Sprintf(`"m%d":`, i) + text }) +
					`},"flags":{` + refer(3000) + `}}`,
			},
			"more than 8 MiB",
		},
		"large metadata of a set": {
			[]string{
				`{"metadata":{` + joinCommas(50, func(i int) string { return fmt.Sprintf(`"m%d":`, i) + text }) +
					`},"flags":{` + refer(2000) + `}}`,
			},
			"more than 256 KiB",
		},
		"escapes": {
			[]string{
				`{"flags":{` +
					ruleFlag("f",
						`{"in":[{"var":"x"},[`+joinCommas(4,
							func(int) string { return `"` + strings.Repeat(`\"`, 16_000) + `"` })+`]]}`) + `}}`,
			},
			"more than 256 KiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for i, file := range test.files {
				file = strings.ReplaceAll(file, `"f`, fmt.Sprintf(`"f%d-`, i))
				file = strings.ReplaceAll(file, fmt.Sprintf(`"f%d-lags"`, i), `"flags"`)
				fsys[fmt.Sprintf("flags/%03d.json", i)] = &fstest.MapFile{Data: []byte(file)}
			}
			tree := Load(nil, fsys)
			if !tree.Invalid || !strings.Contains(fmt.Sprint(tree.Faults), test.faults) {
				t.Errorf("nothing says %q: %.300s", test.faults, fmt.Sprint(tree.Faults))
			}
			written := 0
			for _, d := range tree.Flags {
				written += len(d.Encode())
			}
			if written > maxTotalBytes {
				t.Errorf("%d bytes written out", written)
			}
		})
	}
}

func repeatText(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}
