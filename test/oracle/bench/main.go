// Command bench measures flagd/core and package flags side by side: one JSON line each, {"name","by","nanoseconds","allocations"}.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/test/oracle"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// Row is one measurement, of one evaluation, or of one of 50 flags.
type Row struct {
	Name        string  `json:"name"`
	By          string  `json:"by"` // flagd or ours
	Nanoseconds float64 `json:"nanoseconds"`
	Allocations int64   `json:"allocations"`
}

func run() error {
	set := flagSet()
	flagd, err := oracle.New(set)
	if err != nil {
		return err
	}
	ours := make(map[string]func(flags.Context, map[string]any, int64) flags.Result, len(set))
	for key, f := range set {
		if ours[key], err = f.Definition(key).Evaluator(); err != nil {
			return err
		}
	}
	caller := map[string]any{"targetingKey": "user-4711", "email": "jo@example.com", "version": "1.4.2", "groups": []any{"staff", "beta"}}
	facts := map[string]any{"cell": "acme", "channel": "dedicated", "release": "2026.11.3", "region": nil, "labels": map[string]any{"tier": "gold", "zone": "a"}}
	at := time.Now().Unix()

	enc := json.NewEncoder(os.Stdout)
	for _, name := range []string{"boolean", "fractional", "bulk of 50"} {
		keys := []string{name}
		if name == "bulk of 50" {
			keys = bulk()
		}
		for _, key := range keys {
			if a, b := flagd.Ask(key, caller), oracle.Ours(ours[key](caller, nil, at)); a.Variant != b.Variant || a.Error != "" {
				return fmt.Errorf("%s: flagd gives %+v, ours %+v", key, a, b)
			}
		}
		theirs := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				for _, key := range keys {
					flagd.Ask(key, caller)
				}
			}
		})
		mine := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				for _, key := range keys {
					ours[key](caller, facts, at)
				}
			}
		})
		for _, row := range []Row{row(name, "flagd", theirs), row(name, "ours", mine)} {
			if err := enc.Encode(row); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
	return nil
}

func row(name, by string, r testing.BenchmarkResult) Row {
	return Row{Name: name, By: by, Nanoseconds: float64(r.T.Nanoseconds()) / float64(r.N), Allocations: r.AllocsPerOp()}
}

func flagSet() map[string]oracle.Flag {
	rules := []string{
		`{"if":[{"ends_with":[{"var":"email"},"@example.com"]},"on","off"]}`,
		`{"fractional":[["on",25],["off",75]]}`,
		`{"if":[{"sem_ver":[{"var":"version"},">=","1.4.0"]},"on","off"]}`,
		`{"if":[{"in":["beta",{"var":"groups"}]},"on",{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["on",10],["off",90]]}]}`,
		``,
	}
	flag := func(rule string) oracle.Flag {
		return oracle.Flag{
			State: "ENABLED", Variants: map[string]any{"on": true, "off": false}, DefaultVariant: "off",
			Targeting: json.RawMessage(rule), Metadata: map[string]any{"feature": "workspace-classes"},
		}
	}
	set := map[string]oracle.Flag{"boolean": flag(rules[0]), "fractional": flag(rules[1])}
	for i, key := range bulk() {
		set[key] = flag(rules[i%len(rules)])
	}
	return set
}

func bulk() (keys []string) {
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("flag-%d", i))
	}
	return keys
}
