package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/provider"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/oracle"
)

// Keys of the measured flags.
const (
	booleanFlag    = "boolean"
	fractionalFlag = "fractional"
)

func caller() map[string]any {
	return map[string]any{
		"targetingKey": "user-4711", "email": "jo@example.com", "version": "1.4.2", "groups": []any{"staff", "beta"},
	}
}

// flagSet returns the two flags and fifty others.
func flagSet() map[string]oracle.Flag {
	rules := []string{
		`{"if":[{"ends_with":[{"var":"email"},"@example.com"]},"on","off"]}`,
		`{"fractional":[["on",25],["off",75]]}`,
		`{"if":[{"sem_ver":[{"var":"version"},">=","1.4.0"]},"on","off"]}`,
		`{"if":[{"in":["beta",{"var":"groups"}]},"on",{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["on",10],["off",90]]}]}`,
		``,
	}
	one := func(rule string) oracle.Flag {
		return oracle.Flag{
			State: "ENABLED", Variants: map[string]any{"on": true, "off": false}, DefaultVariant: "off",
			Targeting: json.RawMessage(rule),
		}
	}
	set := map[string]oracle.Flag{booleanFlag: one(rules[0]), fractionalFlag: one(rules[1])}
	for i, key := range bulkKeys() {
		set[key] = one(rules[i%len(rules)])
	}
	return set
}

func bulkKeys() (keys []string) {
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("flag-%d", i))
	}
	return keys
}

// foldFlags returns flags as a cell has them, of the given keys; none: all.
func foldFlags(keys ...string) (*flags.Folded, error) {
	b := flags.Bundle{Version: flags.BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{}}
	set := flagSet()
	if len(keys) == 0 {
		for key := range set {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		b.Flags[key] = set[key].Definition(key).Encode()
	}
	c, err := flags.Compile(&b)
	if err != nil {
		return nil, err
	}
	facts := flags.Facts{
		Cell: "acme", Channel: "dedicated", Release: "2026.11.3", Labels: map[string]string{"tier": "gold"},
	}
	return c.Fold(flags.Orders{}, facts, time.Now().Unix()), nil
}

// fixedSource is a source that never changes.
type fixedSource struct{ folded *flags.Folded }

func (s fixedSource) Current() (*flags.Folded, int64) { return s.folded, time.Now().Unix() }
func (s fixedSource) Changed() <-chan struct{}        { return nil }

// constant is the simplest possible provider.
type constant struct{ openfeature.NoopProvider }

func (constant) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "constant"} }

func (constant) BooleanEvaluation(
	context.Context, string, bool, openfeature.FlattenedContext,
) openfeature.BoolResolutionDetail {
	return openfeature.BoolResolutionDetail{
		Value:                    true,
		ProviderResolutionDetail: openfeature.ProviderResolutionDetail{Reason: openfeature.StaticReason, Variant: "on"},
	}
}

// measureClients compares evaluations through OpenFeature's client with a constant provider.
func measureClients(ctx context.Context) ([]figures.Row, error) {
	f, err := foldFlags()
	if err != nil {
		return nil, err
	}
	for name, p := range map[string]openfeature.FeatureProvider{"constant": constant{},
		"ours": provider.New(fixedSource{f})} {
		if err := openfeature.SetNamedProviderWithContextAndWait(ctx, name, p); err != nil {
			return nil, err
		}
	}
	bare, ours := openfeature.NewClient("constant"), openfeature.NewClient("ours")
	attributes := caller()
	delete(attributes, "targetingKey")
	who := openfeature.NewEvaluationContext("user-4711", attributes)
	ask := func(c *openfeature.Client, flag string) func() {
		return func() { _, _ = c.BooleanValue(ctx, flag, false, who) }
	}
	if on, err := ours.BooleanValue(ctx, booleanFlag, false, who); err != nil || !on {
		return nil, fmt.Errorf("%s is %v, %w", booleanFlag, on, err)
	}
	costs, err := compareCosts(ctx, ask(bare, booleanFlag), ask(ours, booleanFlag), ask(ours, fractionalFlag))
	if err != nil {
		return nil, err
	}
	var rows []figures.Row
	for i, what := range []string{"a boolean with a rule", "a fractional"} {
		c := costs[i+1]
		rows = append(rows,
			figures.TimeRow(what+" through OpenFeature's client", c.time, "constant", costs[0].time, 1.3),
			figures.Row{
				What: "  allocations beyond the client's own", Got: fmt.Sprint(c.allocs - costs[0].allocs),
				Base:  fmt.Sprintf("constant %d, limit 5", costs[0].allocs),
				Ratio: float64(c.allocs - costs[0].allocs), Limit: 5,
			})
	}
	return rows, nil
}

// measureEvaluation compares evaluations with flagd/core's.
func measureEvaluation(ctx context.Context) ([]figures.Row, error) {
	flagd, err := oracle.New(flagSet())
	if err != nil {
		return nil, err
	}
	f, err := foldFlags()
	if err != nil {
		return nil, err
	}
	who, at := caller(), time.Now().Unix()
	for _, key := range append(bulkKeys(), booleanFlag, fractionalFlag) {
		if a, b := flagd.Evaluate(key, who), oracle.AnswerOf(f.Evaluate(key, who, at)); a.Variant != b.Variant ||
			a.Error != "" || b.Error != "" {
			return nil, fmt.Errorf("%s: flagd gives %+v, ours %+v", key, a, b)
		}
	}
	var rows []figures.Row
	for key, what := range map[string]string{booleanFlag: "a boolean with a rule, evaluated",
		fractionalFlag: "a fractional, evaluated"} {
		costs, err := compareCosts(ctx, func() { flagd.ResolveAsAnyValue(ctx, "", key, who) }, func() {
			f.Evaluate(key, who, at)
		})
		if err != nil {
			return nil, err
		}
		theirs, ours := costs[0], costs[1]
		row := figures.RateRow(what, perSecond(ours.time), "flagd/core", perSecond(theirs.time), 8)
		row.Got, row.Base = figures.Time(ours.time), fmt.Sprintf("flagd/core %s", figures.Time(theirs.time))
		rows = append(rows, row,
			figures.NoteRow("  allocations", fmt.Sprint(ours.allocs), fmt.Sprintf("flagd/core %d", theirs.allocs)))
	}
	return rows, nil
}

func perSecond(d time.Duration) float64 { return float64(time.Second) / float64(max(d, 1)) }
