// Package oracle evaluates flags with flagd/core, so that tests can compare package flags with it.
//
// It is a module of its own, to keep flagd's dependencies out of the main module.
package oracle

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"go.uber.org/zap"

	"github.com/sluice-cd/sluice/flags"
)

const source = "oracle"

// Flag is one flag as flagd reads it.
type Flag struct {
	State          string          `json:"state"`
	Variants       map[string]any  `json:"variants"`
	DefaultVariant any             `json:"defaultVariant,omitempty"`
	Targeting      json.RawMessage `json:"targeting,omitempty"`
	Metadata       map[string]any  `json:"metadata,omitempty"`
}

// Definition converts the flag for package flags.
func (f Flag) Definition(key string) *flags.Definition {
	fallback, _ := f.DefaultVariant.(string)
	return &flags.Definition{
		Key: key, Disabled: f.State == evaluator.Disabled, Variants: f.Variants, DefaultVariant: fallback,
		Targeting: f.Targeting, Metadata: f.Metadata,
	}
}

// Flagd is flagd's evaluator with some flags.
type Flagd struct{ *evaluator.JSON }

// New returns flagd's evaluator with flags that flagd parsed itself.
func New(set map[string]Flag) (Flagd, error) {
	log := logger.NewLogger(zap.NewNop(), false)
	flagStore, err := store.NewStore(log, []string{source})
	if err != nil {
		return Flagd{}, fmt.Errorf("make flagd's store: %w", err)
	}
	text, err := json.Marshal(map[string]any{"flags": set})
	if err != nil {
		return Flagd{}, fmt.Errorf("encode flags: %w", err)
	}
	f := Flagd{evaluator.NewJSON(log, flagStore)}
	if err := f.SetState(sync.DataSync{FlagData: string(text), Source: source}); err != nil {
		return Flagd{}, fmt.Errorf("give flagd flags: %w", err)
	}
	return f, nil
}

// Answer is the comparable part of a result.
type Answer struct {
	Value           any
	Variant, Reason string
	Error           string
	Metadata        map[string]any
}

// Evaluate returns flagd's answer.
func (f Flagd) Evaluate(key string, caller map[string]any) Answer {
	v := f.ResolveAsAnyValue(context.Background(), "", key, caller)
	a := Answer{Value: v.Value, Variant: v.Variant, Reason: v.Reason, Metadata: v.Metadata}
	if a.Reason == "FALLBACK" { // flagd's internal word; its services answer DEFAULT
		a.Reason = "DEFAULT"
	}
	if v.Error != nil {
		a.Error = v.Error.Error()
	}
	return a
}

// AnswerOf converts a result of package flags.
func AnswerOf(r flags.Result) Answer {
	return Answer{
		Value: r.Value, Variant: r.Variant, Reason: string(r.Reason), Error: string(r.Error), Metadata: r.Metadata,
	}
}
