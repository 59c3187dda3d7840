package repository

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/flags"
)

// manyFlags returns a repository of n flags with a rule each, in several files.
func manyFlags(n int, asJSON bool) fstest.MapFS {
	const perFile = 1000
	fsys := fstest.MapFS{"sluice.yaml": {Data: []byte("apiVersion: sluice/v1\nkind: Flags\n")}}
	for from := 0; from < n; from += perFile {
		var b strings.Builder
		if asJSON {
			b.WriteString(`{"flags":{`)
		} else {
			b.WriteString("flags:\n")
		}
		for i := from; i < min(n, from+perFile); i++ {
			switch {
			case asJSON && i > from:
				b.WriteString(",")
				fallthrough
			case asJSON:
				fmt.Fprintf(&b, `
  "flag-%d": {
    "state": "ENABLED",
    "variants": {"on": true, "off": false},
    "defaultVariant": "off",
    "targeting": {
      "if": [
        {"in": [{"var": "tier"}, ["paid", "trial"]]},
        {"fractional": [["on", 25], ["off", 75]]},
        "off"
      ]
    },
    "metadata": {"team": "core"}
  }`, i)
			default:
				fmt.Fprintf(&b, `  flag-%d:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting:
      if:
        - in: [{var: tier}, [paid, trial]]
        - fractional:
            - ["on", 25]
            - ["off", 75]
        - "off"
    metadata: {team: core}
`, i)
			}
		}
		name := fmt.Sprintf("flags/set-%05d.yaml", from)
		if asJSON {
			b.WriteString("\n}}\n")
			name = strings.TrimSuffix(name, ".yaml") + ".json"
		}
		fsys[name] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return fsys
}

func BenchmarkLoad(b *testing.B) {
	for _, form := range []string{"yaml", "json"} {
		fsys := manyFlags(10_000, form == "json")
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if t := Load(nil, fsys); t.Invalid || len(t.Flags) != 10_000 {
					b.Fatalf("%d flags, %v", len(t.Flags), t.Faults)
				}
			}
		})
	}
}

// BenchmarkLoadAndCompile measures a repository of 10,000 flags from its files to compiled rules (goal: 500 ms, 100
// MB).
func BenchmarkLoadAndCompile(b *testing.B) {
	fsys := manyFlags(10_000, false)
	b.ReportAllocs()
	for b.Loop() {
		t := Load(nil, fsys)
		bundle := flags.Bundle{Version: 1, Channel: "staging", Flags: make(map[string]json.RawMessage, len(t.Flags))}
		for key, d := range t.Flags {
			bundle.Flags[key] = d.Encode()
		}
		if _, err := flags.Compile(&bundle); err != nil {
			b.Fatal(err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/1e6, "MB-from-system")
}
